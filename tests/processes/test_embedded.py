"""The embedded servers: start, reuse, recover."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg
import pytest
import redis

from genplatform.stack import child, embedded


@contextmanager
def _running(*servers: embedded.Server) -> Iterator[None]:
    try:
        yield
    finally:
        for server in servers:
            server.stop()


@pytest.fixture(autouse=True)
def _own_ports(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PGPORT", raising=False)
    monkeypatch.delenv("REDIS_PORT", raising=False)


def test_postgres_has_pgvector_and_uuidv7(tmp_path: Path) -> None:
    server = embedded.postgres(tmp_path, durable=False)
    with _running(server), psycopg.connect(server.url) as connection:
        connection.execute("CREATE EXTENSION vector")
        row = connection.execute("SELECT '[1,2]'::vector <-> '[1,3]'::vector, uuidv7()").fetchone()
        assert row is not None
        assert row[0] == 1


def test_durable_servers_refuse_a_client_without_the_password(tmp_path: Path) -> None:
    database, cache = embedded.postgres(tmp_path), embedded.redis(tmp_path)
    with _running(database, cache):
        with pytest.raises(psycopg.OperationalError):
            psycopg.connect(_without_password(database.url))
        with (
            redis.Redis.from_url(_without_password(cache.url)) as client,
            pytest.raises(redis.AuthenticationError),
        ):
            client.ping()
    secrets = [tmp_path / "servers.password", tmp_path / "redis" / "redis.conf"]
    assert [file.stat().st_mode & 0o777 for file in secrets] == [0o600, 0o600]


def test_a_second_start_reuses_the_running_servers_and_leaves_them_running(tmp_path: Path) -> None:
    first = embedded.postgres(tmp_path, durable=False), embedded.redis(tmp_path, durable=False)
    with _running(*first):
        second = embedded.postgres(tmp_path, durable=False), embedded.redis(tmp_path, durable=False)
        assert [server.url for server in second] == [server.url for server in first]
        for server in second:
            server.stop()
        psycopg.connect(first[0].url).close()
        with redis.Redis.from_url(first[1].url) as client:
            assert client.ping()


def test_both_recover_what_was_acknowledged_before_kill_9(tmp_path: Path) -> None:
    database, cache = embedded.postgres(tmp_path), embedded.redis(tmp_path)
    with _running(database, cache):
        with psycopg.connect(database.url) as connection:
            connection.execute("CREATE TABLE kept AS SELECT 42 AS value")
        with redis.Redis.from_url(cache.url) as client:
            client.set("kept", "42")
        for server in (database, cache):
            assert server.process
            child.kill(server.process)
    database, cache = embedded.postgres(tmp_path), embedded.redis(tmp_path)
    with _running(database, cache):
        with psycopg.connect(database.url) as connection:
            assert connection.execute("SELECT value FROM kept").fetchone() == (42,)
        with redis.Redis.from_url(cache.url) as client:
            assert client.get("kept") == b"42"


def test_postgres_starts_over_a_pid_file_whose_number_belongs_to_somebody_else(tmp_path: Path) -> None:
    server = embedded.postgres(tmp_path, durable=False)
    pid_file = tmp_path / "postgres" / "postmaster.pid"
    _, *rest = pid_file.read_text().splitlines()
    server.stop()
    pid_file.write_text("\n".join([str(os.getppid()), *rest]))
    again = embedded.postgres(tmp_path, durable=False)
    with _running(again):
        psycopg.connect(again.url).close()


def test_a_port_taken_by_a_stranger_is_not_waited_for(tmp_path: Path) -> None:
    first = embedded.redis(tmp_path / "one", durable=False)
    with _running(first):
        (tmp_path / "two").mkdir()
        (tmp_path / "two" / "ports.json").write_text((tmp_path / "one" / "ports.json").read_text())
        stranger = embedded.redis(tmp_path / "two", durable=True)
        with _running(stranger):
            assert stranger.url.rsplit(":", 1) != first.url.rsplit(":", 1)


def test_a_normal_user_needs_no_prefix(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    embedded.unprivileged_prefix.cache_clear()
    assert embedded.unprivileged_prefix() == ()
    embedded.unprivileged_prefix.cache_clear()


def _without_password(url: str) -> str:
    scheme, rest = url.split("://")
    login, host = rest.split("@")
    user = login.split(":")[0]
    return f"{scheme}://{user}@{host}" if user else f"{scheme}://{host}"
