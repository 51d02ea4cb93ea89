"""Errors that a client may see: a stable code, an HTTP status, and whether trying again can help."""

from typing import Any, ClassVar


class DomainError(Exception):
    """Base of every refusal. `code` is stable and documented in docs/reference/errors.md.

    `extra` holds further members of the problem document (RFC 9457), `retry_after_s` becomes a header.
    """

    code: ClassVar[str]
    status: ClassVar[int] = 400
    title: ClassVar[str]
    retryable: ClassVar[bool] = False

    def __init__(self, detail: str, *, retry_after_s: int | None = None, **extra: Any) -> None:
        super().__init__(detail)
        self.detail = detail
        self.retry_after_s = retry_after_s
        self.extra = extra


class InvalidRequest(DomainError):
    """`errors`: one `{"field": "params.width", "message": "…", "code": "…"}` for each bad field."""

    code, status, title = "invalid_request", 422, "The request is not valid"

    def __init__(self, detail: str, *, errors: list[dict[str, str]] | None = None) -> None:
        super().__init__(detail)
        if errors:
            self.extra["errors"] = errors

    @classmethod
    def field(cls, field: str, message: str, code: str = "invalid") -> "InvalidRequest":
        return cls(f"{field}: {message}", errors=[{"field": field, "message": message, "code": code}])


class MalformedRequest(DomainError):
    code, status, title = "malformed_request", 400, "The body could not be read"


class LengthRequired(DomainError):
    code, status, title = "length_required", 411, "Send the body with its length"


class RequestTooLarge(DomainError):
    code, status, title = "request_too_large", 413, "The body is too large"


class UnsupportedMediaType(DomainError):
    code, status, title = "unsupported_media_type", 415, "Send application/json"


class NotAuthenticated(DomainError):
    code, status, title = "not_authenticated", 401, "A valid API key is needed"


class PermissionDenied(DomainError):
    code, status, title = "permission_denied", 403, "The key does not allow this"


class NotFound(DomainError):
    code, status, title = "not_found", 404, "There is no such thing here"


class MethodNotAllowed(DomainError):
    code, status, title = "method_not_allowed", 405, "This method is not allowed here"


class NotAcceptable(DomainError):
    code, status, title = "not_acceptable", 406, "This representation is not offered"


class RateLimited(DomainError):
    code, status, title, retryable = "rate_limited", 429, "Too many requests", True


class ServiceUnavailable(DomainError):
    code, status, title, retryable = "service_unavailable", 503, "Try again shortly", True
