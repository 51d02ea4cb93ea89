"""WaveSpeedAI, API v3.

Envelope `{"code", "message", "data": {prediction}}`. No idempotency and no lookup by a key of ours: its
documentation says never to send a submit again whose answer was lost, for it may have been billed.
"""

import hashlib
import hmac
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any, ClassVar
from urllib.parse import quote

from apps.providers import answers, fitting, http, signatures
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

_OK = 200
_SYNC_TIMEOUT = 5004  # accepted, but not finished while the provider waited: a task like any other
_BY_END = {
    "failed": ErrorKind.GENERATION_FAILED,
    "timeout": ErrorKind.GENERATION_FAILED,
    "cancelled": ErrorKind.CANCELED,
    "canceled": ErrorKind.CANCELED,
    "deleted": ErrorKind.NOT_FOUND,
}


@dataclass(frozen=True)
class WaveSpeed:
    base_url: str
    api_key: str = field(repr=False)
    webhook_secret: str = field(repr=False)

    capabilities: ClassVar = Capabilities(kinds=frozenset({"image", "video", "audio"}), webhooks=True)

    def fit(self, request: GenerationRequest) -> Fitted:
        """It takes our parameters as they are; which a model knows is the catalog's word."""
        if request.kind not in self.capabilities.kinds:
            raise fitting.unsupported(f"no {request.kind}")
        return Fitted(request)

    def ping(self) -> None:
        answer = http.exchange("GET", f"{self.base_url}/api/v3/webhook/secret", headers=self._headers())
        if answer.status != _OK:
            raise answers.refusal(answer.status, answers.field(answer, "message"), headers=answer.headers)

    def submit(self, request: GenerationRequest) -> Pending | Result:
        url = f"{self.base_url}/api/v3/{quote(request.model, safe='/.-_')}"
        if request.webhook_url:
            url += f"?webhook={quote(request.webhook_url, safe='')}"
        headers = {
            **self._headers(),
            "content-type": "application/json",
            # Not honoured by the provider today, but it names the attempt in its logs.
            "idempotency-key": request.attempt_id,
        }
        answer = http.exchange("POST", url, headers=headers, content=json.dumps(_body(request)).encode())
        return _outcome(_data(answer))

    def poll(self, ticket: Ticket) -> Pending | Result:
        return self.ask(ticket)()

    def ask(self, ticket: Ticket) -> Callable[[], Pending | Result]:
        url = f"{self.base_url}/api/v3/predictions/{quote(ticket.task_id, safe='')}/result"
        return partial(_told, ticket, http.ask(url, headers=self._headers()))

    def cancel(self, ticket: Ticket) -> bool:
        """The protocol has no way to cancel."""
        return False

    def find(self, request: GenerationRequest) -> Ticket | None:
        """The protocol has no lookup by anything we know before the answer."""
        return None

    def parse_webhook(self, raw: bytes, headers: Mapping[str, str]) -> WebhookEvent:
        event_id, timestamp = signatures.event_id(headers), headers.get("webhook-timestamp", "")
        if not self.webhook_secret:
            raise WebhookRejected("no secret to check it with")
        if not self._is_signed(event_id, timestamp, raw, headers.get("webhook-signature", "")):
            raise WebhookRejected("the signature is wrong")
        signatures.check_age(timestamp)
        return WebhookEvent(event_id, signatures.task_id(signatures.body(raw).get("id")))

    def _is_signed(self, event_id: str, timestamp: str, raw: bytes, given: str) -> bool:
        """Hex HMAC-SHA256 over `id.timestamp.body`; the secret is text here, not base64."""
        key = self.webhook_secret.removeprefix("whsec_").encode()
        signed = f"{event_id}.{timestamp}.".encode() + raw
        expected = f"v3,{hmac.new(key, signed, hashlib.sha256).hexdigest()}".encode()
        # Several while a secret is rotated, separated by spaces.
        return any(hmac.compare_digest(expected, one.encode()) for one in given.split(" "))

    def _headers(self) -> dict[str, str]:
        return {"authorization": f"Bearer {self.api_key}"}


def _told(ticket: Ticket, read: Callable[[], http.Answer]) -> Pending | Result:
    answer = read()
    if answer.status == 404:
        raise ProviderError(ErrorKind.NOT_FOUND, "the prediction is unknown")
    data = _data(answer)
    if data["id"] != ticket.task_id:
        raise ProviderError(ErrorKind.MALFORMED, "another prediction was answered")
    return _outcome(data)


def _body(request: GenerationRequest) -> dict[str, Any]:
    """Our parameters in the provider's words; what it calls as we do goes unchanged."""
    params = {name: value for name, value in request.params.items() if value is not None}
    width, height = params.pop("width", None), params.pop("height", None)
    count, duration_s = params.pop("n", 1), params.pop("duration_s", None)
    body: dict[str, Any] = {"prompt": request.prompt, **params}
    if width and height:
        body["size"] = f"{width}*{height}"
    if count > 1:
        body["num_images"] = count
    if duration_s is not None:
        body["duration"] = int(duration_s) if duration_s == int(duration_s) else float(duration_s)
    return body


def _data(answer: http.Answer) -> dict[str, Any]:
    """The prediction in the envelope. Raises ProviderError for every refusal."""
    if answer.status != _OK:
        raise answers.refusal(answer.status, answers.field(answer, "message"), headers=answer.headers)
    envelope = answer.json()
    code, data = envelope.get("code"), envelope.get("data")
    if isinstance(code, int) and code not in (_OK, _SYNC_TIMEOUT):
        raise answers.refusal(code, str(envelope.get("message", "")), headers=answer.headers)
    if not isinstance(data, dict) or not isinstance(data.get("id"), str) or not data["id"]:
        raise ProviderError(ErrorKind.MALFORMED, "no prediction in the answer")
    return data


def _outcome(data: dict[str, Any]) -> Pending | Result:
    ticket, status = Ticket(data["id"]), data.get("status")
    if status == "completed":
        return _result(ticket, data)
    if isinstance(status, str) and status in _BY_END:
        message = answers.quoted(str(data.get("error") or status))
        rejected = status == "failed" and answers.is_moderation(message)
        raise ProviderError(ErrorKind.CONTENT_REJECTED if rejected else _BY_END[status], message)
    # A word we do not know is no end: the next poll, or the deadline, decides.
    return Pending(ticket, "submitted" if status == "created" else "generating")


def _result(ticket: Ticket, data: dict[str, Any]) -> Result:
    urls, flags = data.get("outputs"), data.get("has_nsfw_contents")
    if not isinstance(urls, list) or not urls or not all(answers.is_address(url) for url in urls):
        raise ProviderError(ErrorKind.BAD_OUTPUT, "completed without usable outputs")
    flags = flags if isinstance(flags, list) else []
    outputs = tuple(
        Output(url=url, flagged=index < len(flags) and flags[index] is True) for index, url in enumerate(urls)
    )
    # The protocol tells no price: what it cost is known from our price list alone.
    return Result(ticket, outputs, inference_ms=_inference_ms(data))


def _inference_ms(data: dict[str, Any]) -> int | None:
    timings = data.get("timings")
    value = timings.get("inference") if isinstance(timings, dict) else None
    return int(value) if isinstance(value, int | float) and 0 <= value < 1e9 else None
