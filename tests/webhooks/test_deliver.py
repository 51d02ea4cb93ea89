"""Telling receivers: signed, retried on schedule, once per claim, and never at the cost of others."""

import json
import threading
import uuid
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.conf import LazySettings
from django.db import IntegrityError, connection, transaction
from standardwebhooks import Webhook, WebhookVerificationError

from apps.accounts.models import Team
from apps.core import bell, clock
from apps.webhooks import deliver, emit, endpoints, signing, sweep
from apps.webhooks.models import Delivery, DeliveryAttempt, Event
from tests.fakes.receiver import Answer, Receiver

pytestmark = pytest.mark.django_db

NOON = datetime(2026, 5, 1, 12, 0, tzinfo=UTC)


@pytest.fixture
def team() -> Team:
    return Team.objects.create(name="Red")


@pytest.fixture
def receiver(settings: LazySettings) -> Iterator[Receiver]:
    settings.ALLOW_LOOPBACK_TARGETS = True
    with Receiver() as running:
        yield running


@pytest.fixture
def rung(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, str, str]]:
    """Every (task, id, queue) the bell rings, instead of a broker."""
    calls: list[tuple[str, str, str]] = []

    def publish(task: str, *, id: str, queue: str) -> bool:  # noqa: A002
        calls.append((task, id, queue))
        return True

    monkeypatch.setattr(bell, "publish", publish)
    return calls


@pytest.fixture
def told(team: Team, receiver: Receiver, rung: list[Any]) -> Callable[[], Delivery]:
    """Emits an event for the receiver and returns its delivery."""

    def emit_one() -> Delivery:
        emit.emit(
            team_id=team.id,
            type="job.completed",
            subject_id=uuid.uuid4(),
            data={"id": "1", "cost_usd": "0.025"},
            url=f"{receiver.url}/hook",
        )
        return Delivery.objects.latest("id")

    return emit_one


def attempt(delivery: Delivery, at: datetime) -> Delivery:
    with clock.frozen(at):
        deliver.deliver(delivery.id)
    delivery.refresh_from_db()
    return delivery


# --- Emit -------------------------------------------------------------------------------------


def test_emit_stores_the_event_and_rings_after_the_commit(
    team: Team, rung: list[Any], django_capture_on_commit_callbacks: Any, django_assert_num_queries: Any
) -> None:
    subject_id = uuid.uuid4()
    with django_capture_on_commit_callbacks(execute=True), clock.frozen(NOON):
        endpoints.wanting(team.id, "job.failed")  # remembered from now on
        with django_assert_num_queries(2):
            emit.emit(
                team_id=team.id,
                type="job.failed",
                subject_id=subject_id,
                data={"a": 1},
                url="https://a.example.com",
            )
        assert rung == []
    delivery = Delivery.objects.get()
    assert rung == [("webhooks.deliver", str(delivery.id), "io")]
    assert (delivery.status, delivery.due_at, delivery.attempts) == ("pending", NOON, 0)
    assert delivery.event.subject_id == subject_id
    assert delivery.event.payload == {
        "type": "job.failed",
        "timestamp": "2026-05-01T12:00:00+00:00",
        "data": {"a": 1},
    }


def test_nothing_is_told_about_what_was_rolled_back(
    told: Any, rung: list[Any], django_capture_on_commit_callbacks: Any
) -> None:
    with django_capture_on_commit_callbacks(execute=True), transaction.atomic():
        told()
        transaction.set_rollback(True)
    assert not Event.objects.exists()
    assert rung == []


def test_a_long_message_becomes_a_thin_one(team: Team, rung: list[Any]) -> None:
    subject_id = uuid.uuid4()
    emit.emit(
        team_id=team.id, type="job.failed", subject_id=subject_id, data={"a": "ü" * 9000}, url="https://a.b"
    )
    event = Event.objects.get()
    assert event.payload["data"] == {"id": str(subject_id), "truncated": True}
    assert len(emit.body_of(event.payload)) < 20_000


# --- One attempt ------------------------------------------------------------------------------


def test_the_receiver_can_verify_what_it_gets(told: Any, team: Team, receiver: Receiver) -> None:
    delivery = told()
    deliver.deliver(delivery.id)
    request = receiver.wait_for(1)[0]
    secret = signing.secret_for(team.id, team.webhook_secret_version)
    message = Webhook(secret).verify(request.body, request.headers)
    assert message["type"] == "job.completed"
    assert message["data"] == {"id": "1", "cost_usd": "0.025"}
    assert request.headers["webhook-id"] == str(delivery.event_id)
    assert request.headers["content-type"] == "application/json"
    assert (request.method, request.path) == ("POST", "/hook")
    with pytest.raises(WebhookVerificationError):
        Webhook(secret).verify(request.body + b" ", request.headers)
    with pytest.raises(WebhookVerificationError):
        Webhook(signing.secret_for(team.id, 2)).verify(request.body, request.headers)
    with pytest.raises(WebhookVerificationError):
        Webhook(signing.secret_for(uuid.uuid4(), 1)).verify(request.body, request.headers)


def test_during_a_rotation_the_old_and_the_new_secret_verify(team: Team) -> None:
    secrets = [signing.secret_for(team.id, version) for version in (2, 1)]
    headers = signing.sign(id="evt", at=clock.now(), body=b'{"a":1}', secrets=secrets)
    for secret in secrets:
        assert Webhook(secret).verify(b'{"a":1}', headers) == {"a": 1}


def test_a_success_is_final_and_recorded(told: Any, receiver: Receiver) -> None:
    receiver.answers(Answer(status=204))
    delivery = attempt(told(), clock.now())
    assert (delivery.status, delivery.due_at, delivery.lease) == ("delivered", None, None)
    history = DeliveryAttempt.objects.get()
    assert (history.status_code, history.error) == (204, "")
    deliver.deliver(delivery.id)  # the bell rings twice
    assert len(receiver.requests) == 1
    assert DeliveryAttempt.objects.count() == 1


def test_one_attempt_costs_few_queries(told: Any, django_assert_max_num_queries: Any) -> None:
    delivery = told()
    with django_assert_max_num_queries(6):  # read, claim, [savepoint], record, insert, [release]
        deliver.deliver(delivery.id)


@pytest.mark.parametrize(
    ("status", "error"), [(301, "status 301"), (307, "status 307"), (400, "status 400"), (500, "status 500")]
)
def test_any_other_answer_is_tried_again(told: Any, receiver: Receiver, status: int, error: str) -> None:
    receiver.answers(Answer(status=status, headers={"Location": f"{receiver.url}/elsewhere"}))
    delivery = attempt(told(), clock.now())
    assert (delivery.status, delivery.attempts, delivery.lease) == ("pending", 1, None)
    history = DeliveryAttempt.objects.get()
    assert (history.status_code, history.error) == (status, error)
    assert len(receiver.requests) == 1


def test_no_answer_is_tried_again(told: Any, receiver: Receiver, settings: LazySettings) -> None:
    settings.WEBHOOK_TIMEOUT_S = 0.1
    receiver.answers(Answer(hold=lambda: receiver.closing.wait(5)))
    delivery = attempt(told(), clock.now())
    assert delivery.status == "pending"
    history = DeliveryAttempt.objects.get()
    assert history.status_code is None
    assert history.error.startswith("timeout")
    assert history.latency_ms >= 100


def test_an_address_that_became_unsafe_gets_nothing(
    told: Any, receiver: Receiver, settings: LazySettings
) -> None:
    delivery = told()
    settings.ALLOW_LOOPBACK_TARGETS = False
    attempt(delivery, clock.now())
    assert delivery.status == "pending"
    assert receiver.requests == []
    assert DeliveryAttempt.objects.get().status_code is None


def test_410_stops_for_good(told: Any, receiver: Receiver) -> None:
    receiver.answers(Answer(status=410))
    delivery = attempt(told(), clock.now())
    assert (delivery.status, delivery.due_at) == ("disabled", None)


def test_an_endless_answer_is_cut(told: Any, receiver: Receiver) -> None:
    receiver.answers(Answer(chunks=(b"x" * 65_536 for _ in range(1_000_000))))
    assert attempt(told(), clock.now()).status == "delivered"


# --- The schedule -----------------------------------------------------------------------------


def test_ten_attempts_follow_the_schedule_and_then_it_is_given_up(
    told: Any, receiver: Receiver, settings: LazySettings
) -> None:
    receiver.answers(*[Answer(status=503)] * 10)
    delivery, at = told(), clock.now()
    waited_s = []
    for _ in range(10):
        attempt(delivery, at - timedelta(seconds=1))  # too early: nothing happens
        attempt(delivery, at)
        if delivery.due_at:
            waited_s.append((delivery.due_at - at).total_seconds())
            at = delivery.due_at
    assert (delivery.status, delivery.due_at, delivery.attempts) == ("exhausted", None, 10)
    assert len(receiver.requests) == 10
    assert len({request.headers["webhook-id"] for request in receiver.requests}) == 1
    assert DeliveryAttempt.objects.filter(delivery=delivery, status_code=503).count() == 10
    for waited, planned in zip(waited_s, settings.WEBHOOK_RETRY_DELAYS_S, strict=True):
        assert 0.9 * planned <= waited <= 1.1 * planned


def test_a_success_after_failures_ends_it(told: Any, receiver: Receiver) -> None:
    receiver.answers(Answer(status=500), Answer(status=200))
    delivery = attempt(told(), clock.now())
    assert delivery.due_at is not None
    attempt(delivery, delivery.due_at)
    assert (delivery.status, delivery.attempts) == ("delivered", 2)


@pytest.mark.parametrize(
    ("value", "wait_s"),
    [("120", 120), ("Fri, 01 May 2026 12:10:00 GMT", 600), ("99999999", 86_400)],
)
def test_retry_after_is_honoured(told: Any, receiver: Receiver, value: str, wait_s: int) -> None:
    receiver.answers(Answer(status=429, headers={"Retry-After": value}))
    with clock.frozen(NOON):
        delivery = attempt(told(), NOON)
    assert delivery.due_at == NOON + timedelta(seconds=wait_s)


@pytest.mark.parametrize("value", ["soon", "-5", "", "1e3", "Fri, 01 May 2020 12:10:00 GMT"])
def test_a_retry_after_that_makes_no_sense_changes_nothing(told: Any, receiver: Receiver, value: str) -> None:
    receiver.answers(Answer(status=429, headers={"Retry-After": value}))
    with clock.frozen(NOON):
        delivery = attempt(told(), NOON)
    assert delivery.due_at is not None
    assert delivery.due_at - NOON < timedelta(seconds=6)


# --- Leases -----------------------------------------------------------------------------------


def test_a_claimed_delivery_is_left_alone_until_its_lease_ends(
    told: Any, receiver: Receiver, settings: LazySettings
) -> None:
    with clock.frozen(NOON):
        delivery = told()
        assert deliver._claim(delivery)  # and its worker is killed
        assert not deliver._claim(Delivery.objects.get(id=delivery.id))
    attempt(delivery, NOON + timedelta(seconds=settings.WEBHOOK_TIMEOUT_S))
    assert receiver.requests == []
    assert delivery.lease_expires_at
    attempt(delivery, delivery.lease_expires_at)
    assert (delivery.status, delivery.attempts) == ("delivered", 2)
    assert len(receiver.requests) == 1


def test_a_worker_that_lost_its_lease_writes_nothing(told: Any, receiver: Receiver) -> None:
    with clock.frozen(NOON):
        zombie = told()
        deliver._claim(zombie)
    attempt(Delivery.objects.get(id=zombie.id), NOON + timedelta(minutes=1))
    deliver.record(zombie, deliver.Outcome(500, "status 500", 1))
    now = Delivery.objects.get(id=zombie.id)
    assert now.status == "delivered"
    assert DeliveryAttempt.objects.count() == 1


def test_the_database_refuses_a_delivery_that_is_done_and_due(told: Any) -> None:
    delivery = told()
    with pytest.raises(IntegrityError), transaction.atomic():
        Delivery.objects.filter(id=delivery.id).update(status="delivered")
    with pytest.raises(IntegrityError), transaction.atomic():
        Delivery.objects.filter(id=delivery.id).update(due_at=None)


# --- Sweep ------------------------------------------------------------------------------------


def swept(rung: list[Any], capture: Any, at: datetime) -> list[str]:
    """The ids that a sweep at that time rings for."""
    rung.clear()
    with clock.frozen(at), capture(execute=True):
        assert sweep.sweep() <= sweep.BATCH
    assert all(call[::2] == ("webhooks.deliver", "io") for call in rung)
    return [call[1] for call in rung]


def test_the_sweep_rings_what_is_due_and_nothing_else(
    told: Any, rung: list[Any], django_capture_on_commit_callbacks: Any
) -> None:
    with clock.frozen(NOON):
        due, leased, done, later = (told() for _ in range(4))
        deliver._claim(leased)
    Delivery.objects.filter(id=due.id).update(rung_at=None)
    Delivery.objects.filter(id=done.id).update(status="delivered", due_at=None, rung_at=None)
    Delivery.objects.filter(id=later.id).update(due_at=NOON + timedelta(seconds=1), rung_at=None)
    assert swept(rung, django_capture_on_commit_callbacks, NOON) == [str(due.id)]


def test_a_lost_ring_is_rung_again_once_within_seconds(
    told: Any, rung: list[Any], django_capture_on_commit_callbacks: Any
) -> None:
    with clock.frozen(NOON):
        delivery = told()
    rings = [
        swept(rung, django_capture_on_commit_callbacks, NOON + timedelta(seconds=second))
        for second in (2, 4, 6, 8)
    ]
    assert rings == [[], [str(delivery.id)], [], [str(delivery.id)]]


def test_what_a_dead_worker_held_is_rung_for_when_its_lease_ends(
    told: Any, rung: list[Any], django_capture_on_commit_callbacks: Any
) -> None:
    with clock.frozen(NOON):
        delivery = told()
        deliver._claim(delivery)
    delivery.refresh_from_db()
    assert delivery.due_at
    assert swept(rung, django_capture_on_commit_callbacks, delivery.due_at) == [str(delivery.id)]


def test_a_retry_is_rung_for_as_soon_as_it_is_due(
    told: Any, receiver: Receiver, rung: list[Any], django_capture_on_commit_callbacks: Any
) -> None:
    receiver.answers(Answer(status=500))
    delivery = attempt(told(), clock.now())
    assert delivery.due_at
    assert swept(rung, django_capture_on_commit_callbacks, delivery.due_at) == [str(delivery.id)]


def test_workers_that_are_behind_are_not_buried_under_rings(
    told: Any, rung: list[Any], django_capture_on_commit_callbacks: Any
) -> None:
    with clock.frozen(NOON):
        delivery = told()
    bell._broker().rpush("io", *["{}"] * sweep.BACKLOG)
    try:
        early = swept(rung, django_capture_on_commit_callbacks, NOON + timedelta(seconds=59))
        late = swept(rung, django_capture_on_commit_callbacks, NOON + timedelta(seconds=60))
    finally:
        bell._broker().delete("io")
    assert (early, late) == ([], [str(delivery.id)])


def test_the_sweep_reads_the_partial_index(told: Any) -> None:
    told()
    with connection.cursor() as cursor:
        cursor.execute("SET LOCAL enable_seqscan = off")
    assert "delivery_due" in Delivery.objects.due(clock.now()).order_by("due_at").explain()


# --- Hosts that hang --------------------------------------------------------------------------


@pytest.mark.django_db(transaction=True)
def test_a_hanging_host_holds_few_threads_and_does_not_delay_others(
    told: Any, receiver: Receiver, team: Team
) -> None:
    release = threading.Event()
    receiver.answers(*[Answer(hold=lambda: release.wait(10))] * deliver.PER_HOST)
    deliveries = [told() for _ in range(deliver.PER_HOST)]

    def run(delivery_id: uuid.UUID) -> None:
        try:
            deliver.deliver(delivery_id)
        finally:
            connection.close()

    threads = [threading.Thread(target=run, args=(delivery.id,)) for delivery in deliveries]
    for thread in threads:
        thread.start()
    receiver.wait_for(deliver.PER_HOST)

    one_more = told()
    deliver.deliver(one_more.id)
    one_more.refresh_from_db()
    assert (one_more.status, one_more.attempts) == ("pending", 0)
    assert one_more.due_at
    assert one_more.due_at > clock.now()
    assert len(receiver.requests) == deliver.PER_HOST

    elsewhere = told()
    Delivery.objects.filter(id=elsewhere.id).update(url=f"http://localhost:{receiver.port}/")
    deliver.deliver(elsewhere.id)
    elsewhere.refresh_from_db()
    assert elsewhere.status == "delivered"

    release.set()
    for thread in threads:
        thread.join()
    assert Delivery.objects.filter(status="delivered").count() == deliver.PER_HOST + 1
    attempt(one_more, one_more.due_at)
    assert one_more.status == "delivered"
    assert not deliver._in_use


# --- Secrets ----------------------------------------------------------------------------------


def test_a_secret_depends_on_team_version_and_deployment(team: Team, settings: LazySettings) -> None:
    secret = signing.secret_for(team.id, 1)
    assert secret == signing.secret_for(team.id, 1)
    assert secret.startswith("whsec_")
    settings.WEBHOOK_SIGNING_KEY = "another"
    others = {
        signing.secret_for(team.id, 1),
        signing.secret_for(team.id, 2),
        signing.secret_for(uuid.uuid4(), 1),
    }
    assert secret not in others
    assert len(others) == 3


def test_the_body_that_is_signed_is_json_without_spaces() -> None:
    assert emit.body_of({"b": 1, "a": "ü"}) == b'{"a":"\\u00fc","b":1}'
    assert json.loads(emit.body_of({"a": "ü"})) == {"a": "ü"}
