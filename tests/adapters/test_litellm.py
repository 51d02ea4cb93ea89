"""The LiteLLM adapter without its package: it is imported by nobody, and its words are understood.

What needs the package itself is in test_litellm_package.py.
"""

import subprocess
import sys
from decimal import Decimal
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import openai
import pytest

from apps.providers.adapters import litellm
from apps.providers.adapters.litellm import LiteLLM
from apps.providers.contract import Change, GenerationRequest
from apps.providers.errors import ErrorKind, ProviderError
from tests.adapters.sync import refused, unfit
from tests.fakes.simulator import Simulator, free_port

ROOT = Path(__file__).resolve().parents[2]
# Whoever imports the package, fails: also where it is not installed.
_LOOK_OUT = """
import sys
class LookOut:
    def find_spec(self, name, path=None, target=None):
        assert name.split(".")[0] != "litellm", "litellm is imported"
sys.meta_path.insert(0, LookOut())
"""


def ask(**params: Any) -> GenerationRequest:
    return GenerationRequest("attempt-1", "image", "openai/gpt-image-2", "a red fox", params)


def say(**params: Any) -> GenerationRequest:
    return GenerationRequest("attempt-1", "audio", "openai/gpt-4o-mini-tts", "Good morning.", params)


@pytest.fixture
def adapter() -> LiteLLM:
    return LiteLLM("", "the-key")


@pytest.fixture
def without_package(monkeypatch: pytest.MonkeyPatch) -> None:
    """As where it is not installed, also where it is."""
    monkeypatch.setitem(sys.modules, "litellm", None)


@pytest.mark.parametrize(
    "program",
    [
        "import genplatform.wsgi",
        "import genplatform.celery; genplatform.celery.app.loader.import_default_modules()",
    ],
)
def test_neither_the_web_nor_a_worker_imports_it_before_it_is_needed(program: str) -> None:
    use = "from apps.providers import registry; registry.adapter('litellm').capabilities"
    done = subprocess.run(
        [sys.executable, "-c", f"{_LOOK_OUT}\n{program}\n{use}"], cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr


def test_the_lookout_sees_an_import() -> None:
    done = subprocess.run(
        [sys.executable, "-c", f"{_LOOK_OUT}\nimport litellm"], capture_output=True, text=True
    )
    assert "litellm is imported" in done.stderr


@pytest.mark.usefixtures("without_package")
@pytest.mark.parametrize("request_", [ask(), say()])
def test_without_the_package_a_submit_says_what_is_missing(
    adapter: LiteLLM, request_: GenerationRequest
) -> None:
    error = refused(adapter, request_)
    assert (error.kind, error.policy.billed) == (ErrorKind.UNSUPPORTED, "no")
    assert "requirements/litellm" in error.message


def test_what_it_cannot_be_told_is_dropped_and_said(adapter: LiteLLM) -> None:
    fitted = adapter.fit(ask(width=1024, height=1024, n=2, seed=3))
    assert fitted.request.params == {"width": 1024, "height": 1024, "n": 2}
    assert fitted.changes == (Change("seed", 3),)
    assert adapter.fit(say(voice="coral")).changes == ()


@pytest.mark.parametrize("request_", [GenerationRequest("a", "video", "m", "x"), ask(width=1024), say(n=2)])
def test_what_it_cannot_make_is_refused_before_anything_is_sent(
    adapter: LiteLLM, request_: GenerationRequest
) -> None:
    assert unfit(adapter, request_) == ErrorKind.UNSUPPORTED


def raised(base_url: str, prompt: str = "x", **options: Any) -> ProviderError:
    """What is made of the exception that the official `openai` package raises: LiteLLM's are derived from these."""
    client = openai.OpenAI(base_url=base_url, api_key=options.pop("api_key", "k"), max_retries=0, **options)
    with client, pytest.raises(openai.APIError) as caught:
        client.images.generate(model="gpt-image-2", prompt=prompt)
    return litellm._error(caught.value)


@pytest.mark.parametrize(
    ("fault", "kind"),
    [
        ("500", ErrorKind.SERVER_ERROR),
        ("502", ErrorKind.AMBIGUOUS),
        ("503", ErrorKind.SERVER_ERROR),
        ("504", ErrorKind.AMBIGUOUS),
        ("401", ErrorKind.AUTHENTICATION),
        ("402", ErrorKind.INSUFFICIENT_FUNDS),
        ("404", ErrorKind.INVALID_REQUEST),
        ("429=7", ErrorKind.RATE_LIMITED),
        ("429-quota", ErrorKind.INSUFFICIENT_FUNDS),
        ("refused", ErrorKind.CONTENT_REJECTED),
        ("reset", ErrorKind.AMBIGUOUS),
        ("accept-reset", ErrorKind.AMBIGUOUS),
    ],
)
def test_an_exception_has_the_kind_of_what_happened(
    simulator: Simulator, fault: str, kind: ErrorKind
) -> None:
    url = f"{simulator.base_url}/openai/v1"
    assert raised(url, f"x [fault:{fault}]", api_key=simulator.api_key).kind == kind


def test_retry_after_is_read(simulator: Simulator) -> None:
    url = f"{simulator.base_url}/openai/v1"
    assert raised(url, "x [fault:429=7]", api_key=simulator.api_key).retry_after_s == 7


def test_nobody_listening_is_proven_unsent() -> None:
    error = raised(f"http://127.0.0.1:{free_port()}")
    assert (error.kind, error.policy.billed) == (ErrorKind.CONNECT, "no")


def test_nobody_answering_is_ambiguous(simulator: Simulator) -> None:
    url = f"{simulator.base_url}/openai/v1"
    error = raised(url, "x [fault:hang]", api_key=simulator.api_key, timeout=0.1)
    assert error.kind == ErrorKind.AMBIGUOUS


def test_an_exception_without_an_answer_may_have_been_billed() -> None:
    assert litellm._error(RuntimeError("a surprise")).policy.billed == "unknown"


def test_a_representation_shows_no_secret(adapter: LiteLLM) -> None:
    assert "the-key" not in repr(adapter)


@pytest.mark.parametrize("cost", [None, 0.0, -0.04, "nan", "inf", "soon"])
def test_a_cost_that_is_none_is_unknown_and_never_free(cost: object) -> None:
    assert litellm._cost_usd(SimpleNamespace(_hidden_params={"response_cost": cost})) is None
    assert litellm._cost_usd(SimpleNamespace(_hidden_params={"response_cost": 0.04})) == Decimal("0.04")
