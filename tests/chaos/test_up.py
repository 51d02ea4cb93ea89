"""`make up` as a user has it: Ctrl-C leaves nothing behind but the data, and those are there the next time."""

import fcntl
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from genplatform.stack import envfile, ports
from tests.fakes.simulator import wait_until

pytestmark = [pytest.mark.long, pytest.mark.timeout(400)]

START_S, STOP_S = 120, 40
BODY = {"type": "image", "prompt": "a fox", "model": "fast-draft", "params": {"width": 64, "height": 64}}


@contextmanager
def up(run: Path) -> Iterator["subprocess.Popen[bytes]"]:
    """`manage.py up`, ready; ended by Ctrl-C, and by force if a test fails."""
    own = (
        "DATABASE_URL",
        "REDIS_URL",
        "BROKER_URL",
        "CACHE_REDIS_URL",
        "ARTIFACT_STORAGE_OPTIONS",
        "PUBLIC_URL",
        "WAVESPEED_API_KEY",
        "WAVESPEED_BASE_URL",
    )
    free = {name: str(ports.free()) for name in ("WEB_PORT", "FLOWER_PORT", "SIMULATOR_PORT")}
    environ = {name: value for name, value in os.environ.items() if name not in own}
    environ |= {**free, "RUN_DIR": str(run), "WEB_WORKERS": "1", "CPU_PROCESSES": "1"}
    said = run / "said.log"
    run.mkdir(exist_ok=True)
    with said.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "manage.py", "up"], env=environ, stdout=output, stderr=output, process_group=0
        )
    try:
        wait_until(lambda: process.poll() is not None or b"is up" in said.read_bytes(), timeout_s=START_S)
        assert process.poll() is None, said.read_text()
        yield process
        process.send_signal(signal.SIGINT)
        assert process.wait(STOP_S) == 0, said.read_text()
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def left_behind(run: Path) -> list[str]:
    """The processes of the stack that still run."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if str(run).encode() in (process / "environ").read_bytes() + (process / "cmdline").read_bytes():
                found.append((process / "cmdline").read_text().replace("\0", " "))
        except (FileNotFoundError, ProcessLookupError, PermissionError):
            continue
    return found


def client(run: Path) -> httpx.Client:
    access = envfile.read(run / "demo.env")
    headers = {"Authorization": f"Bearer {access['GENPLATFORM_KEY']}"}
    return httpx.Client(base_url=access["GENPLATFORM_URL"], headers=headers, timeout=40)


def test_ctrl_c_leaves_no_process_and_no_lock_and_the_next_start_finds_all_data(tmp_path: Path) -> None:
    run = tmp_path / "run"
    with up(run), client(run) as api:
        job = api.post("/v1/jobs", json=BODY).raise_for_status().json()
        job = api.get(job["urls"]["self"], params={"wait": 30}).raise_for_status().json()
        assert job["status"] == "completed", job
        budget, keys = api.get("/v1/budget").json(), envfile.read(run / "demo.env")["GENPLATFORM_KEY"]
        assert len(left_behind(run)) >= 8
    assert left_behind(run) == []
    with (run / "lock").open("a+") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)

    with up(run), client(run) as api:
        assert envfile.read(run / "demo.env")["GENPLATFORM_KEY"] == keys
        again = api.get(job["urls"]["self"]).raise_for_status().json()
        assert (again["status"], again["outputs"][0]["sha256"]) == ("completed", job["outputs"][0]["sha256"])
        assert api.get("/v1/budget").json() == budget
        assert api.post("/v1/jobs", json=BODY).json()["cached"] is True
        content = api.get(again["outputs"][0]["url"].partition(api.base_url.netloc.decode())[2])
        assert content.raise_for_status().content
    assert left_behind(run) == []


def test_a_second_stack_in_the_same_place_is_refused(tmp_path: Path) -> None:
    run = tmp_path / "run"
    with up(run):
        refused = subprocess.run(
            [sys.executable, "manage.py", "up"],
            env={**os.environ, "RUN_DIR": str(run)},
            capture_output=True,
            text=True,
            check=False,
        )
        assert refused.returncode != 0
        assert "running already" in refused.stderr
    assert left_behind(run) == []
