"""LiteLLM: whatever provider has no adapter of ours, by the optional package `litellm` (requirements/litellm.txt).

The package is imported inside the call, so only in the worker that makes it: it takes seconds and 160 MB. It prices by
a table that it would fetch from the internet when imported; it is told to use its own copy. It gives neither tickets
nor keys, so an answer that was lost stays unknown; and as it says "server error" for a lost connection as well, what
really happened is read from the causes of its exceptions.

Its retries are off, in one place by force: what it asks of OpenAI's images it sends three times, whatever `max_retries`
says (1.106.2: images/main.py drops it on the way).
"""

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from decimal import Decimal, InvalidOperation
from importlib.util import find_spec
from typing import Any, ClassVar, Final

from django.conf import settings

from apps.providers import answers, fitting, http
from apps.providers.adapters.at_once import AnswersAtOnce
from apps.providers.contract import (
    Capabilities,
    Fitted,
    GenerationRequest,
    Output,
    Pending,
    Result,
)
from apps.providers.errors import ErrorKind, ProviderError

# What its exceptions and those of the `openai` package say by name, where the status does not.
_KINDS: Final = {
    "ContentPolicyViolationError": ErrorKind.CONTENT_REJECTED,
    "UnsupportedParamsError": ErrorKind.UNSUPPORTED,
    "BudgetExceededError": ErrorKind.INSUFFICIENT_FUNDS,
    "APIResponseValidationError": ErrorKind.MALFORMED,
}
_QUOTA = ("insufficient_quota", "billing_hard_limit", "exceeded your current quota")
# By name too: httpx's, or those of the copy of it that newer `openai` packages bring.
_UNSENT: Final = frozenset(
    {
        "ConnectError",
        "ConnectTimeout",
        "PoolTimeout",
        "UnsupportedProtocol",
        "LocalProtocolError",
        "ProxyError",
    }
)
_NETWORK: Final = frozenset({"TransportError", "APIConnectionError"})


@dataclass(frozen=True)
class LiteLLM(AnswersAtOnce):
    """Models by LiteLLM's names, `provider/model`. `base_url`: of a LiteLLM proxy or another server, if any."""

    base_url: str
    api_key: str = field(repr=False)

    capabilities: ClassVar = Capabilities(kinds=frozenset({"image", "audio"}), synchronous=True)

    def fit(self, request: GenerationRequest) -> Fitted:
        """Which sizes and voices a model has, it knows itself."""
        if request.kind == "image":
            fitting.size(request)
            return fitting.only(request, "width", "height", "n")
        if request.kind == "audio":
            fitting.count(request, 1)
            return fitting.only(request, "voice")
        raise fitting.unsupported(f"it makes no {request.kind}")

    def ping(self) -> None:
        """Asks the server that `base_url` names. Without one there is nobody in particular to ask."""
        if find_spec("litellm") is None:
            raise _not_installed()
        if not self.base_url:
            return
        answer = http.exchange(
            "GET", f"{self.base_url}/models", headers={"authorization": f"Bearer {self.api_key}"}
        )
        if answer.status != 200:
            raise answers.refusal(answer.status, answers.field(answer, "error"), headers=answer.headers)

    def submit(self, request: GenerationRequest) -> Pending | Result:
        litellm = _package()
        make = _pictures if request.kind == "image" else _speech
        try:
            return make(litellm, request, self._options())
        except ProviderError:
            raise
        except Exception as error:
            raise _error(error) from error

    def _options(self) -> dict[str, Any]:
        return {
            "api_key": self.api_key,
            "api_base": self.base_url or None,
            "timeout": settings.PROVIDER_RESULT_TIMEOUT_S,
            "max_retries": 0,
            "num_retries": 0,
        }


def _package() -> Any:
    """Raises ProviderError (unsupported) where it is not installed."""
    os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"
    try:
        import litellm
    except ImportError as error:
        raise _not_installed() from error
    # It prints advice for whoever debugs it.
    litellm.suppress_debug_info = True
    return litellm


def _not_installed() -> ProviderError:
    return fitting.unsupported("litellm is not installed here: see requirements/litellm.in")


def _pictures(litellm: Any, request: GenerationRequest, options: dict[str, Any]) -> Result:
    if size := fitting.size(request):
        options["size"] = f"{size[0]}x{size[1]}"
    count = int(request.params.get("n") or 1)
    with _asking_once(litellm, request.model, options) as client:
        answer = litellm.image_generation(
            model=request.model, prompt=request.prompt, n=count, **options, **client
        )
    if not answer.data:
        # For a provider whose pictures it can't make it sends nothing, and calls that a success.
        raise ProviderError(ErrorKind.BAD_OUTPUT, "finished without a picture")
    outputs = tuple(answers.picture({"b64_json": one.b64_json, "url": one.url}) for one in answer.data)
    return Result(None, outputs, reported_cost_usd=_cost_usd(answer))


@contextmanager
def _asking_once(litellm: Any, model: str, options: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """A client that can't be told to retry, for the providers that are asked through one."""
    _, provider, key, base_url = litellm.get_llm_provider(model=model, api_base=options["api_base"])
    if provider not in ("openai", "litellm_proxy", *litellm.openai_compatible_providers):
        yield {}
        return
    import openai

    never = property(lambda client: 0, lambda client, value: None)
    once = type("OpenAIOnce", (openai.OpenAI,), {"max_retries": never})
    with once(api_key=options["api_key"] or key, base_url=base_url, timeout=options["timeout"]) as client:
        yield {"client": client}


def _speech(litellm: Any, request: GenerationRequest, options: dict[str, Any]) -> Result:
    answer = litellm.speech(
        model=request.model,
        input=request.prompt,
        voice=request.params.get("voice"),
        response_format="mp3",
        **options,
    )
    if not answer.content:
        raise ProviderError(ErrorKind.BAD_OUTPUT, "an empty sound")
    return Result(None, (Output(data=answer.content),), reported_cost_usd=_cost_usd(answer))


def _cost_usd(answer: Any) -> Decimal | None:
    """What it reckons the answer cost. It says 0.0 where it does not know, and nothing is free."""
    hidden = getattr(answer, "_hidden_params", None)
    cost = hidden.get("response_cost") if isinstance(hidden, Mapping) else None
    try:
        cost_usd = Decimal(str(cost))
    except InvalidOperation:
        return None
    return cost_usd if cost_usd.is_finite() and cost_usd > 0 else None


def _error(error: Exception) -> ProviderError:
    """From the bottom of the causes: on top, a lost connection is called a server error, and a 502 a 500.

    Where nothing is known, it may have been bought.
    """
    causes = list(_causes(error))
    names = {ancestor.__name__ for cause in causes for ancestor in type(cause).__mro__}
    message = f"{type(error).__name__}: {error}"
    if not names.isdisjoint(_UNSENT):
        return ProviderError(ErrorKind.CONNECT, answers.quoted(message))
    response = next((found for cause in reversed(causes) if (found := _answer(cause))), None)
    if response is None or not names.isdisjoint(_NETWORK):
        return ProviderError(ErrorKind.AMBIGUOUS, answers.quoted(message))
    kind = next((kind for name, kind in _KINDS.items() if name in names), None)
    if response.status_code == 429 and any(word in message for word in _QUOTA):
        kind = ErrorKind.INSUFFICIENT_FUNDS
    return answers.refusal(response.status_code, message, headers=response.headers, kind=kind)


def _answer(error: BaseException) -> Any:
    """The provider's answer that an exception is about, None if there was none.

    It makes answers up. One of 4xx is its own refusal, before anything was sent; one of 5xx is what it can't explain.
    """
    response = getattr(error, "response", None)
    status = getattr(response, "status_code", None)
    if not isinstance(status, int):
        return None
    # Set by the connection that it came over.
    arrived = "http_version" in getattr(response, "extensions", {})
    return response if arrived or 400 <= status < 500 else None


def _causes(error: BaseException) -> Iterator[BaseException]:
    seen: set[int] = set()
    cause: BaseException | None = error
    while cause is not None and id(cause) not in seen:
        seen.add(id(cause))
        yield cause
        cause = cause.__cause__ or cause.__context__
