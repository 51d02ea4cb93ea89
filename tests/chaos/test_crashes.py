"""Processes die, Redis forgets, webhooks get lost: every job still ends, once, and the bills are equal."""

import signal
import subprocess

import pytest

from tests.chaos.crowd import Crowd
from tests.stack import Stack

pytestmark = pytest.mark.timeout(300)

# A worker that is back finishes within this, the leases of the dead one included.
RECOVERY_S = 40
# A job whose webhook is lost is asked for after this at the latest.
LONGEST_POLL_S = 30
# One second at the stack's time scale.
A_SECOND = "[time:20]"


def recovery_s(count: int) -> float:
    return RECOVERY_S + count / 10


def test_the_io_worker_killed_while_the_provider_generates(stack: Stack, count: int) -> None:
    crowd = Crowd(stack, count, f"a fox {A_SECOND}")
    crowd.until(lambda found: found["submitted"] >= count // 2, within_s=60)
    crowd.until(lambda found: found["started"] == found[""] == 0, within_s=60)
    stack.kill("io")
    stack.restart("io")
    crowd.end(within_s=recovery_s(count))
    crowd.all_completed_once()


def test_the_io_worker_killed_while_it_orders(stack: Stack, count: int) -> None:
    """Nobody can say whether those orders arrived: none is sent again to whom it went, what arrived is delivered, and
    about what was never heard of another provider is asked."""
    crowd = Crowd(stack, count, f"[fault:hang=1] a fox {A_SECOND}")
    crowd.until(lambda found: found["started"] >= 10, within_s=60)
    stack.kill("io")
    stack.restart("io")
    crowd.end(within_s=recovery_s(count) + 60)
    assert max(crowd.purchases(taken=True)) == 1
    assert set(crowd.errors()) <= {"", "provider_outcome_unknown"}
    # The killed worker's orders are known to have no known end.
    assert stack.sql("SELECT count(*) FROM jobs_attempt WHERE status = 'unknown'")[0][0] >= 1
    crowd.bills_agree()


@pytest.mark.long
def test_the_io_worker_killed_while_it_fetches(stack: Stack, count: int) -> None:
    crowd = Crowd(stack, count, f"a fox {A_SECOND}")
    crowd.until(lambda found: found["started"] == found[""] == 0, within_s=60)
    crowd.until(lambda found: found["fetched"] + found["accepted"] >= 1, within_s=60)
    stack.kill("io")
    stack.restart("io")
    crowd.end(within_s=recovery_s(count))
    crowd.all_completed_once()


def test_the_cpu_worker_killed_while_it_validates(stack: Stack, count: int) -> None:
    crowd = Crowd(stack, count, "a fox")
    crowd.until(lambda found: found["accepted"] >= 1, within_s=60)
    stack.kill("cpu")
    stack.restart("cpu")
    crowd.end(within_s=recovery_s(count))
    crowd.all_completed_once()


@pytest.mark.long
def test_the_web_process_killed_while_the_provider_announces(stack: Stack, count: int) -> None:
    crowd = Crowd(stack, count, f"a fox {A_SECOND}")
    stack.kill("web")
    stack.restart("web")
    crowd.end(within_s=recovery_s(count))
    crowd.all_completed_once()


def test_redis_forgets_everything_twice(stack: Stack, count: int) -> None:
    crowd = Crowd(stack, count, f"a fox {A_SECOND}")
    stack.redis.flushall()
    crowd.until(lambda found: found["fetched"] + found["accepted"] >= 1, within_s=60)
    stack.redis.flushall()
    crowd.end(within_s=recovery_s(count))
    crowd.all_completed_once()


def test_after_redis_forgot_everything_new_jobs_are_rung_again(stack: Stack) -> None:
    stack.redis.flushall()
    stack.kill("beat")
    crowd = Crowd(stack, 5, "a fox")
    crowd.end(within_s=RECOVERY_S)
    crowd.all_completed_once()


def test_no_webhook_of_the_provider_arrives(stack: Stack, count: int) -> None:
    crowd = Crowd(stack, count, "[fault:lost-webhook] a fox")
    # The first poll comes when half of such jobs were done lately, and lately workers were killed.
    crowd.end(within_s=recovery_s(count) + LONGEST_POLL_S)
    crowd.all_completed_once()


def test_without_beat_jobs_go_their_usual_way(stack: Stack, count: int) -> None:
    stack.kill("beat")
    crowd = Crowd(stack, count, "a fox")
    crowd.end(within_s=recovery_s(count))
    crowd.all_completed_once()


@pytest.mark.long
def test_beat_comes_back_to_what_was_lost_in_its_absence(stack: Stack, count: int) -> None:
    stack.kill("beat")
    crowd = Crowd(stack, count, f"[fault:lost-webhook] a fox {A_SECOND}")
    stack.redis.flushall()
    stack.restart("beat")
    crowd.end(within_s=recovery_s(count))
    crowd.all_completed_once()


def test_a_worker_asked_to_end_loses_nothing(stack: Stack, count: int) -> None:
    crowd = Crowd(stack, count, f"a fox {A_SECOND}")
    crowd.until(lambda found: found["submitted"] >= 1, within_s=60)
    running = stack.supervisor.watched["io"].child
    assert running
    running.send_signal(signal.SIGTERM)
    assert ended_politely(running, within_s=30)
    stack.restart("io")
    crowd.end(within_s=recovery_s(count))
    crowd.all_completed_once()


def ended_politely(process: "subprocess.Popen[bytes]", *, within_s: float) -> bool:
    return process.wait(within_s) == 0
