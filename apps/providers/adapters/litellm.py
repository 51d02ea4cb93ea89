"""LiteLLM: whatever provider has no adapter of ours, by the optional package `litellm` (requirements/litellm.txt).

The package is imported inside the call, so only in the worker that makes it: it takes seconds and 160 MB. It prices by
a table that it would fetch from the internet when imported; it is told to use its own copy. Its retries are off. It
gives neither tickets nor keys, so an answer that was lost stays unknown; and as it says "server error" for a lost
connection as well, what really happened is read from the causes of its exceptions.
"""

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from decimal import Decimal, InvalidOperation
from importlib.util import find_spec
from typing import Any, ClassVar, Final

import httpx
from django.conf import settings

from apps.providers import answers, fitting, http
from apps.providers.contract import (
    Capabilities,
    Fitted,
    GenerationRequest,
    Output,
    Pending,
    Result,
    Ticket,
    WebhookEvent,
)
from apps.providers.errors import ErrorKind, ProviderError, WebhookRejected

# Its exceptions, and those of the `openai` package that they derive from, by name: the nearest ancestor counts.
_KINDS: Final = {
    "ContentPolicyViolationError": ErrorKind.CONTENT_REJECTED,
    "UnsupportedParamsError": ErrorKind.UNSUPPORTED,
    "BudgetExceededError": ErrorKind.INSUFFICIENT_FUNDS,
    "AuthenticationError": ErrorKind.AUTHENTICATION,
    "PermissionDeniedError": ErrorKind.AUTHENTICATION,
    "NotFoundError": ErrorKind.INVALID_REQUEST,
    "UnprocessableEntityError": ErrorKind.INVALID_REQUEST,
    "BadRequestError": ErrorKind.INVALID_REQUEST,
    "RateLimitError": ErrorKind.RATE_LIMITED,
    "Timeout": ErrorKind.AMBIGUOUS,
    "APITimeoutError": ErrorKind.AMBIGUOUS,
    "BadGatewayError": ErrorKind.AMBIGUOUS,
    "ServiceUnavailableError": ErrorKind.SERVER_ERROR,
    "InternalServerError": ErrorKind.SERVER_ERROR,
    "APIResponseValidationError": ErrorKind.MALFORMED,
    # Also its word for what it can't make sense of.
    "APIConnectionError": ErrorKind.AMBIGUOUS,
}
_QUOTA = ("insufficient_quota", "billing_hard_limit", "exceeded your current quota")


@dataclass(frozen=True)
class LiteLLM:
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

    def poll(self, ticket: Ticket) -> Pending | Result:
        """There are no tickets: the submit was answered with the result."""
        raise ProviderError(ErrorKind.NOT_FOUND, "the provider gives no tickets")

    def cancel(self, ticket: Ticket) -> bool:
        return False

    def find(self, request: GenerationRequest) -> Ticket | None:
        return None

    def parse_webhook(self, raw: bytes, headers: Mapping[str, str]) -> WebhookEvent:
        raise WebhookRejected("the provider has no webhooks")

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
    answer = litellm.image_generation(
        model=request.model, prompt=request.prompt, n=int(request.params.get("n") or 1), **options
    )
    if not answer.data:
        # For a provider whose pictures it can't make it sends nothing, and calls that a success.
        raise ProviderError(ErrorKind.BAD_OUTPUT, "finished without a picture")
    outputs = tuple(answers.picture({"b64_json": one.b64_json, "url": one.url}) for one in answer.data)
    return Result(None, outputs, reported_cost_usd=_cost_usd(answer))


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
    message = str(error)
    kind = _by_cause(error) or _by_name(error)
    if kind == ErrorKind.RATE_LIMITED and any(word in message for word in _QUOTA):
        kind = ErrorKind.INSUFFICIENT_FUNDS
    if kind in (ErrorKind.INVALID_REQUEST, ErrorKind.AUTHENTICATION) and answers.is_moderation(message):
        kind = ErrorKind.CONTENT_REJECTED
    headers = getattr(getattr(error, "response", None), "headers", None) or {}
    return ProviderError(
        kind,
        answers.quoted(f"{type(error).__name__}: {message}"),
        retry_after_s=answers.retry_after_s(headers.get("retry-after")),
    )


def _by_cause(error: BaseException) -> ErrorKind | None:
    """What the network did, if that is what it was about."""
    for cause in _causes(error):
        if isinstance(cause, http.UNSENT):
            return ErrorKind.CONNECT
        if isinstance(cause, httpx.TransportError):
            return ErrorKind.AMBIGUOUS
    return None


def _by_name(error: BaseException) -> ErrorKind:
    """By its class; where only a status is known, by that. In doubt it may have been bought."""
    for ancestor in type(error).__mro__:
        if ancestor.__name__ in _KINDS:
            return _KINDS[ancestor.__name__]
    return ErrorKind.AMBIGUOUS


def _causes(error: BaseException) -> Iterator[BaseException]:
    seen: set[int] = set()
    cause: BaseException | None = error
    while cause is not None and id(cause) not in seen:
        seen.add(id(cause))
        yield cause
        cause = cause.__cause__ or cause.__context__
