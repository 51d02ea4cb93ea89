"""docker/compose.yaml runs the one list of processes."""

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from genplatform import settings
from genplatform.stack import envfile, processes

_DOCKER = Path(settings.BASE_DIR) / "docker"
_MONITORING = {"prometheus", "grafana", "otel"}
_SERVERS = {"postgres", "broker", "cache", "migrate"} | _MONITORING
_SERVICES: dict[str, dict[str, Any]] = yaml.safe_load((_DOCKER / "compose.yaml").read_text())["services"]


def test_services_are_the_process_list() -> None:
    ours = {name: service["command"] for name, service in _SERVICES.items() if name not in _SERVERS}
    listed = [process.name for process in processes.listed({})]
    assert ours == {name: ["python", "manage.py", "process", name] for name in listed}


def test_every_service_has_a_health_check_or_is_covered_by_the_image() -> None:
    without = {name for name, service in _SERVICES.items() if "healthcheck" not in service}
    assert without == {"web"}
    assert "HEALTHCHECK" in (_DOCKER / "Dockerfile").read_text()


def test_workers_can_be_scaled() -> None:
    for name in ("io", "batch", "cpu", "batch_cpu"):
        assert not {"container_name", "ports", "hostname", "network_mode"} & _SERVICES[name].keys()


def test_only_what_has_pages_is_published_and_on_loopback_only() -> None:
    published = {name: service["ports"] for name, service in _SERVICES.items() if "ports" in service}
    assert published.keys() == {"web", "flower", "prometheus", "grafana"}
    assert all(port.startswith("127.0.0.1:") for ports in published.values() for port in ports)


def test_what_watches_from_outside_runs_only_when_it_is_asked_for() -> None:
    profiles = {name: service.get("profiles") for name, service in _SERVICES.items()}
    assert {name for name, asked in profiles.items() if asked == ["monitoring"]} == _MONITORING
    for name in _MONITORING:
        for volume in _SERVICES[name]["volumes"]:
            source = volume.partition(":")[0]
            assert not source.startswith(".") or (_DOCKER / source).exists(), volume
    hosts = _SERVICES["web"]["environment"]["ALLOWED_HOSTS"]
    assert hosts.endswith(",web")  # by this name Prometheus asks


def test_the_broker_keeps_messages_and_is_not_the_cache() -> None:
    assert _SERVICES["broker"]["command"][1:3] == ["--appendonly", "yes"]
    assert "noeviction" in _SERVICES["broker"]["command"]
    for service in (_SERVICES[name] for name in ("web", "io", "batch", "cpu", "batch_cpu", "beat", "flower")):
        assert service["environment"]["BROKER_URL"] != service["environment"]["CACHE_REDIS_URL"]


def test_the_example_has_no_secret_and_names_what_settings_demand() -> None:
    example = envfile.read(_DOCKER / "env.example")
    demanded = {
        "SECRET_KEY",
        "API_KEY_PEPPER",
        "WEBHOOK_SIGNING_KEY",
        "POSTGRES_PASSWORD",
        "FLOWER_BASIC_AUTH",
    }
    assert {name for name in demanded if example[name] == ""} == demanded


def test_a_process_does_not_start_without_what_it_needs() -> None:
    """Flower without a password would let everybody in."""
    environ = {name: value for name, value in os.environ.items() if name != "FLOWER_BASIC_AUTH"}
    command = [sys.executable, "manage.py", "process", "flower"]
    done = subprocess.run(command, env=environ, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 1
    assert "flower needs FLOWER_BASIC_AUTH" in done.stderr


def _compose() -> bool:
    if (docker := shutil.which("docker")) is None:
        return False
    return subprocess.run([docker, "compose", "version"], capture_output=True, check=False).returncode == 0


@pytest.mark.skipif(not _compose(), reason="no docker client with compose here")
def test_docker_compose_accepts_the_file(tmp_path: Path) -> None:
    shutil.copytree(_DOCKER, tmp_path / "docker")
    filled = {name: value or "x" * 60 for name, value in envfile.read(_DOCKER / "env.example").items()}
    envfile.write(tmp_path / "docker" / ".env", filled)
    command = [
        "docker",
        "compose",
        "-f",
        "docker/compose.yaml",
        "--profile",
        "simulator",
        "--profile",
        "monitoring",
        "config",
        "--quiet",
    ]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
