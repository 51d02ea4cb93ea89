"""The providers' own packages, unmodified, against the simulator: its protocols are not our own idea of them."""

import datetime
import ipaddress
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import wavespeed
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from replicate.client import Client
from replicate.exceptions import ModelError, ReplicateError
from replicate.webhook import InvalidSignatureError, Webhooks

from tests.fakes.receiver import Receiver
from tests.fakes.simulator import Simulator, wait_until

REPLICATE = "black-forest-labs/fast-draft"
WAVESPEED = "wavespeed-ai/fast-draft"


# --- replicate ----------------------------------------------------------------------------------


@contextmanager
def replicate_client(simulator: Simulator, api_token: str) -> Iterator[Client]:
    client = Client(api_token=api_token, base_url=f"{simulator.base_url}/replicate")
    client.poll_interval = 0.01
    yield client
    # It has no way of its own to close its connections.
    client._client.close()


@pytest.fixture
def its_client(simulator: Simulator) -> Iterator[Client]:
    with replicate_client(simulator, simulator.api_key) as client:
        yield client


def test_replicate_runs_a_model(its_client: Client) -> None:
    output = list(its_client.run(REPLICATE, input={"prompt": "a red fox", "num_outputs": 2}))
    assert len(output) == 2
    assert all(str(url).endswith(".png") for url in output)


def test_replicate_polls_on_when_the_wait_is_over(its_client: Client, simulator: Simulator) -> None:
    simulator.settings(time_scale=1)
    output = list(its_client.run(REPLICATE, input={"prompt": "slow [time:1.3]"}, wait=1))
    assert len(output) == 1
    assert simulator.summary("replicate")["calls"]["poll"] > 0


def test_replicate_says_why_a_model_failed(its_client: Client) -> None:
    with pytest.raises(ModelError, match="The generation failed"):
        its_client.run(REPLICATE, input={"prompt": "x [fault:failed]"})


def test_replicate_creates_reloads_and_lists_predictions(its_client: Client) -> None:
    created = its_client.predictions.create(model=REPLICATE, input={"prompt": "a red fox"})
    assert created.status in ("starting", "processing")
    created.wait()
    assert created.metrics
    reloaded = its_client.predictions.get(created.id)
    assert (reloaded.status, reloaded.output) == ("succeeded", created.output)
    by_version = its_client.predictions.create(version="fast-draft-1", input={"prompt": "a red fox"})
    assert [one.id for one in its_client.predictions.list()] == [by_version.id, created.id]


def test_replicate_cancels(its_client: Client, simulator: Simulator) -> None:
    simulator.settings(time_scale=1)
    prediction = its_client.predictions.create(model=REPLICATE, input={"prompt": "x [time:30]"})
    prediction.cancel()
    assert its_client.predictions.get(prediction.id).status == "canceled"


def test_replicate_checks_our_webhook_with_our_secret(its_client: Client, receiver: Receiver) -> None:
    its_client.predictions.create(
        model=REPLICATE,
        input={"prompt": "tell me"},
        webhook=receiver.url,
        webhook_events_filter=["completed"],
    )
    (told,) = receiver.wait_for(1)
    secret = its_client.webhooks.default.secret()
    Webhooks.validate(headers=told.headers, body=told.body.decode(), secret=secret, tolerance=300)
    with pytest.raises(InvalidSignatureError):
        Webhooks.validate(headers=told.headers, body=told.body.decode() + " ", secret=secret)


def test_replicate_reads_our_errors(its_client: Client, simulator: Simulator) -> None:
    with pytest.raises(ReplicateError) as throttled:
        its_client.predictions.create(model=REPLICATE, input={"prompt": "x [fault:429=1]"})
    assert (throttled.value.status, throttled.value.detail) == (
        429,
        "Request was throttled. Expected available in 1 seconds.",
    )
    with (
        replicate_client(simulator, "wrong") as stranger,
        pytest.raises(ReplicateError) as refused,
    ):
        stranger.predictions.list()
    assert refused.value.status == 401
    assert its_client.accounts.current().username == "simulator"


# --- wavespeed ----------------------------------------------------------------------------------


@pytest.fixture
def waves(simulator: Simulator) -> wavespeed.Client:
    return wavespeed.Client(api_key=simulator.api_key, base_url=simulator.base_url)


@pytest.mark.parametrize("enable_sync_mode", [False, True])
def test_wavespeed_runs_a_model(waves: wavespeed.Client, enable_sync_mode: bool) -> None:
    done = waves.run(
        WAVESPEED, {"prompt": "a red fox"}, poll_interval=0.01, enable_sync_mode=enable_sync_mode
    )
    assert len(done["outputs"]) == 1


def test_wavespeed_says_why_a_task_failed(waves: wavespeed.Client) -> None:
    with pytest.raises(RuntimeError, match="The generation failed"):
        waves.run(WAVESPEED, {"prompt": "x [fault:failed]"}, poll_interval=0.01)


def test_wavespeed_sends_a_submit_once_even_when_its_answer_is_lost(
    waves: wavespeed.Client, simulator: Simulator
) -> None:
    with pytest.raises(RuntimeError, match="may already"):
        waves.run(WAVESPEED, {"prompt": "x [fault:accept-reset]"}, max_retries=3)
    assert len(simulator.ledger()["submits"]) == 1


# --- fal ----------------------------------------------------------------------------------------

# Its hosts are read when it is imported, and it speaks https only.
_FAL = """
import json, sys
import fal_client
seen = {}
handle = fal_client.submit("fal-ai/flux/fast-draft", {"prompt": "a red fox", "num_images": 2}, priority="low")
result = handle.get(interval=0.05)
seen["images"] = len(result["images"])
seen["size"] = [result["images"][0]["width"], result["images"][0]["height"]]
seen["status"] = type(fal_client.status("fal-ai/flux", handle.request_id, with_logs=True)).__name__
seen["again"] = len(fal_client.result("fal-ai/flux", handle.request_id)["images"])
slow = fal_client.submit("fal-ai/flux/fast-draft", {"prompt": "slow [time:3000]"})
seen["slow"] = type(slow.status()).__name__
slow.cancel()
seen["canceled"] = slow.status().error
failing = fal_client.submit("fal-ai/flux/fast-draft", {"prompt": "x [fault:failed]"})
for event in failing.iter_events(interval=0.05):
    seen["failed"] = getattr(event, "error_type", None)
fal_client.client.MAX_ATTEMPTS = 1
for name, call in {
    "failure": failing.get,
    "refused": lambda: fal_client.submit("fal-ai/flux", {"prompt": "x [fault:refused]"}),
    "throttled": lambda: fal_client.submit("fal-ai/flux", {"prompt": "x [fault:429]"}),
}.items():
    try:
        call()
    except fal_client.client.FalClientHTTPError as error:
        seen[name] = [error.status_code, error.error_type]
print(json.dumps(seen))
"""


@pytest.fixture
def over_tls(tmp_path: Path) -> Iterator[tuple[Simulator, Path]]:
    """A simulator that serves https, and the certificate to trust."""
    certificate, key = _self_signed(tmp_path)
    running = Simulator(tls=(certificate, key))
    yield running, certificate
    running.stop()


def test_fal_submits_follows_cancels_and_reads_our_errors(over_tls: tuple[Simulator, Path]) -> None:
    simulator, certificate = over_tls
    environ = {
        **os.environ,
        "FAL_KEY": simulator.api_key,
        "FAL_QUEUE_RUN_HOST": f"127.0.0.1:{simulator.port}/fal",
        "SSL_CERT_FILE": str(certificate),
    }
    done = subprocess.run(
        [sys.executable, "-c", _FAL], env=environ, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    seen: dict[str, Any] = json.loads(done.stdout)
    assert seen == {
        "images": 2,
        "size": [1024, 1024],
        "status": "Completed",
        "again": 2,
        "slow": "InProgress",
        "canceled": "The request was cancelled",
        "failed": "generation_error",
        "failure": [500, "generation_error"],
        "refused": [422, None],
        "throttled": [429, None],
    }
    wait_until(lambda: "open" not in simulator.summary("fal")["tasks_by_state"])
    assert simulator.summary("fal")["tasks_by_state"] == {"completed": 1, "canceled": 1, "failed": 1}


def _self_signed(folder: Path) -> tuple[Path, Path]:
    """PEM files: a certificate for 127.0.0.1, good for an hour, and its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "127.0.0.1")])
    now = datetime.datetime.now(datetime.UTC)
    loopback = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))])
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(minutes=5))
        .not_valid_after(now + datetime.timedelta(hours=1))
        .add_extension(loopback, critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    files = folder / "certificate.pem", folder / "key.pem"
    files[0].write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    files[1].write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
    )
    return files
