"""What a provider that answers the order with the result leaves out: it gives no ticket and announces nothing."""

from collections.abc import Mapping

from apps.providers.contract import GenerationRequest, Pending, Result, Ticket, WebhookEvent
from apps.providers.errors import ErrorKind, ProviderError, WebhookRejected


class AnswersAtOnce:
    """The part of `Adapter` that is the same for all of them."""

    def poll(self, ticket: Ticket) -> Pending | Result:
        raise ProviderError(ErrorKind.NOT_FOUND, "the provider gives no tickets")

    def cancel(self, ticket: Ticket) -> bool:
        return False

    def find(self, request: GenerationRequest) -> Ticket | None:
        return None

    def parse_webhook(self, raw: bytes, headers: Mapping[str, str]) -> WebhookEvent:
        raise WebhookRejected("the provider announces nothing of what we ask of it")
