"""Every adapter keeps the contract: the same tests over all of them, each against its own protocol in the simulator."""

import json
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from datetime import timedelta
from functools import partial
from typing import Any

import pytest

from apps.core import clock
from apps.providers.contract import (
    Batches,
    BatchPending,
    BatchResults,
    GenerationRequest,
    Lists,
    Pending,
    Result,
    Ticket,
)
from apps.providers.errors import ErrorKind, WebhookRejected
from tests.adapters.contract import (
    ATTEMPT,
    Subject,
    asynchronous,
    bought,
    error_of,
    everyone,
    finished,
    in_batches,
    is_as_ordered,
    listing,
    result_of,
    several,
    synchronous,
    telling,
)
from tests.fakes.receiver import Received, Receiver
from tests.fakes.simulator import Simulator, free_port, wait_until

# Fault of a submit → what it must be called.
REFUSALS = {
    "500": ErrorKind.SERVER_ERROR,
    "502": ErrorKind.AMBIGUOUS,
    "503": ErrorKind.SERVER_ERROR,
    "504": ErrorKind.AMBIGUOUS,
    "401": ErrorKind.AUTHENTICATION,
    "402": ErrorKind.INSUFFICIENT_FUNDS,
    "404": ErrorKind.INVALID_REQUEST,
    "429": ErrorKind.RATE_LIMITED,
    "429-date": ErrorKind.RATE_LIMITED,
    "429-absent": ErrorKind.RATE_LIMITED,
    "429-absurd": ErrorKind.RATE_LIMITED,
    "429-concurrency": ErrorKind.RATE_LIMITED,
    "429-quota": ErrorKind.INSUFFICIENT_FUNDS,
    "refused": ErrorKind.CONTENT_REJECTED,
    "reset": ErrorKind.AMBIGUOUS,
    "accept-reset": ErrorKind.AMBIGUOUS,
    "accept-garbled": ErrorKind.MALFORMED,
    "accept-html": ErrorKind.MALFORMED,
    "accept-short": ErrorKind.AMBIGUOUS,
    "accept-cut": ErrorKind.AMBIGUOUS,
}
# Fault of the first two polls → what it must be called. None of them is the end.
POLLS = {
    "forgetful": ErrorKind.NOT_FOUND,
    "poll-500": ErrorKind.SERVER_ERROR,
    "poll-502": ErrorKind.AMBIGUOUS,
    "poll-429": ErrorKind.RATE_LIMITED,
    "poll-reset": ErrorKind.AMBIGUOUS,
    "poll-garbled": ErrorKind.MALFORMED,
}


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with Receiver() as listening:
        yield listening


# --- Success ----------------------------------------------------------------------------------


@everyone
def test_what_is_bought_is_delivered_as_it_was_ordered(subject: Subject, simulator: Simulator) -> None:
    result = result_of(subject.adapter(simulator), subject.ask())
    assert [is_as_ordered(subject, output) for output in result.outputs] == [True]
    assert not result.outputs[0].flagged
    assert len(simulator.ledger()["charges"]) == 1


@everyone
def test_the_attempt_reaches_the_provider_with_the_order(subject: Subject, simulator: Simulator) -> None:
    result_of(subject.adapter(simulator), subject.ask())
    (submit,) = simulator.ledger()["submits"]
    assert submit["idempotency_key"] == ATTEMPT
    # Where the model is not a part of the path, the path is a part of its name.
    assert submit["model"].endswith(subject.model)


@several
def test_several_pictures_come_as_several_outputs(subject: Subject, simulator: Simulator) -> None:
    assert len(result_of(subject.adapter(simulator), subject.ask(n=2)).outputs) == 2


@asynchronous
def test_a_ticket_leads_to_the_result_after_it_was_written_down(
    subject: Subject, simulator: Simulator
) -> None:
    adapter = subject.adapter(simulator)
    ticket = bought(adapter, subject.ask())
    assert finished(adapter, ticket).ticket == ticket


@asynchronous
def test_a_task_that_a_webhook_named_is_polled_like_any_other(subject: Subject, simulator: Simulator) -> None:
    adapter = subject.adapter(simulator)
    task_id = bought(adapter, subject.ask()).task_id
    assert finished(adapter, Ticket.named(task_id, model=subject.model)).outputs


@synchronous
def test_the_answer_is_the_result_and_there_is_no_ticket(subject: Subject, simulator: Simulator) -> None:
    answer = subject.adapter(simulator).submit(subject.ask())
    assert isinstance(answer, Result)
    assert answer.ticket is None


# --- Refusals and accidents of a submit ---------------------------------------------------------


@pytest.mark.parametrize("fault", REFUSALS)
@everyone
def test_a_submit_that_goes_wrong_has_its_kind(subject: Subject, fault: str, simulator: Simulator) -> None:
    error = error_of(lambda: subject.adapter(simulator).submit(subject.ask(f"x [fault:{fault}]")))
    assert error.kind == subject.kinds.get(fault, REFUSALS[fault])


@pytest.mark.parametrize("fault", [*REFUSALS, "hang", "accept-hang"])
@everyone
@pytest.mark.usefixtures("impatient")
def test_a_submit_is_sent_once_and_what_may_be_billed_is_never_called_free(
    subject: Subject, fault: str, simulator: Simulator
) -> None:
    error = error_of(lambda: subject.adapter(simulator).submit(subject.ask(f"x [fault:{fault}]")))
    ledger = simulator.ledger()
    assert len(ledger["submits"]) == 1
    assert not ledger["tasks"] or error.policy.billed == "unknown"


@pytest.mark.parametrize("fault", ["hang", "accept-hang"])
@everyone
@pytest.mark.usefixtures("impatient")
def test_a_provider_that_says_nothing_is_ambiguous(
    subject: Subject, fault: str, simulator: Simulator
) -> None:
    error = error_of(lambda: subject.adapter(simulator).submit(subject.ask(f"x [fault:{fault}]")))
    assert error.kind == ErrorKind.AMBIGUOUS


@pytest.mark.parametrize(
    ("fault", "low", "high"), [("429=7", 7, 7), ("429-date=30", 28, 31), ("429-absurd", 600, 600)]
)
@everyone
def test_retry_after_is_read_and_held_within_reason(
    subject: Subject, fault: str, low: float, high: float, simulator: Simulator
) -> None:
    error = error_of(lambda: subject.adapter(simulator).submit(subject.ask(f"x [fault:{fault}]")))
    assert error.retry_after_s is not None
    assert low <= error.retry_after_s <= high


@everyone
def test_without_retry_after_none_is_made_up(subject: Subject, simulator: Simulator) -> None:
    error = error_of(lambda: subject.adapter(simulator).submit(subject.ask("x [fault:429-absent]")))
    assert error.retry_after_s is None


@everyone
def test_a_wrong_key_is_an_authentication_error(subject: Subject, simulator: Simulator) -> None:
    adapter = subject.adapter(simulator, api_key="wrong")
    assert error_of(lambda: adapter.submit(subject.ask())).kind == ErrorKind.AUTHENTICATION


@everyone
def test_nobody_listening_is_proven_unsent(subject: Subject, simulator: Simulator) -> None:
    adapter = subject.adapter(simulator, base_url=f"http://127.0.0.1:{free_port()}")
    error = error_of(lambda: adapter.submit(subject.ask()))
    assert (error.kind, error.policy.billed) == (ErrorKind.CONNECT, "no")


# --- Ends -------------------------------------------------------------------------------------


@asynchronous
def test_a_failed_generation_is_the_end_and_may_be_tried_again(
    subject: Subject, simulator: Simulator
) -> None:
    adapter = subject.adapter(simulator)
    error = error_of(lambda: result_of(adapter, subject.ask("x [fault:failed]")))
    assert error.kind == ErrorKind.GENERATION_FAILED
    assert error.ends_generation


@asynchronous
def test_completed_without_outputs_is_a_bad_output(subject: Subject, simulator: Simulator) -> None:
    error = error_of(lambda: result_of(subject.adapter(simulator), subject.ask("x [fault:empty]")))
    assert (error.kind, error.policy.billed) == (ErrorKind.BAD_OUTPUT, "yes")


@pytest.mark.parametrize("fault", ["nsfw", "filtered"])
@asynchronous
def test_an_unsafe_output_is_never_a_plain_success(
    subject: Subject, fault: str, simulator: Simulator
) -> None:
    adapter, request = subject.adapter(simulator), subject.ask(f"x [fault:{fault}]")
    if subject.unsafe == "flagged":
        assert all(output.flagged for output in result_of(adapter, request).outputs)
    else:
        assert error_of(lambda: result_of(adapter, request)).kind == ErrorKind.CONTENT_REJECTED


# --- Ends of a submit that is answered with the result ------------------------------------------


@synchronous
def test_it_has_nothing_to_ask_about_or_to_cancel(subject: Subject, simulator: Simulator) -> None:
    adapter = subject.adapter(simulator)
    assert adapter.cancel(Ticket("t")) is False
    assert adapter.find(subject.ask()) is None
    assert error_of(lambda: adapter.poll(Ticket("t"))).kind == ErrorKind.NOT_FOUND


@synchronous
def test_a_generation_that_failed_was_not_bought(subject: Subject, simulator: Simulator) -> None:
    error = error_of(lambda: subject.adapter(simulator).submit(subject.ask("x [fault:failed]")))
    assert (error.kind, error.policy.billed) == (ErrorKind.SERVER_ERROR, "no")
    assert simulator.ledger()["charges"] == []


@synchronous
def test_an_answer_without_outputs_is_a_bad_output(subject: Subject, simulator: Simulator) -> None:
    error = error_of(lambda: subject.adapter(simulator).submit(subject.ask("x [fault:empty]")))
    assert (error.kind, error.policy.billed) == (ErrorKind.BAD_OUTPUT, "yes")
    assert len(simulator.ledger()["charges"]) == 1


@pytest.mark.parametrize("fault", ["nsfw", "filtered"])
@synchronous
def test_what_moderation_stopped_is_a_refusal_and_was_not_bought(
    subject: Subject, fault: str, simulator: Simulator
) -> None:
    error = error_of(lambda: subject.adapter(simulator).submit(subject.ask(f"x [fault:{fault}]")))
    assert (error.kind, error.policy.billed) == (ErrorKind.CONTENT_REJECTED, "no")
    assert simulator.ledger()["charges"] == []


@pytest.mark.parametrize(
    ("fault", "kind"),
    [
        ("short-output", ErrorKind.AMBIGUOUS),
        ("cut-output", ErrorKind.AMBIGUOUS),
        ("drip=0.1", ErrorKind.AMBIGUOUS),
        ("huge", ErrorKind.MALFORMED),
    ],
)
@synchronous
def test_a_result_that_does_not_arrive_whole_may_be_billed_and_is_not_ordered_again(
    subject: Subject, fault: str, kind: ErrorKind, simulator: Simulator, settings: Any
) -> None:
    settings.PROVIDER_RESULT_TIMEOUT_S = 3
    error = error_of(lambda: subject.adapter(simulator).submit(subject.ask(f"x [fault:{fault}]")))
    assert (error.kind, error.policy.billed) == (kind, "unknown")
    assert len(simulator.ledger()["charges"]) == 1


@synchronous
def test_a_file_under_a_wrong_name_is_still_the_file(subject: Subject, simulator: Simulator) -> None:
    result = result_of(subject.adapter(simulator), subject.ask("x [fault:wrong-type]"))
    assert is_as_ordered(subject, result.outputs[0])


# --- Polls ------------------------------------------------------------------------------------


@pytest.mark.parametrize("fault", POLLS)
@asynchronous
def test_a_poll_that_goes_wrong_is_not_the_end(subject: Subject, fault: str, simulator: Simulator) -> None:
    adapter = subject.adapter(simulator)
    ticket = bought(adapter, subject.ask(f"x [fault:{fault}=2]"))
    for _ in range(2):
        error = error_of(lambda: adapter.poll(ticket))
        assert error.kind == POLLS[fault]
        assert not error.ends_generation
    assert finished(adapter, ticket).outputs


@asynchronous
def test_a_poll_that_is_throttled_says_how_long_to_wait(subject: Subject, simulator: Simulator) -> None:
    adapter = subject.adapter(simulator)
    ticket = bought(adapter, subject.ask("x [fault:poll-429]"))
    assert error_of(lambda: adapter.poll(ticket)).retry_after_s == 3


@asynchronous
def test_a_status_nobody_knows_is_still_pending(subject: Subject, simulator: Simulator) -> None:
    simulator.settings(time_scale=1)
    adapter = subject.adapter(simulator)
    ticket = bought(adapter, subject.ask("x [fault:unknown-status][time:30]"))
    assert adapter.poll(ticket) == Pending(ticket, "generating")


@asynchronous
def test_a_status_that_goes_back_changes_nothing(subject: Subject, simulator: Simulator) -> None:
    simulator.settings(time_scale=1)
    adapter = subject.adapter(simulator)
    ticket = bought(adapter, subject.ask("x [fault:regress][time:0.3]"))
    seen = [adapter.poll(ticket) for _ in range(2)]
    assert [answer.status for answer in seen if isinstance(answer, Pending)] == ["generating", "submitted"]
    wait_until(lambda: simulator.ledger()["charges"])
    told = [type(adapter.poll(ticket)) for _ in range(3)]
    assert told == [Result, Pending, Result]


@asynchronous
def test_a_task_that_never_ends_stays_pending(subject: Subject, simulator: Simulator) -> None:
    adapter = subject.adapter(simulator)
    ticket = bought(adapter, subject.ask("x [fault:stuck]"))
    assert [type(adapter.poll(ticket)) for _ in range(3)] == [Pending] * 3


@asynchronous
def test_a_task_in_the_queue_is_submitted_not_generating(subject: Subject, simulator: Simulator) -> None:
    simulator.settings(time_scale=1, concurrency=1)
    adapter = subject.adapter(simulator)
    bought(adapter, subject.ask("first [time:30]"))
    ticket = bought(adapter, subject.ask("second"))
    assert adapter.poll(ticket) == Pending(ticket, "submitted")


@asynchronous
def test_an_unknown_ticket_is_not_found(subject: Subject, simulator: Simulator) -> None:
    error = error_of(
        lambda: subject.adapter(simulator).poll(Ticket.named("nobody-made-it", model=subject.model))
    )
    assert error.kind == ErrorKind.NOT_FOUND
    assert not error.ends_generation


@everyone
def test_only_who_says_so_tells_of_many_orders_at_once(subject: Subject, simulator: Simulator) -> None:
    assert isinstance(subject.adapter(simulator), Lists) == subject.capabilities.lists


@listing
def test_of_many_orders_those_are_told_that_are_under_way(subject: Subject, simulator: Simulator) -> None:
    simulator.settings(time_scale=1, concurrency=3)
    adapter = subject.adapter(simulator)
    assert isinstance(adapter, Lists)
    ended, running, failed = (
        bought(adapter, subject.ask(f"{order}"))
        for order in ("a [time:0.1]", "b [time:30]", "c [fault:failed][time:0.1]")
    )
    queued = bought(adapter, subject.ask("d [time:60]"))
    strange = bought(adapter, subject.ask("e [fault:unknown-status][time:60]"))
    wait_until(lambda: simulator.summary()["tasks_by_state"].get("failed"))
    wait_until(lambda: simulator.summary()["tasks_by_state"].get("completed"))
    told = adapter.poll_many([ended, running, failed, queued, strange])
    assert told.keys() == {running.task_id, queued.task_id}
    assert told[running.task_id] == adapter.poll(running)
    assert adapter.poll_many([Ticket.named(running.task_id, model=subject.model)]) == {}


@listing
def test_a_list_that_can_not_be_had_ends_nothing(subject: Subject, simulator: Simulator) -> None:
    adapter = subject.adapter(simulator)
    assert isinstance(adapter, Lists)
    ticket = bought(adapter, subject.ask("x [time:600]"))
    simulator.settings(dead=[subject.name])
    assert not error_of(lambda: adapter.poll_many([ticket])).ends_generation
    simulator.settings(dead=[])
    stranger = subject.adapter(simulator, api_key="wrong")
    assert isinstance(stranger, Lists)
    assert error_of(lambda: stranger.poll_many([ticket])).kind == ErrorKind.AUTHENTICATION


# --- Cancel and find --------------------------------------------------------------------------


@pytest.mark.parametrize("order", ["running [time:0.2]", "x [fault:cancel-race][time:0.2]"])
@pytest.mark.parametrize("queued", [False, True])
@asynchronous
def test_what_a_cancel_took_back_is_never_billed(
    subject: Subject, order: str, queued: bool, simulator: Simulator
) -> None:
    simulator.settings(time_scale=1, concurrency=1)
    adapter = subject.adapter(simulator)
    if queued:
        bought(adapter, subject.ask("before [time:0.2]"))
    ticket = bought(adapter, subject.ask(order))
    taken_back = adapter.cancel(ticket)
    wait_until(lambda: "open" not in simulator.summary()["tasks_by_state"])
    assert not (taken_back and simulator.ledger(ticket.task_id)["charges"])
    assert not (adapter.capabilities.cancels and queued) or taken_back or "race" in order


@asynchronous
def test_a_cancel_that_comes_too_late_says_so(subject: Subject, simulator: Simulator) -> None:
    adapter = subject.adapter(simulator)
    ticket = bought(adapter, subject.ask())
    finished(adapter, ticket)
    assert adapter.cancel(ticket) is False
    assert finished(adapter, ticket).outputs


@everyone
def test_only_who_says_so_can_look_a_lost_answer_up(subject: Subject, simulator: Simulator) -> None:
    adapter, request = subject.adapter(simulator), subject.ask("x [fault:accept-reset]")
    error_of(lambda: adapter.submit(request))
    assert (adapter.find(request) is not None) == adapter.capabilities.finds


# --- Batches ----------------------------------------------------------------------------------

BATCH = "batch-1"


def batch_of(
    subject: Subject, simulator: Simulator, *prompts: str
) -> tuple[Batches, list[GenerationRequest]]:
    """The adapter, and an order for each prompt."""
    adapter = subject.adapter(simulator)
    assert isinstance(adapter, Batches)
    orders = (replace(subject.ask(prompt), attempt_id=f"order-{at}") for at, prompt in enumerate(prompts))
    return adapter, list(orders)


def results_of(adapter: Batches, ticket: Ticket) -> BatchResults:
    """What the batch came to, once it has."""

    def results() -> BatchResults | None:
        answer = adapter.poll_batch(ticket)
        return None if isinstance(answer, BatchPending) else answer

    done: BatchResults = wait_until(results, timeout_s=20)
    return done


@everyone
def test_only_who_says_so_takes_orders_together(subject: Subject, simulator: Simulator) -> None:
    assert isinstance(subject.adapter(simulator), Batches) == bool(subject.capabilities.batches)
    assert subject.capabilities.batches <= subject.capabilities.kinds


@in_batches
def test_each_order_of_a_batch_has_its_own_result(subject: Subject, simulator: Simulator) -> None:
    adapter, orders = batch_of(subject, simulator, "a fox", "an owl")
    ticket = Ticket.from_json(adapter.submit_batch(orders, BATCH).to_json())
    with closing(results_of(adapter, ticket)) as results:
        found = [results.of(order.attempt_id) for order in orders]
        assert all(is_as_ordered(subject, result.outputs[0]) for result in found)
        assert found[0].outputs != found[1].outputs
        assert error_of(lambda: results.of("nobody-ordered-it")).kind == ErrorKind.NOT_FOUND
    assert [submit["idempotency_key"] for submit in simulator.ledger()["submits"]] == ["order-0", "order-1"]


@in_batches
def test_one_order_of_a_batch_is_polled_like_any_other(subject: Subject, simulator: Simulator) -> None:
    simulator.settings(time_scale=1.0)
    batches, orders = batch_of(subject, simulator, "a fox [time:0.5]", "x [fault:failed]")
    ticket = batches.submit_batch(orders, BATCH)
    single = subject.adapter(simulator)
    first, second = (Ticket.in_batch(order.attempt_id, ticket) for order in orders)
    assert single.poll(first) == Pending(first, "generating")
    assert finished(single, Ticket.from_json(first.to_json())).ticket == first
    assert error_of(lambda: single.poll(second)).kind == ErrorKind.GENERATION_FAILED


@pytest.mark.parametrize(
    ("fault", "kind"),
    [
        ("failed", ErrorKind.GENERATION_FAILED),
        ("500", ErrorKind.GENERATION_FAILED),
        ("refused", ErrorKind.CONTENT_REJECTED),
    ],
)
@in_batches
def test_an_order_that_fails_in_a_batch_is_the_end_of_that_one_and_not_billed(
    subject: Subject, fault: str, kind: ErrorKind, simulator: Simulator
) -> None:
    adapter, orders = batch_of(subject, simulator, "a fox", f"x [fault:{fault}]")
    with closing(results_of(adapter, adapter.submit_batch(orders, BATCH))) as results:
        assert results.of("order-0").outputs
        error = error_of(lambda: results.of("order-1"))
    assert (error.kind, error.ends_generation, error.policy.billed) == (kind, True, "no")
    assert len(simulator.ledger()["charges"]) == 1


@pytest.mark.parametrize("fault", ["accept-reset", "reset", "500", "502", "429=7", "401"])
@in_batches
def test_an_order_for_a_batch_is_sent_once_and_found_by_its_name(
    subject: Subject, fault: str, simulator: Simulator
) -> None:
    adapter, orders = batch_of(subject, simulator, "a fox")
    simulator.faults(fault, match="batch")
    error = error_of(lambda: adapter.submit_batch(orders, f"batch-{fault}"))
    found = adapter.find_batch(f"batch-{fault}")
    assert (found is not None) == (fault == "accept-reset")
    assert error.policy.billed == ("unknown" if fault in ("accept-reset", "reset", "502") else "no")
    assert adapter.find_batch("another") is None
    if found:
        results_of(adapter, found).close()
    assert len(simulator.ledger()["submits"]) == (1 if found else 0)


@in_batches
def test_a_batch_that_nobody_knows_is_not_found(subject: Subject, simulator: Simulator) -> None:
    adapter, _ = batch_of(subject, simulator)
    unknown = Ticket("nobody-ordered-it")
    for ask in (adapter.poll_batch, adapter.cancel_batch):
        error = error_of(lambda ask=ask: ask(unknown))  # type: ignore[misc]  # mypy infers no lambda with a default
        assert (error.kind, error.ends_generation) == (ErrorKind.NOT_FOUND, False)


@in_batches
def test_a_canceled_batch_bills_what_it_had_begun_and_ends_the_rest(
    subject: Subject, simulator: Simulator
) -> None:
    simulator.settings(time_scale=1.0, batch_at_once=1)
    adapter, orders = batch_of(subject, simulator, "a fox [time:1]", "an owl [time:1]")
    ticket = adapter.submit_batch(orders, BATCH)
    wait_until(lambda: simulator.ledger()["submits"])
    before = adapter.poll_batch(ticket)
    assert isinstance(before, BatchPending)
    assert before.cancelable
    assert adapter.cancel_batch(ticket)
    after = adapter.poll_batch(ticket)
    assert isinstance(after, BatchPending)
    assert not after.cancelable
    with closing(results_of(adapter, ticket)) as results:
        assert results.of("order-0").outputs
        error = error_of(lambda: results.of("order-1"))
    assert (error.kind, error.policy.billed) == (ErrorKind.GENERATION_FAILED, "no")
    assert len(simulator.ledger()["charges"]) == 1
    assert adapter.cancel_batch(ticket) is False


# --- Webhooks ---------------------------------------------------------------------------------


def order_told(
    subject: Subject, simulator: Simulator, receiver: Receiver, fault: str = "", *, count: int = 1
) -> tuple[Ticket, list[Received]]:
    """A ticket, and the first webhooks about it."""
    prompt = f"x [fault:{fault}]" if fault else "x"
    ticket = bought(
        subject.adapter(simulator), subject.ask(prompt, webhook_url=f"{receiver.url}/hook?a=1&b=2")
    )
    return ticket, receiver.wait_for(count)[:count]


@telling
def test_a_webhook_names_its_task(subject: Subject, simulator: Simulator, receiver: Receiver) -> None:
    ticket, (told,) = order_told(subject, simulator, receiver)
    event = subject.adapter(simulator).parse_webhook(told.body, told.headers)
    assert event.task_id == ticket.task_id
    assert event.event_id
    assert told.path == "/hook?a=1&b=2"


@pytest.mark.parametrize("fault", ["bad-signature", "old-timestamp=301", "reserialized"])
@telling
def test_a_webhook_that_is_not_genuine_is_rejected(
    subject: Subject, fault: str, simulator: Simulator, receiver: Receiver
) -> None:
    _, (told,) = order_told(subject, simulator, receiver, fault)
    with pytest.raises(WebhookRejected):
        subject.adapter(simulator).parse_webhook(told.body, told.headers)


@pytest.mark.parametrize("fault", ["", "rotated-key", "late-webhook=0.2", "old-timestamp=290", "failed"])
@telling
def test_a_webhook_that_is_genuine_is_taken(
    subject: Subject, fault: str, simulator: Simulator, receiver: Receiver
) -> None:
    ticket, (told,) = order_told(subject, simulator, receiver, fault)
    assert subject.adapter(simulator).parse_webhook(told.body, told.headers).task_id == ticket.task_id


@telling
def test_a_webhook_can_not_be_changed_or_sent_again_later(
    subject: Subject, simulator: Simulator, receiver: Receiver
) -> None:
    _, (told,) = order_told(subject, simulator, receiver)
    adapter = subject.adapter(simulator)
    adapter.parse_webhook(told.body, told.headers)
    forgeries = [(told.body + b" ", told.headers), (told.body, {})]
    forgeries += [(told.body, {**told.headers, name: ""}) for name in told.headers if "webhook-" in name]
    forgeries += [
        (told.body, {**told.headers, name: value + "0"})
        for name, value in told.headers.items()
        if "webhook-" in name
    ]
    for body, headers in forgeries:
        with pytest.raises(WebhookRejected):
            adapter.parse_webhook(body, headers)
    for age_s in (301, -301):
        with (
            clock.frozen(clock.now() + timedelta(seconds=age_s)),
            pytest.raises(WebhookRejected),
        ):
            adapter.parse_webhook(told.body, told.headers)


@pytest.mark.parametrize(("fault", "count"), [("double-webhook", 2), ("triple-webhook", 3)])
@telling
def test_however_often_it_comes_it_is_one_event(
    subject: Subject, fault: str, count: int, simulator: Simulator, receiver: Receiver
) -> None:
    _, told = order_told(subject, simulator, receiver, fault, count=count)
    events = {subject.adapter(simulator).parse_webhook(one.body, one.headers) for one in told}
    assert len(events) == 1


@telling
def test_a_webhook_before_the_answer_names_the_task_that_the_answer_names(
    subject: Subject, simulator: Simulator, receiver: Receiver
) -> None:
    adapter = subject.adapter(simulator)
    answer = adapter.submit(subject.ask("x [fault:early-webhook]", webhook_url=receiver.url))
    (told,) = receiver.requests
    assert isinstance(answer, Pending)
    assert answer.status in ("submitted", "generating")
    assert adapter.parse_webhook(told.body, told.headers).task_id == answer.ticket.task_id
    assert finished(adapter, answer.ticket).outputs


@telling
def test_a_webhook_of_the_start_after_the_end_takes_nothing_back(
    subject: Subject, simulator: Simulator, receiver: Receiver
) -> None:
    ticket, told = order_told(subject, simulator, receiver, "unordered-webhooks", count=2)
    adapter = subject.adapter(simulator)
    named = {adapter.parse_webhook(one.body, one.headers).task_id for one in told}
    assert named == {ticket.task_id}
    assert isinstance(adapter.poll(ticket), Result)


@telling
def test_a_webhook_about_another_task_says_so(
    subject: Subject, simulator: Simulator, receiver: Receiver
) -> None:
    ticket, (told,) = order_told(subject, simulator, receiver, "wrong-task")
    assert subject.adapter(simulator).parse_webhook(told.body, told.headers).task_id != ticket.task_id


@telling
def test_a_lost_webhook_loses_nothing(subject: Subject, simulator: Simulator, receiver: Receiver) -> None:
    adapter = subject.adapter(simulator)
    ticket = bought(adapter, subject.ask("x [fault:lost-webhook]", webhook_url=receiver.url))
    assert finished(adapter, ticket).outputs
    assert receiver.requests == []


@everyone
def test_a_webhook_of_nobody_is_rejected(subject: Subject, simulator: Simulator) -> None:
    with pytest.raises(WebhookRejected):
        subject.adapter(simulator).parse_webhook(json.dumps({"id": "x", "request_id": "x"}).encode(), {})


# --- Fit and ping -----------------------------------------------------------------------------


@everyone
def test_what_was_fitted_fits(subject: Subject, simulator: Simulator) -> None:
    adapter = subject.adapter(simulator)
    fitted = adapter.fit(subject.ask())
    assert adapter.fit(fitted.request).changes == ()
    assert fitted.request.prompt == "a red fox"
    assert simulator.ledger()["submits"] == []


@everyone
def test_what_can_not_be_told_is_a_change(subject: Subject, simulator: Simulator) -> None:
    asked = {change.param: change.asked for change in subject.dropped}
    fitted = subject.adapter(simulator).fit(subject.ask(**asked))
    assert sorted(fitted.changes, key=lambda c: c.param) == sorted(subject.dropped, key=lambda c: c.param)
    for change in subject.dropped:
        assert fitted.request.params.get(change.param) == change.sent


@everyone
def test_what_can_not_be_made_is_refused_before_anything_is_sent(
    subject: Subject, simulator: Simulator
) -> None:
    adapter = subject.adapter(simulator)
    impossible = [subject.ask(**params) for params in subject.refused]
    for request in (*impossible, replace(subject.ask(), kind="hologram")):
        assert error_of(partial(adapter.fit, request)).kind == ErrorKind.UNSUPPORTED
    assert simulator.ledger()["submits"] == []


@everyone
def test_a_ping_shows_whether_the_provider_is_up_and_costs_nothing(
    subject: Subject, simulator: Simulator
) -> None:
    adapter = subject.adapter(simulator)
    adapter.ping()
    simulator.settings(dead=[subject.name])
    for _ in range(4):
        assert error_of(adapter.ping).kind in (ErrorKind.SERVER_ERROR, ErrorKind.AMBIGUOUS)
    simulator.settings(dead=[])
    adapter.ping()
    assert simulator.ledger()["submits"] == []
    assert simulator.summary()["calls"]["dead"] == 4


@everyone
def test_a_ping_with_a_wrong_key_is_an_authentication_error(subject: Subject, simulator: Simulator) -> None:
    assert error_of(subject.adapter(simulator, api_key="wrong").ping).kind == ErrorKind.AUTHENTICATION


@everyone
def test_a_representation_shows_no_secret(subject: Subject, simulator: Simulator) -> None:
    shown = repr(subject.adapter(simulator))
    assert simulator.api_key not in shown
    assert simulator.webhook_secret not in shown
