"""Many jobs at once on a running stack, and the questions asked of them afterwards."""

import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal
from typing import Any

import httpx
from prometheus_client.parser import text_string_to_metric_families

from tests.stack import Stack

_CLIENTS = 8
_LOOK_EVERY_S = 0.05
_COUNTED_WITHIN_S = 20


class Crowd:
    """`count` small image jobs of one user, submitted over HTTP. `changes`: what their requests say otherwise."""

    def __init__(self, stack: Stack, count: int, prompt: str, **changes: Any) -> None:
        client = stack.client()
        body = {
            "type": "image",
            "prompt": prompt,
            "model": "fast-draft",
            "params": {"width": 64, "height": 64},
            "cache": "off",
            **changes,
        }

        def submit(_: int) -> str:
            answer = client.post("/v1/jobs", json=body)
            assert answer.status_code == 202, answer.text
            return str(answer.json()["id"])

        with ThreadPoolExecutor(_CLIENTS) as clients:
            self.stack, self.ids = stack, list(clients.map(submit, range(count)))

    @classmethod
    def of(cls, stack: Stack, ids: list[str]) -> "Crowd":
        """Jobs that somebody else submitted."""
        crowd = cls(stack, 0, "")
        crowd.ids = ids
        return crowd

    def until(self, enough: Callable[[Counter[str]], bool], *, within_s: float) -> None:
        """Returns when `enough` of the statuses of the jobs' newest attempts ("" for none) is true."""
        until = time.monotonic() + within_s
        while not enough(found := self.attempts()):
            assert time.monotonic() < until, (found, self.statuses(), self.stragglers())
            time.sleep(_LOOK_EVERY_S)

    def end(self, *, within_s: float) -> float:
        """Waits until all jobs have ended; how long that took."""
        started = time.monotonic()
        while not self.statuses().keys() <= {"completed", "failed", "canceled"}:
            took = time.monotonic() - started
            assert took < within_s, (self.statuses(), self.attempts(), self.stragglers())
            time.sleep(_LOOK_EVERY_S)
        return time.monotonic() - started

    def statuses(self) -> Counter[str]:
        rows = self.stack.sql(
            "SELECT status, count(*) FROM jobs_job WHERE id = ANY(%s::uuid[]) GROUP BY 1", self.ids
        )
        return Counter(dict(rows))

    def attempts(self) -> Counter[str]:
        """The jobs by the status of their newest attempt, "" if there is none."""
        rows = self.stack.sql(
            """
            SELECT COALESCE((SELECT status FROM jobs_attempt a WHERE a.job_id = j.id ORDER BY number DESC LIMIT 1), ''),
                   count(*)
            FROM jobs_job j WHERE id = ANY(%s::uuid[]) GROUP BY 1
            """,
            self.ids,
        )
        return Counter(dict(rows))

    def purchases(self, *, taken: bool = False) -> Counter[int]:
        """How many orders of each job reached a provider (`taken`: were taken by one) → how many jobs."""
        rows = self.stack.sql(
            "SELECT id::text, job_id::text FROM jobs_attempt WHERE job_id = ANY(%s::uuid[])", self.ids
        )
        job_of = dict(rows)
        submits = provider_ledger(self.stack)["submits"]
        if taken:
            submits = [row for row in submits if row["outcome"] == "accepted"]
        per_job = Counter(job_of[attempt] for row in submits if (attempt := _attempt_of(row)) in job_of)
        return Counter(per_job[job_id] for job_id in self.ids)

    def errors(self) -> Counter[str]:
        rows = self.stack.sql(
            "SELECT error_code, count(*) FROM jobs_job WHERE id = ANY(%s::uuid[]) GROUP BY 1", self.ids
        )
        return Counter(dict(rows))

    def stragglers(self) -> list[tuple[Any, ...]]:
        """For a failing test: where the jobs stand that have not ended."""
        return self.stack.sql(
            """
            SELECT j.id::text, j.status, j.crashes, (j.due_at - now())::text AS due, (j.lease_expires_at - now())::text,
                   (j.rung_at - now())::text, a.status, a.polls, a.ticket IS NOT NULL
            FROM jobs_job j LEFT JOIN jobs_attempt a ON a.job_id = j.id
            WHERE j.id = ANY(%s::uuid[]) AND j.finished_at IS NULL LIMIT 10
            """,
            self.ids,
        )

    def all_completed_once(self) -> None:
        """Every job is completed, was bought once, and every dollar is where it belongs."""
        assert self.statuses() == {"completed": len(self.ids)}, self.errors()
        assert self.purchases() == {1: len(self.ids)}
        self.bills_agree()

    def bills_agree(self) -> None:
        """Our books agree with each other and with the provider's bill, and the counters with the database."""
        self.counters_agree()
        self.stack.manage("reconcile", "--all")
        booked = self.stack.sql(
            """
            SELECT COALESCE(sum(amount_usd), 0) FROM ledger_entry
            WHERE kind IN ('capture', 'charge', 'platform_absorbed')
            """
        )[0][0]
        assert provider_charges(self.stack) == booked

    def counters_agree(self) -> None:
        """Prometheus is told of as many ended jobs as there are, by status: at once, but for those that beat is
        counting while it asks."""
        deadline = time.monotonic() + _COUNTED_WITHIN_S
        while (counted := self._counted()) != (ended := self._ended()):
            assert time.monotonic() < deadline, (counted, ended)
            time.sleep(_LOOK_EVERY_S)

    def _ended(self) -> Counter[str]:
        rows = self.stack.sql(
            "SELECT status, count(*) FROM jobs_job WHERE finished_at IS NOT NULL GROUP BY status"
        )
        return Counter(dict(rows))

    def _counted(self) -> Counter[str]:
        counted: Counter[str] = Counter()
        for family in text_string_to_metric_families(httpx.get(f"{self.stack.url}/metrics", timeout=30).text):
            for sample in family.samples:
                if sample.name == "generation_requests_total":
                    counted[sample.labels["status"]] += int(sample.value)
        return counted


def _attempt_of(submit: dict[str, Any]) -> str:
    """The key of an order is its attempt's id; without a key (fal has none) it ends the webhook's address."""
    return str(submit["idempotency_key"] or (submit["webhook_url"] or "").rpartition("/")[2])


def provider_ledger(stack: Stack) -> dict[str, list[dict[str, Any]]]:
    rows: dict[str, list[dict[str, Any]]] = (
        httpx.get(f"{stack.simulator_url}/admin/ledger", timeout=30).raise_for_status().json()
    )
    return rows


def provider_charges(stack: Stack) -> Decimal:
    summary = httpx.get(f"{stack.simulator_url}/admin/summary", timeout=30).raise_for_status().json()
    return Decimal(summary["charged_usd"])
