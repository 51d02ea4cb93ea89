"""Reading a provider's answer: what the protocols have in common.

Each adapter knows its own envelope; which HTTP status means which kind of error, when a refusal is moderation, and
how `Retry-After` is read, is the same everywhere.
"""

import base64
from collections.abc import Mapping
from datetime import datetime
from email.utils import parsedate_to_datetime
from typing import Any, Final

from apps.core import clock
from apps.providers.contract import Output
from apps.providers.errors import ErrorKind, ProviderError
from apps.providers.http import Answer

_RETRY_AFTER_MAX_S = 600.0
_QUOTED = 300

_BY_STATUS: Final = {
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
    # Cloudflare's own, in front of several providers: an odd answer, or none in time, from the server behind it.
    520: ErrorKind.AMBIGUOUS,
    522: ErrorKind.AMBIGUOUS,
    524: ErrorKind.AMBIGUOUS,
}
# Where moderation has no code of its own, it is told by its words.
_REFUSALS = ("nsfw", "moderation", "sensitive content", "content policy", "safety filter", "safety system")
# A 429 that no waiting helps against.
_SPENT = ("billing", "balance", "insufficient credit")
_NO_FILE = ("text/html", "application/json")


def refusal(
    status: int,
    message: str,
    *,
    headers: Mapping[str, str],
    kinds: Mapping[int, ErrorKind] | None = None,
    kind: ErrorKind | None = None,
) -> ProviderError:
    """The error of an answer with `status` (the HTTP status, or the code of an envelope) that is no success.

    `kinds`: what a status means at this provider, where it differs. `kind`: what its own code says, which goes
    before the status. `headers` by lower-case name.
    """
    kind = kind or {**_BY_STATUS, **(kinds or {})}.get(status)
    if kind is None:
        # What is no refusal and no failure (a redirect, a strange 2xx) may have been accepted.
        server_error = ErrorKind.SERVER_ERROR if status >= 500 else ErrorKind.MALFORMED
        kind = ErrorKind.INVALID_REQUEST if 400 <= status < 500 else server_error
    if kind in (ErrorKind.INVALID_REQUEST, ErrorKind.AUTHENTICATION) and is_moderation(message):
        kind = ErrorKind.CONTENT_REJECTED
    if kind == ErrorKind.RATE_LIMITED and any(words in message.lower() for words in _SPENT):
        kind = ErrorKind.INSUFFICIENT_FUNDS
    return ProviderError(
        kind, quoted(f"{status}: {message}"), retry_after_s=retry_after_s(headers.get("retry-after"))
    )


def quoted(text: str) -> str:
    """As much of a provider's words as an attempt's row keeps."""
    return text[:_QUOTED]


def field(answer: Answer, name: str) -> str:
    """A text field of an error's JSON body, or what there is instead."""
    try:
        return str(answer.json().get(name, ""))
    except ProviderError:
        return "no JSON"


def file(answer: Answer) -> bytes:
    """The file that an answer is, where the protocol sends no JSON around it.

    What it is, its first bytes will tell. Raises ProviderError: malformed (it says that it is a page or JSON: somebody
    else answered, and whether anything was bought is unknown) or bad_output (empty).
    """
    if answer.headers.get("content-type", "").startswith(_NO_FILE):
        raise ProviderError(ErrorKind.MALFORMED, f"HTTP {answer.status} without the file")
    if not answer.body:
        raise ProviderError(ErrorKind.BAD_OUTPUT, "an empty file")
    return answer.body


def picture(entry: Any) -> Output:
    """Of OpenAI's list of pictures: by value as `b64_json`, or by address as `url`.

    Raises ProviderError (bad_output).
    """
    encoded, url = (entry.get("b64_json"), entry.get("url")) if isinstance(entry, dict) else (None, None)
    if not encoded and isinstance(url, str) and is_address(url):
        return Output(url=url)
    try:
        data = base64.b64decode(encoded or "", validate=True)
    except (ValueError, TypeError) as error:
        raise ProviderError(ErrorKind.BAD_OUTPUT, "a picture that is not base64") from error
    if not data:
        raise ProviderError(ErrorKind.BAD_OUTPUT, "an empty picture")
    return Output(data=data)


def is_moderation(message: str) -> bool:
    return any(words in message.lower() for words in _REFUSALS)


def is_address(url: object) -> bool:
    """Whether an output can be fetched from there: what kind of address it may be, `core.http` decides."""
    return isinstance(url, str) and url.startswith(("https://", "http://"))


def retry_after_s(text: str | None) -> float | None:
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
