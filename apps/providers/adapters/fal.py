"""fal, queue API (https://docs.fal.ai/model-endpoints/queue).

A request is known by its id and its app (the model's owner and alias): its addresses are built of both, as fal's own
client does, so no address that an answer names is ever called. A failure is COMPLETED too; what it is, the status or
the result says. No idempotency key is known and nothing to look a request up by.
"""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any, ClassVar
from urllib.parse import quote

from apps.providers import answers, fitting, http, signatures
from apps.providers.contract import (
    Capabilities,
    Change,
    Fitted,
    GenerationRequest,
    Output,
    Pending,
    Result,
    Ticket,
    WebhookEvent,
)
from apps.providers.errors import ErrorKind, ProviderError

_TAKES = {
    "image": frozenset({"width", "height", "aspect_ratio", "n", "seed", "negative_prompt"}),
    "video": frozenset({"aspect_ratio", "resolution", "duration_s", "seed", "negative_prompt"}),
    "audio": frozenset({"voice", "seed", "duration_s"}),
}
_WORDS = {"n": "num_images", "duration_s": "duration"}
_MAX_OUTPUTS = 4
_SEEDS = 2**31
# Of an app in a shared space, three parts of the name are the app, else two.
_NAMESPACES = ("workflows", "comfy")
# Error types of requests that somebody canceled.
_CANCELED = ("client_cancelled", "client_disconnected")
_NOBODY = "00000000-0000-0000-0000-000000000000"


@dataclass(frozen=True)
class Fal:
    base_url: str
    api_key: str = field(repr=False)
    jwks_url: str
    priority: str = "normal"

    capabilities: ClassVar = Capabilities(kinds=frozenset(_TAKES), webhooks=True)

    def fit(self, request: GenerationRequest) -> Fitted:
        if request.kind not in _TAKES:
            raise fitting.unsupported(f"no {request.kind}")
        fitting.count(request, _MAX_OUTPUTS if request.kind == "image" else 1)
        if (request.params.get("duration_s") or 0) % 1:
            raise fitting.unsupported("whole seconds only")
        seed = request.params.get("seed") or 0
        smaller = [Change("seed", seed, seed % _SEEDS)] if seed >= _SEEDS else []
        return fitting.only(request, *_TAKES[request.kind], says=smaller)

    def ping(self) -> None:
        """There is no call for it: a request that nobody made is unknown to a queue that is up."""
        url = f"{self.base_url}/fal-ai/flux/requests/{_NOBODY}/status"
        answer = http.exchange("GET", url, headers=self._headers())
        if answer.status not in (200, 404):
            raise _refusal(answer)

    def submit(self, request: GenerationRequest) -> Pending | Result:
        url = f"{self.base_url}/{quote(request.model, safe='/.-_')}"
        if request.webhook_url:
            url += f"?fal_webhook={quote(request.webhook_url, safe='')}"
        headers = {
            **self._headers(),
            "content-type": "application/json",
            "x-fal-queue-priority": self.priority,
            # Not honoured by the provider today, but it names the attempt in its logs.
            "idempotency-key": request.attempt_id,
        }
        answer = http.exchange("POST", url, headers=headers, content=json.dumps(_arguments(request)).encode())
        if answer.status not in (200, 201, 202):
            raise _refusal(answer)
        task_id = answer.json().get("request_id")
        if not isinstance(task_id, str) or not task_id:
            raise ProviderError(ErrorKind.MALFORMED, "no request in the answer")
        return Pending(Ticket(task_id, {"model": request.model}))

    def poll(self, ticket: Ticket) -> Pending | Result:
        """Asks for the status and, once there is one, for the result."""
        return self.ask(ticket)()

    def ask(self, ticket: Ticket) -> Callable[[], Pending | Result]:
        return partial(self._told, ticket, self._asked(ticket, "/status"))

    def cancel(self, ticket: Ticket) -> bool:
        """It is asked to stop. Whether that came in time to cost nothing, it does not say."""
        url = f"{self._url(ticket)}/cancel"
        answer = http.exchange("PUT", url, headers=self._headers())
        if answer.status not in (200, 202, 400):
            raise _refusal(answer)
        return False

    def find(self, request: GenerationRequest) -> Ticket | None:
        """The protocol has no lookup by anything we know before the answer."""
        return None

    def parse_webhook(self, raw: bytes, headers: Mapping[str, str]) -> WebhookEvent:
        event_id = signatures.fal(self.jwks_url, raw, headers)
        return WebhookEvent(event_id, signatures.task_id(signatures.body(raw).get("request_id")))

    def _told(self, ticket: Ticket, read: Callable[[], http.Answer]) -> Pending | Result:
        status = _found(read()).json()
        if status.get("request_id", ticket.task_id) != ticket.task_id:
            raise ProviderError(ErrorKind.MALFORMED, "another request was answered")
        if status.get("status") != "COMPLETED":
            # A word we do not know is no end: the next poll, or the deadline, decides.
            return Pending(ticket, "submitted" if status.get("status") == "IN_QUEUE" else "generating")
        if status.get("error"):
            raise _failure(_words(status["error"]), str(status.get("error_type", "")))
        answer = _found(self._asked(ticket, "")(), failures=True)
        return Result(ticket, _outputs(answer.json()), inference_ms=_inference_ms(status))

    def _asked(self, ticket: Ticket, what: str) -> Callable[[], http.Answer]:
        return http.ask(self._url(ticket) + what, headers=self._headers())

    def _url(self, ticket: Ticket) -> str:
        parts = ticket.details.get("model", "").split("/")
        app = "/".join(parts[: 3 if parts[0] in _NAMESPACES else 2])
        return f"{self.base_url}/{quote(app, safe='/.-_')}/requests/{quote(ticket.task_id, safe='')}"

    def _headers(self) -> dict[str, str]:
        return {"authorization": f"Key {self.api_key}"}


def _arguments(request: GenerationRequest) -> dict[str, Any]:
    """Our parameters in the words of most apps there; each app has a schema of its own."""
    params = {name: value for name, value in request.params.items() if value is not None}
    width, height = params.pop("width", None), params.pop("height", None)
    told = {_WORDS.get(name, name): value for name, value in params.items()}
    if width and height:
        told["image_size"] = {"width": width, "height": height}
    if "duration" in told:
        # Some apps have a list of words for it, and those that have a number read the word.
        told["duration"] = str(int(told["duration"]))
    return {"text" if request.kind == "audio" else "prompt": request.prompt, **told}


def _found(answer: http.Answer, *, failures: bool = False) -> http.Answer:
    """`failures`: whether an error may be the generation's own."""
    if answer.status in (200, 202):
        return answer
    if answer.status == 404:
        raise ProviderError(ErrorKind.NOT_FOUND, "the request is unknown")
    error_type = answer.headers.get("x-fal-error-type", "")
    if failures and (answer.status in (400, 422) or error_type):
        raise _failure(_detail(answer), error_type)
    raise _refusal(answer)


def _refusal(answer: http.Answer) -> ProviderError:
    words = _detail(answer)
    if answer.status == 403 and "balance" in words.lower():
        return answers.refusal(402, words, headers=answer.headers)
    return answers.refusal(answer.status, words, headers=answer.headers)


def _failure(words: str, error_type: str) -> ProviderError:
    """How a generation that was accepted ended."""
    if error_type in _CANCELED:
        return ProviderError(ErrorKind.CANCELED, answers.quoted(words))
    rejected = answers.is_moderation(f"{error_type.replace('_', ' ')} {words}")
    kind = ErrorKind.CONTENT_REJECTED if rejected else ErrorKind.GENERATION_FAILED
    return ProviderError(kind, answers.quoted(words))


def _detail(answer: http.Answer) -> str:
    try:
        return _words(answer.json().get("detail", ""))
    except ProviderError:
        return "no JSON"


def _words(detail: object) -> str:
    """One message, or of a list of problems what each says and is called."""
    if isinstance(detail, list):
        problems = [problem for problem in detail if isinstance(problem, dict)]
        return "; ".join(
            f"{problem.get('msg', '')} ({str(problem.get('type', '')).replace('_', ' ')})"
            for problem in problems
        )
    return str(detail)


def _outputs(result: dict[str, Any]) -> tuple[Output, ...]:
    """Pictures come as a list, a film or a sound as one file."""
    single = next(
        (result[name] for name in ("image", "video", "audio", "audio_file") if result.get(name)), None
    )
    files = result.get("images") if single is None else [single]
    urls = [file.get("url") for file in files if isinstance(file, dict)] if isinstance(files, list) else []
    if not urls or not all(answers.is_address(url) for url in urls):
        raise ProviderError(ErrorKind.BAD_OUTPUT, "completed without usable outputs")
    flags = result.get("has_nsfw_concepts")
    flags = flags if isinstance(flags, list) else []
    return tuple(
        Output(url=url, flagged=index < len(flags) and flags[index] is True) for index, url in enumerate(urls)
    )


def _inference_ms(status: dict[str, Any]) -> int | None:
    metrics = status.get("metrics")
    seconds = metrics.get("inference_time") if isinstance(metrics, dict) else None
    return round(seconds * 1000) if isinstance(seconds, int | float) and 0 <= seconds < 1e6 else None
