"""Where `make up` buys: everything from the simulator, or nothing."""

from pathlib import Path

from django.conf import settings

from genplatform.stack import local, processes


def test_without_a_key_every_provider_is_the_simulator(tmp_path: Path) -> None:
    environ = local.environment(tmp_path, {})
    simulator = f"http://127.0.0.1:{environ['SIMULATOR_PORT']}"
    assert {name.lower() for name in processes.SIMULATED} == settings.PROVIDERS.keys() - {"litellm"}
    addresses = [environ[f"{name}_BASE_URL"] for name in processes.SIMULATED]
    assert all(address.startswith(simulator) for address in addresses)
    assert len(set(addresses)) == len(processes.SIMULATED)
    assert environ["FAL_JWKS_URL"].startswith(simulator)
    assert environ["REPLICATE_WEBHOOK_SECRET"] == environ["WAVESPEED_WEBHOOK_SECRET"]


def test_the_simulator_takes_the_keys_that_we_send(tmp_path: Path) -> None:
    environ = local.environment(tmp_path, {})
    simulator = processes.named("simulator", environ)
    keys = simulator.env["SIMULATOR_API_KEY"].split(",")
    assert sorted(keys) == sorted(environ[f"{name}_API_KEY"] for name in processes.SIMULATED)
    assert len(set(keys)) == len(processes.SIMULATED)
    assert simulator.env["SIMULATOR_WEBHOOK_SECRET"] == environ["WAVESPEED_WEBHOOK_SECRET"]


def test_keys_are_made_once(tmp_path: Path) -> None:
    first, second = (local.environment(tmp_path, {}) for _ in range(2))
    assert {name: first[f"{name}_API_KEY"] for name in processes.SIMULATED} == {
        name: second[f"{name}_API_KEY"] for name in processes.SIMULATED
    }


def test_with_a_key_of_ones_own_nothing_is_simulated(tmp_path: Path) -> None:
    environ = local.environment(tmp_path, {"WAVESPEED_API_KEY": "real"})
    assert "SIMULATOR_PORT" not in environ
    theirs = {name: value for name, value in environ.items() if name.startswith(tuple(processes.SIMULATED))}
    assert theirs == {"WAVESPEED_API_KEY": "real"}


def test_a_key_that_happens_to_be_around_spends_no_money(tmp_path: Path) -> None:
    environ = local.environment(tmp_path, {"OPENAI_API_KEY": "somebodys"})
    assert environ["OPENAI_BASE_URL"].startswith("http://127.0.0.1:")
    assert "somebodys" in processes.named("simulator", environ).env["SIMULATOR_API_KEY"].split(",")
