"""One question to a service of the operator's that speaks JSON over HTTP: moderation, the judge of pictures.

The address is the operator's word, so it may be inside the network. No redirects, no proxy.
"""

import json
from functools import cache
from typing import Any, Final

import httpx

_MAX_BYTES: Final = 200_000


class Unavailable(Exception):
    """It did not give an answer that makes sense. Ask again later."""


def ask(url: str, body: dict[str, Any], *, api_key: str, timeout_s: float) -> Any:
    """The answer to `POST url`, any JSON. Raises Unavailable."""
    headers = {"content-type": "application/json"}
    if api_key:
        headers["authorization"] = f"Bearer {api_key}"
    content = json.dumps(body).encode()
    try:
        with _client().stream("POST", url, headers=headers, content=content, timeout=timeout_s) as response:
            answer = _read(response)
        if response.status_code != 200:
            raise Unavailable(f"HTTP {response.status_code}")
        return json.loads(answer)
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        raise Unavailable(type(error).__name__) from error
    except (ValueError, RecursionError) as error:
        raise Unavailable("an answer that makes no sense") from error


def close() -> None:
    """For tests: connections to a server that ends are not kept."""
    _client().close()
    _client.cache_clear()


def _read(response: httpx.Response) -> bytes:
    body = bytearray()
    for piece in response.iter_raw():
        body += piece
        if len(body) > _MAX_BYTES:
            raise Unavailable("an answer that is too long")
    return bytes(body)


@cache
def _client() -> httpx.Client:
    return httpx.Client(trust_env=False, headers={"accept-encoding": "identity"})
