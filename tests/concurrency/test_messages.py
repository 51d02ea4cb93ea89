"""Every message delivered three times, out of order, to workers side by side: the same as delivered once."""

import random
from collections import Counter

import pytest

from apps.jobs import sweep
from apps.jobs.models import Attempt, Job
from tests.concurrency.workers import work_off
from tests.fakes.receiver import Receiver
from tests.jobs import bells
from tests.jobs.engine import Engine

pytestmark = pytest.mark.django_db(transaction=True)

JOBS = 12
# Once in the order they were sent; then as a broker that redelivers everything to everybody.
WAYS = {
    "one worker, one copy": (1, 1),
    "two workers, three copies": (2, 3),
    "eight workers, three copies": (8, 3),
}


@pytest.mark.parametrize(("workers", "copies"), WAYS.values(), ids=WAYS.keys())
def test_doubled_and_shuffled_messages_change_nothing(engine: Engine, workers: int, copies: int) -> None:
    shuffle = random.Random(copies)
    bells.clear("io")
    bells.clear("cpu")
    prompts = [
        "a fox [time:0.1]",
        "[fault:500*1] an owl",
        "[fault:truncated*1] a bear",
        "[fault:nsfw] a wolf",
    ]
    with Receiver() as customer:
        jobs = [
            engine.submit(prompts[n % 4] + f" {n}", callback_url=customer.url if n % 4 == 0 else None)
            for n in range(JOBS)
        ]
        for _ in range(300):
            work_off(workers=workers, copies=copies, shuffle=shuffle)
            if not Job.objects.open().exists() and not bells.waiting("io"):
                break
            engine.time.forward(1)
            sweep.due_jobs()
        told = [request.headers["webhook-id"] for request in customer.requests]

    ends = Counter((job.status, job.error_code, job.cost_usd) for job in map(engine.fresh, jobs))
    assert {(status, code, str(cost.normalize())): n for (status, code, cost), n in ends.items()} == {
        ("completed", "", "0.005"): 9,
        ("failed", "content_rejected", "0"): 3,
    }
    assert Counter(Attempt.objects.values_list("status", flat=True)) == {
        "accepted": 9,
        "failed": 3,
        "rejected": 6,
    }
    assert len(engine.submits()) == Attempt.objects.count()
    assert len(told) == len(set(told)) == 3
    for job in jobs:
        assert engine.moves(job)[1:] == [("queued", "running"), ("running", engine.fresh(job).status)]
