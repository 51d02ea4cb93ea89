"""What must not leak: after a job's whole journey neither Redis nor any log holds its prompt, a key or an e-mail."""

import base64
import json
import re
import uuid
from collections.abc import Iterator
from typing import Any

import redis

from tests.chaos.crowd import Crowd
from tests.fakes.receiver import Receiver
from tests.stack import Stack

EMAIL = "canary.of.the.mine@example.org"


def test_neither_redis_nor_the_logs_hold_prompts_keys_or_emails(stack: Stack) -> None:
    canary = f"canary{uuid.uuid4().hex}"
    stack.sql("UPDATE accounts_user SET email = %s WHERE username = 'pro'", EMAIL)
    with Receiver() as customer:
        bodies: list[dict[str, Any]] = [
            {"prompt": f"a {canary} in the snow", "callback_url": customer.url},
            {"prompt": f"[fault:nsfw] a {canary}"},
            {"prompt": f"[fault:500*1] [fault:failed*1] a {canary}", "metadata": {"note": canary}},
            {"prompt": f"[fault:accept-reset] a {canary}"},
        ]
        crowd = Crowd.of(stack, [submit(stack, body) for body in bodies])
        # While they run there is something in the broker to look at.
        found = {secret: hits for secret in (canary, stack.key(), EMAIL) if (hits := places(stack, secret))}
        crowd.end(within_s=60)
        customer.wait_for(1)
    refused = stack.client().post("/v1/jobs", json={"type": "image", "prompt": canary, canary: 1})
    assert refused.status_code == 422
    for secret in (canary, stack.key(), stack.environ["WAVESPEED_API_KEY"], EMAIL):
        found |= {secret: hits} if (hits := places(stack, secret)) else {}
    assert found == {}


def test_the_search_finds_what_is_there(stack: Stack) -> None:
    """Lest the test above look in the wrong places."""
    message = json.dumps({"body": base64.b64encode(b"a needle").decode()})
    stack.redis.rpush("haystack", message)
    assert places(stack, "a needle") == ["redis 0 haystack"]
    stack.redis.delete("haystack")
    assert {place for place in places(stack, "celery.worker") if place.startswith("log")} >= {
        "log io",
        "log cpu",
    }


def submit(stack: Stack, body: dict[str, Any]) -> str:
    small = {"type": "image", "model": "fast-draft", "params": {"width": 64, "height": 64}}
    answer = stack.client().post("/v1/jobs", json={**small, **body})
    assert answer.status_code == 202, answer.text
    return str(answer.json()["id"])


def places(stack: Stack, secret: str) -> list[str]:
    """Where `secret` stands: in which key of Redis, in which process's log."""
    logs = [f"log {name}" for name in stack.supervisor.watched if secret in stack.log(name)]
    return [f"redis {where}" for where, content in redis_content(stack) if secret.encode() in content] + logs


def redis_content(stack: Stack) -> Iterator[tuple[str, bytes]]:
    """Every key of every database, with all that it holds in Redis' own serialisation, made readable."""
    for number in range(2):
        with redis.Redis.from_url(f"{stack.environ['REDIS_URL']}/{number}") as database:
            for key in database.scan_iter():
                yield f"{number} {key.decode()}", key + _value(database, key)


def _value(database: "redis.Redis", key: bytes) -> bytes:
    parts: Any
    match database.type(key):
        case b"string":
            parts = [database.get(key) or b""]
        case b"list":
            parts = database.lrange(key, 0, -1)
        case b"set":
            parts = database.smembers(key)
        case b"zset":
            parts = database.zrange(key, 0, -1)
        case b"hash":
            parts = [part for pair in dict(database.hgetall(key)).items() for part in pair]
        case b"none":
            parts = []  # taken meanwhile
        case kind:
            raise AssertionError(f"a kind of key nobody thought of: {kind!r}")
    return _readable(b"\0".join(parts))


def _readable(content: bytes) -> bytes:
    """The content, followed by what its messages' base64 bodies say."""
    bodies = re.findall(rb'"body": "([A-Za-z0-9+/=]+)"', content)
    return content + b"\0".join(base64.b64decode(body) for body in bodies)
