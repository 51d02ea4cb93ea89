"""The provider simulator as a real process on a free port, for tests of any room.

A conftest imports the fixtures it wants: `from tests.fakes.simulator import simulator, simulator_process`.
"""

import os
import socket
import ssl
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

_ROOT = Path(__file__).resolve().parents[2]
_START_S = 15.0


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Simulator:
    """One running simulator: where it is, what it accepts, and its side door for tests."""

    api_key = "sim-test-key"
    webhook_secret = "whsec_dGVzdC1zZWNyZXQh"

    def __init__(
        self,
        *,
        time_scale: float = 0.01,
        ledger: Path | None = None,
        port: int | None = None,
        tls: tuple[Path, Path] | None = None,
    ) -> None:
        """`tls`: PEM files of a certificate for 127.0.0.1, which signs itself, and of its key."""
        self.port = port or free_port()
        self.base_url = f"{'https' if tls else 'http'}://127.0.0.1:{self.port}"
        self.time_scale = time_scale
        self._ledger, self._tls = ledger, tls
        trusted = ssl.create_default_context(cafile=str(tls[0])) if tls else True
        self._client = httpx.Client(base_url=self.base_url, timeout=10, trust_env=False, verify=trusted)
        self.process = self._start()

    @property
    def provider_settings(self) -> dict[str, str]:
        """What `settings.PROVIDERS["wavespeed"]` must be to reach this simulator."""
        return {"base_url": self.base_url, "api_key": self.api_key, "webhook_secret": self.webhook_secret}

    def faults(self, fault: str, *, times: int | None = None, match: str = "") -> None:
        """Injects e.g. `"429=2"` into submits whose prompt or model contains `match`."""
        self._post("/admin/faults", {"fault": fault, "times": times, "match": match})

    def clear_faults(self) -> None:
        self._client.delete("/admin/faults").raise_for_status()

    def settings(self, **knobs: Any) -> dict[str, Any]:
        return self._post("/admin/settings", knobs)

    def reset(self) -> None:
        self._post("/admin/reset", {})

    def ledger(
        self, task_id: str | None = None, since: float = 0, protocol: str | None = None
    ) -> dict[str, list[dict[str, Any]]]:
        """`{submits, tasks, charges, webhooks}`, each a list of rows in the order written."""
        only = {"task_id": task_id, "protocol": protocol}
        params = {"since": str(since), **{name: value for name, value in only.items() if value}}
        answer: dict[str, list[dict[str, Any]]] = (
            self._client.get("/admin/ledger", params=params).raise_for_status().json()
        )
        return answer

    def summary(self, protocol: str | None = None) -> dict[str, Any]:
        """Totals, of one protocol or of all."""
        params = {"protocol": protocol} if protocol else {}
        answer: dict[str, Any] = self._client.get("/admin/summary", params=params).raise_for_status().json()
        return answer

    def stop(self) -> int:
        """Ends it with SIGTERM and returns the exit code."""
        self.process.terminate()
        self._client.close()
        try:
            return self.process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            raise

    def kill(self) -> None:
        """As a crash would end it."""
        self.process.kill()
        self.process.wait()
        self._client.close()

    def _post(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        answer: dict[str, Any] = self._client.post(path, json=body).raise_for_status().json()
        return answer

    def _start(self) -> "subprocess.Popen[bytes]":
        arguments = ["--port", str(self.port), "--time-scale", str(self.time_scale), "--seed", "1"]
        if self._ledger:
            arguments += ["--ledger", str(self._ledger)]
        if self._tls:
            arguments += ["--tls-cert", str(self._tls[0]), "--tls-key", str(self._tls[1])]
        process = subprocess.Popen(
            [sys.executable, "-m", "apps.simulator", *arguments],
            cwd=_ROOT,
            env={
                **os.environ,
                "SIMULATOR_API_KEY": self.api_key,
                "SIMULATOR_WEBHOOK_SECRET": self.webhook_secret,
            },
        )
        try:
            wait_until(lambda: self._is_up(process), timeout_s=_START_S)
        except BaseException:
            process.kill()
            process.wait()
            raise
        return process

    def _is_up(self, process: "subprocess.Popen[bytes]") -> bool:
        if process.poll() is not None:
            raise RuntimeError(f"the simulator ended with {process.returncode} while starting")
        try:
            return self._client.get("/healthz").status_code == 200
        except httpx.TransportError:
            return False


def wait_until(condition: Callable[[], Any], *, timeout_s: float = 5.0) -> Any:
    """The condition's first true value. Raises TimeoutError if there is none in time."""
    deadline = time.monotonic() + timeout_s
    while True:
        if found := condition():
            return found
        if time.monotonic() > deadline:
            raise TimeoutError(f"not within {timeout_s} s")
        time.sleep(0.01)


@pytest.fixture(scope="session")
def simulator_process() -> Iterator[Simulator]:
    running = Simulator()
    yield running
    running.stop()


@pytest.fixture
def simulator(simulator_process: Simulator) -> Simulator:
    """Reset: no faults, starting knobs (time scale 0.01), an empty ledger."""
    simulator_process.reset()
    return simulator_process
