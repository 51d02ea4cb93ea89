"""The whole platform on this machine: servers, secrets, preparation, processes. `make up` and `make demo`."""

import base64
import fcntl
import os
import secrets
import signal
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from genplatform.stack import child, embedded, envfile, ports, processes
from genplatform.stack.supervisor import Say, Supervisor

_READY_TIMEOUT_S = 90


class Failed(Exception):
    """The stack cannot run. The message says why, with the tail of the log that knows more."""


@dataclass(frozen=True)
class Stack:
    """A running stack: its processes' environment, what `demo.env` says, and who watches it."""

    environ: Mapping[str, str]
    access: Mapping[str, str]
    supervisor: Supervisor


def run_directory() -> Path:
    """Where everything that a stack keeps lies: RUN_DIR, else `.run` here."""
    return Path(os.environ.get("RUN_DIR") or ".run").absolute()


@contextmanager
def running(run: Path, *, say: Say) -> Iterator[Stack]:
    """Starts everything under `run`, yields when all of it is ready, and stops all of it at the end.

    SIGTERM and SIGHUP end the block like Ctrl-C (KeyboardInterrupt). Raises Failed, NotStarted or NotReady.
    """
    run.mkdir(parents=True, exist_ok=True)
    with ExitStack() as cleanup:
        cleanup.enter_context(_only_one(run))
        cleanup.enter_context(_signals_as_interrupt())
        environ = environment(run, os.environ)
        _start_servers(run, environ, cleanup, say)
        _prepare(run, environ, say)
        supervisor = Supervisor(_wanted(environ, os.environ), environ=environ, logs=run / "logs", say=say)
        cleanup.callback(supervisor.stop)
        say("stack", "starting " + ", ".join(supervisor.watched))
        supervisor.start()
        supervisor.wait_ready(_READY_TIMEOUT_S)
        try:
            yield Stack(environ, _complete_demo_env(run, environ), supervisor)
        finally:
            say("stack", "stopping")
            _ignore_signals()


@contextmanager
def _only_one(run: Path) -> Iterator[None]:
    """Holds the lock file; the kernel releases it however we end. Raises Failed when somebody else has it."""
    with (run / "lock").open("a+") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            lock.seek(0)
            raise Failed(
                f"a stack is running already (process {lock.read().strip()}); stop it first"
            ) from None
        lock.truncate(0)
        lock.write(str(os.getpid()))
        lock.flush()
        yield
        lock.truncate(0)


@contextmanager
def _signals_as_interrupt() -> Iterator[None]:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    ours = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    before = {number: signal.signal(number, interrupt) for number in ours}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _ignore_signals() -> None:
    """A second Ctrl-C must not interrupt the clean-up; it is bounded anyway."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)


def environment(run: Path, given: Mapping[str, str]) -> dict[str, str]:
    """What the processes see: what the caller's environment says, completed for development."""
    web, flower = (
        ports.choose(run, "WEB_PORT", preferred=8000, given=given),
        ports.choose(run, "FLOWER_PORT", preferred=5555, given=given),
    )
    made = _credentials(run)
    ours = {name: value for name, value in made.items() if not name.startswith(tuple(processes.SIMULATED))}
    defaults = {
        **ours,
        "DEBUG": "1",
        "RUN_DIR": str(run),
        "WEB_PORT": str(web),
        "FLOWER_PORT": str(flower),
        "PUBLIC_URL": f"http://127.0.0.1:{web}",
        "METRICS_DIR": f"{run}/metrics",
        "ARTIFACT_STORAGE_OPTIONS": f'{{"location": "{run}/artifacts"}}',
        "ADMIN_USER": "admin",
        "FLOWER_USER": "admin",
        "FLOWER_BASIC_AUTH": f"admin:{made['FLOWER_PASSWORD']}",
    }
    if _simulated(given):
        simulator = ports.choose(run, "SIMULATOR_PORT", preferred=8900, given=given)
        defaults |= {
            **made,
            "SIMULATOR_PORT": str(simulator),
            "SIMULATOR_LEDGER": str(run / "simulator.sqlite3"),
            **_addresses(f"http://127.0.0.1:{simulator}"),
            # One simulator, one secret.
            "REPLICATE_WEBHOOK_SECRET": given.get(
                "WAVESPEED_WEBHOOK_SECRET", made["WAVESPEED_WEBHOOK_SECRET"]
            ),
        }
    return {**defaults, **given}


def _addresses(simulator: str) -> dict[str, str]:
    """Where each provider is simulated."""
    return {
        **{f"{provider}_BASE_URL": simulator + path for provider, path in processes.SIMULATED.items()},
        "FAL_JWKS_URL": f"{simulator}/fal-rest/.well-known/jwks.json",
    }


def _simulated(given: Mapping[str, str]) -> bool:
    """Whether to buy from the simulator: unless the caller brings a key for the first of the real providers.

    A key of another that happens to be in a developer's environment must not make `make demo` spend money: it
    is then sent to the simulator alone.
    """
    return "WAVESPEED_API_KEY" not in given


def _wanted(environ: Mapping[str, str], given: Mapping[str, str]) -> list[processes.Process]:
    everything = processes.listed(environ)
    return [each for each in everything if each.name != "simulator" or _simulated(given)]


def _credentials(run: Path) -> dict[str, str]:
    """Made once and kept, so that keys, links and logins of the last time still work."""
    made = {
        "SECRET_KEY": secrets.token_urlsafe(48),
        "API_KEY_PEPPER": secrets.token_urlsafe(48),
        "WEBHOOK_SIGNING_KEY": secrets.token_urlsafe(48),
        **{f"{provider}_API_KEY": secrets.token_hex(16) for provider in processes.SIMULATED},
        "WAVESPEED_WEBHOOK_SECRET": "whsec_" + base64.b64encode(secrets.token_bytes(32)).decode(),
        "ADMIN_PASSWORD": secrets.token_urlsafe(12),
        "FLOWER_PASSWORD": secrets.token_urlsafe(12),
    }
    file = run / "secrets.env"
    kept = {**made, **envfile.read(file)}
    envfile.write(file, kept)
    return kept


def _start_servers(run: Path, environ: dict[str, str], cleanup: ExitStack, say: Say) -> None:
    wanted: dict[str, Callable[[Path], embedded.Server]] = {
        "DATABASE_URL": embedded.postgres,
        "REDIS_URL": embedded.redis,
    }
    for name, start in wanted.items():
        if name not in environ:
            say("stack", f"starting {start.__name__}")
            server = start(run)
            cleanup.callback(server.stop)
            environ[name] = server.url


def _prepare(run: Path, environ: Mapping[str, str], say: Say) -> None:
    say("stack", "preparing the database")
    log = run / "logs" / "prepare.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, "manage.py", "prepare", "--demo-env", str(run / "demo.env")]
    with log.open("wb") as output:
        process = child.start(command, output=output, env=environ)
    try:
        code = process.wait()
    finally:
        child.kill(process)
    if code:
        raise Failed(f"manage.py prepare failed. {log} ends with:\n{child.tail(log)}")


def _complete_demo_env(run: Path, environ: Mapping[str, str]) -> dict[str, str]:
    """Adds to the keys that seed_demo wrote where everything is and how to log in."""
    url = f"http://127.0.0.1:{environ['WEB_PORT']}"
    access = {
        **envfile.read(run / "demo.env"),
        "GENPLATFORM_URL": url,
        "ADMIN_URL": f"{url}/admin/",
        "ADMIN_USER": environ["ADMIN_USER"],
        "ADMIN_PASSWORD": environ["ADMIN_PASSWORD"],
        "FLOWER_URL": f"http://127.0.0.1:{environ['FLOWER_PORT']}",
        "FLOWER_USER": environ["FLOWER_USER"],
        "FLOWER_PASSWORD": environ["FLOWER_PASSWORD"],
        "SIMULATOR_URL": environ["WAVESPEED_BASE_URL"] if "SIMULATOR_PORT" in environ else "",
        "DATABASE_URL": environ["DATABASE_URL"],
        "REDIS_URL": environ["REDIS_URL"],
    }
    envfile.write(run / "demo.env", access)
    return access
