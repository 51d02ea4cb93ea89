"""The API over HTTP as a client sees it, in process; the provider is the simulator, driven step by step."""

from collections.abc import Callable, Iterator

import pytest
from django.conf import LazySettings

from apps.accounts import caller
from apps.catalog import snapshot, sync
from apps.core import clock
from apps.jobs import run, validate
from apps.jobs.models import Attempt, Job
from apps.jobs.states import AttemptStatus
from apps.ledger.models import Entry, Hold
from apps.ops import reconcile
from tests import factories
from tests.factories import Someone
from tests.fakes import simulator as fake

simulator_process = fake.simulator_process
simulator = fake.simulator


@pytest.fixture(autouse=True)
def _catalog(db: None) -> Iterator[None]:
    """The standard catalog, nobody and nothing remembered."""
    caller.forget()
    snapshot.forget()
    sync.sync()
    yield
    caller.forget()
    snapshot.forget()


@pytest.fixture(autouse=True)
def _books(_catalog: None) -> Iterator[None]:
    """Whatever a test does, the books agree afterwards."""
    yield
    assert reconcile.differences() == []


@pytest.fixture
def pro() -> Someone:
    return factories.someone()


@pytest.fixture
def stored() -> Callable[[], tuple[int, int, int]]:
    """How many jobs, holds and postings there are."""
    return lambda: (Job.objects.count(), Hold.objects.count(), Entry.objects.count())


@pytest.fixture
def work(simulator: fake.Simulator, settings: LazySettings) -> Callable[[str], Job]:
    """Takes a job's steps, each when it is due, until the job ends. The provider takes no time."""
    simulator.settings(time_scale=0)
    settings.PROVIDERS = {"wavespeed": simulator.provider_settings}
    return _until_ended


def _until_ended(job_id: str) -> Job:
    for _ in range(100):
        job = Job.objects.get(pk=job_id)
        if job.has_ended or job.due_at is None:
            return job
        with clock.frozen(max(job.due_at, clock.now())):
            fetched = Attempt.objects.filter(job=job, status=AttemptStatus.FETCHED).exists()
            (validate.validate if fetched else run.run)(job.pk)
    raise AssertionError(f"{job_id} did not end")
