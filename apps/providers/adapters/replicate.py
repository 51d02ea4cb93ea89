"""Replicate, HTTP API v1 (https://replicate.com/docs/reference/http).

What is under way is told a hundred at a time: the list of predictions, the newest first, begins where one likes
(`created_before`, of 2025). A ticket so remembers when its prediction was made.

Predictions are bare JSON. No idempotency key is known, and a prediction shows nothing of ours that it could be found
by, so a lost answer is never sent again. Whether a canceled or failed prediction is billed, its documentation leaves
open: only one that never started is taken for unbilled.
"""

import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import partial
from typing import Any, ClassVar, Literal
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
    "video": frozenset(
        {"width", "height", "aspect_ratio", "resolution", "duration_s", "seed", "negative_prompt"}
    ),
    "audio": frozenset({"voice", "seed", "duration_s"}),
}
# What its models call otherwise than we do.
_WORDS = {"n": "num_outputs", "duration_s": "duration", "voice": "voice_id"}
_MAX_OUTPUTS = 4
# Inputs are checked as 32-bit integers.
_SEEDS = 2**31
_BY_END = {
    "failed": ErrorKind.GENERATION_FAILED,
    "canceled": ErrorKind.CANCELED,
    "aborted": ErrorKind.CANCELED,
}
_UNDER_WAY = ("starting", "processing")
# A hundred predictions, each with its input and log.
_MAX_LIST_BYTES = 16_000_000
_PROGRESS = re.compile(r"(\d{1,3})%\|")


@dataclass(frozen=True)
class Replicate:
    base_url: str
    api_key: str = field(repr=False)
    webhook_secret: str = field(repr=False)

    capabilities: ClassVar = Capabilities(kinds=frozenset(_TAKES), webhooks=True, cancels=True, lists=True)

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
        answer = http.exchange("GET", f"{self.base_url}/v1/account", headers=self._headers())
        if answer.status != 200:
            raise _refusal(answer)

    def submit(self, request: GenerationRequest) -> Pending | Result:
        model, _, version = request.model.partition(":")
        body: dict[str, Any] = {"input": _input(request)}
        if version:
            body["version"] = version
        if request.webhook_url:
            body |= {"webhook": request.webhook_url, "webhook_events_filter": ["completed"]}
        headers = {
            **self._headers(),
            "content-type": "application/json",
            # Not honoured by the provider today, but it names the attempt in its logs.
            "idempotency-key": request.attempt_id,
        }
        path = "predictions" if version else f"models/{quote(model, safe='/.-_')}/predictions"
        url = f"{self.base_url}/v1/{path}"
        answer = http.exchange("POST", url, headers=headers, content=json.dumps(body).encode())
        return _outcome(_prediction(answer))

    def poll(self, ticket: Ticket) -> Pending | Result:
        return self.ask(ticket)()

    def ask(self, ticket: Ticket) -> Callable[[], Pending | Result]:
        return partial(_told, ticket, http.ask(self._url(ticket), headers=self._headers()))

    def poll_many(self, tickets: Sequence[Ticket]) -> Mapping[str, Pending]:
        """Of the hundred made before the newest of `tickets`, itself included. One that a webhook named has no time."""
        newest = max((made for one in tickets if (made := _made_at(one))), default=None)
        if newest is None:
            return {}
        # Whether the bound belongs to it, its documentation leaves open.
        before = (newest + timedelta(milliseconds=1)).isoformat()
        url = f"{self.base_url}/v1/predictions?created_before={quote(before, safe='')}"
        answer = http.exchange("GET", url, headers=self._headers(), max_bytes=_MAX_LIST_BYTES)
        if answer.status != 200:
            raise _refusal(answer)
        listed, asked = answer.json().get("results"), {one.task_id for one in tickets}
        if not isinstance(listed, list):
            raise ProviderError(ErrorKind.MALFORMED, "no list of predictions in the answer")
        return {
            one["id"]: Pending(_ticket(one), *_way(one))
            for one in listed
            if isinstance(one, dict) and one.get("id") in asked and one.get("status") in _UNDER_WAY
        }

    def cancel(self, ticket: Ticket) -> bool:
        """What has started may be billed."""
        answer = http.exchange("POST", f"{self._url(ticket)}/cancel", headers=self._headers())
        prediction = _of(ticket, answer)
        return prediction.get("status") == "canceled" and prediction.get("started_at") is None

    def find(self, request: GenerationRequest) -> Ticket | None:
        """The protocol has no lookup by anything we know before the answer."""
        return None

    def parse_webhook(self, raw: bytes, headers: Mapping[str, str]) -> WebhookEvent:
        event_id = signatures.standard(self.webhook_secret, raw, headers)
        return WebhookEvent(event_id, signatures.task_id(signatures.body(raw).get("id")))

    def _url(self, ticket: Ticket) -> str:
        return f"{self.base_url}/v1/predictions/{quote(ticket.task_id, safe='')}"

    def _headers(self) -> dict[str, str]:
        return {"authorization": f"Bearer {self.api_key}"}


def _input(request: GenerationRequest) -> dict[str, Any]:
    """Our parameters in the words of most models there; each model has a schema of its own."""
    told = {_WORDS.get(name, name): value for name, value in request.params.items() if value is not None}
    if "duration" in told:
        told["duration"] = int(told["duration"])
    # Speech models call it text.
    return {"text" if request.kind == "audio" else "prompt": request.prompt, **told}


def _refusal(answer: http.Answer) -> ProviderError:
    return answers.refusal(answer.status, answers.field(answer, "detail"), headers=answer.headers)


def _told(ticket: Ticket, read: Callable[[], http.Answer]) -> Pending | Result:
    return _outcome(_of(ticket, read()))


def _of(ticket: Ticket, answer: http.Answer) -> dict[str, Any]:
    if answer.status == 404:
        raise ProviderError(ErrorKind.NOT_FOUND, "the prediction is unknown")
    prediction = _prediction(answer)
    if prediction["id"] != ticket.task_id:
        raise ProviderError(ErrorKind.MALFORMED, "another prediction was answered")
    return prediction


def _prediction(answer: http.Answer) -> dict[str, Any]:
    """Raises ProviderError for every refusal."""
    # 202: accepted, and the wait for the result is over.
    if answer.status not in (200, 201, 202):
        raise _refusal(answer)
    prediction = answer.json()
    if not isinstance(prediction.get("id"), str) or not prediction["id"]:
        raise ProviderError(ErrorKind.MALFORMED, "no prediction in the answer")
    return prediction


def _outcome(prediction: dict[str, Any]) -> Pending | Result:
    ticket, status = _ticket(prediction), prediction.get("status")
    if status == "succeeded":
        return Result(ticket, _outputs(prediction.get("output")), inference_ms=_inference_ms(prediction))
    if isinstance(status, str) and status in _BY_END:
        message = answers.quoted(str(prediction.get("error") or status))
        rejected = status == "failed" and answers.is_moderation(message)
        raise ProviderError(ErrorKind.CONTENT_REJECTED if rejected else _BY_END[status], message)
    # A word we do not know is no end: the next poll, or the deadline, decides.
    return Pending(ticket, *_way(prediction))


def _way(prediction: dict[str, Any]) -> tuple[Literal["submitted", "generating"], float | None]:
    """How far it is."""
    return "submitted" if prediction.get("status") == "starting" else "generating", _progress(prediction)


def _ticket(prediction: dict[str, Any]) -> Ticket:
    made_at = prediction.get("created_at")
    return Ticket(prediction["id"], {"created_at": made_at} if isinstance(made_at, str) else {})


def _made_at(ticket: Ticket) -> datetime | None:
    try:
        made_at = datetime.fromisoformat(ticket.details.get("created_at", ""))
    except ValueError:
        return None
    return made_at if made_at.tzinfo else None


def _outputs(output: object) -> tuple[Output, ...]:
    """One address or a list of them, as the model likes."""
    urls = output if isinstance(output, list) else [output]
    if not urls or not all(answers.is_address(url) for url in urls):
        raise ProviderError(ErrorKind.BAD_OUTPUT, "succeeded without usable outputs")
    return tuple(Output(url=str(url)) for url in urls)


def _inference_ms(prediction: dict[str, Any]) -> int | None:
    metrics = prediction.get("metrics")
    seconds = metrics.get("predict_time") if isinstance(metrics, dict) else None
    return round(seconds * 1000) if isinstance(seconds, int | float) and 0 <= seconds < 1e6 else None


def _progress(prediction: dict[str, Any]) -> float | None:
    """The last bar that the model drew into its log."""
    logs = prediction.get("logs")
    bars = _PROGRESS.findall(logs) if isinstance(logs, str) else []
    return min(int(bars[-1]), 100) / 100 if bars else None
