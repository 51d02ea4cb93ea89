"""What passes between the platform and a provider, whatever protocol it speaks.

The instruments know no job: the platform hands over a frozen `GenerationRequest` and gets back either
`Pending` (ask again with the ticket) or `Result`. Everything else is a `ProviderError`.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any, ClassVar, Literal, Protocol, runtime_checkable


@dataclass(frozen=True)
class GenerationRequest:
    """One attempt at one provider.

    attempt_id: ours; sent as the idempotency key where a provider knows one.
    kind: "image", "video" or "audio". model: the provider's own name.
    params: normalised: width, height (pixels), seed, n, duration_s, resolution, negative_prompt, voice, …;
    only those asked for.
    webhook_url: where the provider may tell the end; None to be polled only.
    """

    attempt_id: str
    kind: str
    model: str
    prompt: str
    params: Mapping[str, Any] = field(default_factory=dict)
    webhook_url: str | None = None


@dataclass(frozen=True)
class Ticket:
    """The provider's name for what it accepted: kept in our row, enough to ask again after a crash.

    `details`: what else an adapter must know to ask, where the name alone does not lead to the task. Of a task that a
    webhook named it is the model, for that is all we know.
    """

    task_id: str
    details: Mapping[str, str] = field(default_factory=dict)

    def to_json(self) -> str:
        details = {"details": dict(self.details)} if self.details else {}
        return json.dumps({"task_id": self.task_id, **details})

    @classmethod
    def named(cls, task_id: str, *, model: str) -> "Ticket":
        """Of a task that a webhook named, bought of `model`."""
        return cls(task_id, {"model": model})

    @classmethod
    def in_batch(cls, attempt_id: str, batch: "Ticket") -> "Ticket":
        """Of one order in a batch. The provider knows it by our own name."""
        return cls(attempt_id, {"batch": batch.task_id})

    @classmethod
    def from_json(cls, text: str) -> "Ticket":
        return cls(**json.loads(text))


@dataclass(frozen=True)
class Change:
    """A parameter that goes to the provider otherwise than asked; `sent` None: not at all."""

    param: str
    asked: Any
    sent: Any = None

    def to_json(self) -> dict[str, Any]:
        return {"param": self.param, "asked": self.asked, "sent": self.sent}


@dataclass(frozen=True)
class Fitted:
    """A request as a provider can take it: `request` holds what is sent, in our names; `changes` what differs
    from what was asked."""

    request: GenerationRequest
    changes: tuple[Change, ...] = ()


@dataclass(frozen=True)
class Capabilities:
    """What a provider's protocol can do. Routing and recovery go by it.

    idempotent: a submit sent twice with the same key buys once, so a lost answer may be asked for by sending again.
    finds: `find` can tell what became of a submit. cancels: `cancel` takes back unbilled what has not begun.
    webhooks: it tells the end. synchronous: `submit` waits for the result, and no ticket is ever given.
    batches: the kinds that it makes in batches, as `Batches` says. lists: it tells of many orders at once, as `Lists`
    says.
    """

    kinds: frozenset[str]
    idempotent: bool = False
    finds: bool = False
    cancels: bool = False
    webhooks: bool = False
    synchronous: bool = False
    batches: frozenset[str] = frozenset()
    lists: bool = False


@dataclass(frozen=True)
class Output:
    """One delivered file, by address or by value. `flagged`: the provider calls it unsafe."""

    url: str | None = None
    data: bytes | None = None
    flagged: bool = False


@dataclass(frozen=True)
class Pending:
    """Accepted and under way. `progress` is 0-1 where the provider tells it."""

    ticket: Ticket
    status: Literal["submitted", "generating"] = "submitted"
    progress: float | None = None


@dataclass(frozen=True)
class Result:
    """Finished with at least one output. A cost that is None is unknown, never free."""

    ticket: Ticket | None
    outputs: tuple[Output, ...]
    inference_ms: int | None = None
    reported_cost_usd: Decimal | None = None


@dataclass(frozen=True)
class WebhookEvent:
    """A verified webhook. It is a hint: what it claims is asked of the provider again."""

    event_id: str
    task_id: str


@dataclass(frozen=True)
class BatchPending:
    """The provider is at it. `status` is its own word; `done` of the orders have ended, as far as it tells.
    `cancelable`: it was not canceled before, and is not about to end."""

    status: str
    done: int = 0
    cancelable: bool = False


class BatchResults(Protocol):
    """A batch that has ended. Close it: the results may lie in a file."""

    def of(self, attempt_id: str) -> Result:
        """What came of one order. Raises ProviderError: the order's own end, or not_found if nothing is said of it."""
        ...

    def close(self) -> None: ...


@runtime_checkable
class Batches(Protocol):
    """What an adapter has besides, whose `capabilities.batches` names a kind: many orders in one call, cheaper and
    later. `poll` answers for one order of a batch as well, by its `Ticket.in_batch`.

    Each method makes a few HTTP calls and never retries one. All raise `errors.ProviderError`.
    """

    def submit_batch(self, requests: Sequence[GenerationRequest], key: str) -> Ticket:
        """Orders all of `requests` (each as `fit` gave it, of one model) under our name `key`; the ticket is the
        whole batch's."""
        ...

    def find_batch(self, key: str) -> Ticket | None:
        """What became of a `submit_batch` whose answer was lost. None: the provider has no such batch."""
        ...

    def poll_batch(self, ticket: Ticket) -> BatchPending | BatchResults: ...

    def cancel_batch(self, ticket: Ticket) -> bool:
        """Whether the provider stops it: what has not begun there is neither made nor billed. Its end is still to be
        asked for. False: it was too late."""
        ...


@runtime_checkable
class Lists(Protocol):
    """What an adapter has besides, whose `capabilities.lists` holds: one call that tells of many orders."""

    def poll_many(self, tickets: Sequence[Ticket]) -> Mapping[str, Pending]:
        """Which of the orders, by task id, are still under way, as far as one call shows. Of any other nothing is said:
        it is polled by itself. The newest are told of first. Raises ProviderError, which says nothing of any."""
        ...


@runtime_checkable
class Asks(Protocol):
    """What an adapter has besides, whose `poll` begins with one question: many can be asked before the first answer is
    read, which takes half as much CPU time as one after the other."""

    def ask(self, ticket: Ticket) -> Callable[[], Pending | Result]:
        """Sends the question. What is returned reads the answer, and is to be called, once. `poll` is both, and both
        raise as it does."""
        ...


class Adapter(Protocol):
    """One provider's protocol. Each method makes one HTTP call (a poll may need a second for the result) and never
    retries.

    All but `parse_webhook` raise `errors.ProviderError`.
    """

    capabilities: ClassVar[Capabilities]

    def fit(self, request: GenerationRequest) -> Fitted:
        """What of `request` the provider can be told. Pure. Raises ProviderError (unsupported) if it can't make
        what is asked for: another kind, size, duration or number of outputs."""
        ...

    def ping(self) -> None:
        """A free call that shows that the provider is up. Raises ProviderError if it is not."""
        ...

    def submit(self, request: GenerationRequest) -> Pending | Result:
        """Places the order. `request` is one that `fit` gave."""
        ...

    def poll(self, ticket: Ticket) -> Pending | Result: ...

    def cancel(self, ticket: Ticket) -> bool:
        """False: the provider can't, or it was too late."""
        ...

    def find(self, request: GenerationRequest) -> Ticket | None:
        """What became of a submit whose answer was lost. None: not found, or the provider can't tell."""
        ...

    def parse_webhook(self, raw: bytes, headers: Mapping[str, str]) -> WebhookEvent:
        """`headers` by lower-case name. Raises `errors.WebhookRejected` if it is forged or old."""
        ...
