"""WaveSpeedAI, API v3.

Envelope `{"code", "message", "data": {prediction}}`. No idempotency and no lookup by a key of ours: its
documentation says never to send a submit again whose answer was lost, for it may have been billed.
"""

import hashlib
import hmac
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from email.utils import parsedate_to_datetime
from typing import Any
from urllib.parse import quote

from apps.core import clock
from apps.providers import http
from apps.providers.contract import GenerationRequest, Output, Pending, Result, Ticket, WebhookEvent
from apps.providers.errors import ErrorKind, ProviderError, WebhookRejected

_OK = 200
_SYNC_TIMEOUT = 5004  # accepted, but not finished while the provider waited: a task like any other
_TOLERANCE_S = 300
_RETRY_AFTER_MAX_S = 600.0
_QUOTED = 300

_BY_STATUS = {
    400: ErrorKind.INVALID_REQUEST,
    401: ErrorKind.AUTHENTICATION,
    402: ErrorKind.INSUFFICIENT_FUNDS,
    403: ErrorKind.AUTHENTICATION,
    404: ErrorKind.INVALID_REQUEST,
    408: ErrorKind.AMBIGUOUS,
    429: ErrorKind.RATE_LIMITED,
    # From a gateway: whether the request went further, nobody can say.
    502: ErrorKind.AMBIGUOUS,
    504: ErrorKind.AMBIGUOUS,
}
_BY_END = {
    "failed": ErrorKind.GENERATION_FAILED,
    "timeout": ErrorKind.GENERATION_FAILED,
    "cancelled": ErrorKind.CANCELED,
    "canceled": ErrorKind.CANCELED,
    "deleted": ErrorKind.NOT_FOUND,
}
# Moderation has no code of its own in this protocol: it is told by its words.
_REFUSALS = ("nsfw", "moderation", "sensitive content", "content policy", "safety filter", "safety system")


@dataclass(frozen=True)
class WaveSpeed:
    base_url: str
    api_key: str = field(repr=False)
    webhook_secret: str = field(repr=False)

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
        url = f"{self.base_url}/api/v3/predictions/{quote(ticket.task_id, safe='')}/result"
        answer = http.exchange("GET", url, headers=self._headers())
        if answer.status == 404:
            raise ProviderError(ErrorKind.NOT_FOUND, "the prediction is unknown")
        data = _data(answer)
        if data["id"] != ticket.task_id:
            raise ProviderError(ErrorKind.MALFORMED, "another prediction was answered")
        return _outcome(data)

    def cancel(self, ticket: Ticket) -> bool:
        """The protocol has no way to cancel."""
        return False

    def find(self, request: GenerationRequest) -> Ticket | None:
        """The protocol has no lookup by anything we know before the answer."""
        return None

    def parse_webhook(self, raw: bytes, headers: Mapping[str, str]) -> WebhookEvent:
        event_id = headers.get("webhook-id", "")
        timestamp = headers.get("webhook-timestamp", "")
        if not (0 < len(event_id) <= 255 and event_id.isprintable()) or not self.webhook_secret:
            raise WebhookRejected("no id, or no secret to check it with")
        if not self._is_signed(event_id, timestamp, raw, headers.get("webhook-signature", "")):
            raise WebhookRejected("the signature is wrong")
        _check_age(timestamp)
        return WebhookEvent(event_id=event_id, task_id=_task_id(raw))

    def _is_signed(self, event_id: str, timestamp: str, raw: bytes, signatures: str) -> bool:
        """Hex HMAC-SHA256 over `id.timestamp.body`; the secret is text here, not base64."""
        key = self.webhook_secret.removeprefix("whsec_").encode()
        signed = f"{event_id}.{timestamp}.".encode() + raw
        expected = f"v3,{hmac.new(key, signed, hashlib.sha256).hexdigest()}".encode()
        # Several while a secret is rotated, separated by spaces.
        return any(hmac.compare_digest(expected, given.encode()) for given in signatures.split(" "))

    def _headers(self) -> dict[str, str]:
        return {"authorization": f"Bearer {self.api_key}"}


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
        raise _refusal(answer.status, answer)
    envelope = answer.json()
    code, data = envelope.get("code"), envelope.get("data")
    if isinstance(code, int) and code not in (_OK, _SYNC_TIMEOUT):
        raise _refusal(code, answer)
    if not isinstance(data, dict) or not isinstance(data.get("id"), str) or not data["id"]:
        raise ProviderError(ErrorKind.MALFORMED, "no prediction in the answer")
    return data


def _refusal(code: int, answer: http.Answer) -> ProviderError:
    message = _message(answer)
    kind = _BY_STATUS.get(code)
    if kind is None:
        # What is no refusal and no failure (a redirect, a strange 2xx) may have been accepted.
        server_error = ErrorKind.SERVER_ERROR if code >= 500 else ErrorKind.MALFORMED
        kind = ErrorKind.INVALID_REQUEST if 400 <= code < 500 else server_error
    if kind in (ErrorKind.INVALID_REQUEST, ErrorKind.AUTHENTICATION) and _is_moderation(message):
        kind = ErrorKind.CONTENT_REJECTED
    retry_after_s = _retry_after_s(answer.headers.get("retry-after"))
    return ProviderError(kind, f"{code}: {message}"[:_QUOTED], retry_after_s=retry_after_s)


def _message(answer: http.Answer) -> str:
    try:
        return str(answer.json().get("message", ""))
    except ProviderError:
        return "no JSON"


def _is_moderation(message: str) -> bool:
    return any(words in message.lower() for words in _REFUSALS)


def _outcome(data: dict[str, Any]) -> Pending | Result:
    ticket, status = Ticket(data["id"]), data.get("status")
    if status == "completed":
        return _result(ticket, data)
    if isinstance(status, str) and status in _BY_END:
        message = str(data.get("error") or status)[:_QUOTED]
        rejected = status == "failed" and _is_moderation(message)
        raise ProviderError(ErrorKind.CONTENT_REJECTED if rejected else _BY_END[status], message)
    # A word we do not know is no end: the next poll, or the deadline, decides.
    return Pending(ticket, "submitted" if status == "created" else "generating")


def _result(ticket: Ticket, data: dict[str, Any]) -> Result:
    urls, flags = data.get("outputs"), data.get("has_nsfw_contents")
    if not isinstance(urls, list) or not urls or not all(_is_address(url) for url in urls):
        raise ProviderError(ErrorKind.BAD_OUTPUT, "completed without usable outputs")
    flags = flags if isinstance(flags, list) else []
    outputs = tuple(
        Output(url=url, flagged=index < len(flags) and flags[index] is True) for index, url in enumerate(urls)
    )
    # The protocol tells no price: what it cost is known from our price list alone.
    return Result(ticket, outputs, inference_ms=_inference_ms(data))


def _is_address(url: object) -> bool:
    return isinstance(url, str) and url.startswith(("https://", "http://"))


def _inference_ms(data: dict[str, Any]) -> int | None:
    timings = data.get("timings")
    value = timings.get("inference") if isinstance(timings, dict) else None
    return int(value) if isinstance(value, int | float) and 0 <= value < 1e9 else None


def _retry_after_s(text: str | None) -> float | None:
    """Seconds or an HTTP date (RFC 9110, section 10.2.3), held to what a job can wait."""
    if not text:
        return None
    try:
        seconds = float(text)
    except ValueError:
        try:
            seconds = (_aware(parsedate_to_datetime(text)) - clock.now()).total_seconds()
        except ValueError:
            return None
    return min(max(seconds, 0.0), _RETRY_AFTER_MAX_S) if seconds == seconds else None


def _aware(at: datetime) -> datetime:
    return at if at.tzinfo else at.replace(tzinfo=clock.now().tzinfo)


def _check_age(timestamp: str) -> None:
    if not (timestamp.isascii() and timestamp.isdecimal() and len(timestamp) <= 12):
        raise WebhookRejected("the timestamp is no number")
    if abs(clock.now().timestamp() - int(timestamp)) > _TOLERANCE_S:
        raise WebhookRejected("the timestamp is too far from now")


def _task_id(raw: bytes) -> str:
    try:
        body = json.loads(raw)
    except (ValueError, RecursionError) as error:
        raise WebhookRejected("the body is not JSON") from error
    task_id = body.get("id") if isinstance(body, dict) else None
    if not isinstance(task_id, str) or not (0 < len(task_id) <= 255 and task_id.isprintable()):
        raise WebhookRejected("the body names no prediction")
    return task_id
