"""What came of the items, as JSON lines in the order that they were sent in: page by page, so that neither memory nor a
transaction grows with the batch."""

import heapq
import json
import uuid
from collections.abc import Iterator
from typing import Any, Final

from apps.batches import documents
from apps.batches.models import Batch
from apps.core import money, rows
from apps.jobs import documents as job_documents

_PAGE: Final = 500
_NONE: Final = uuid.UUID(int=0)

_ENDED = """
SELECT id, custom_id, status, outputs, cost_usd, cached_from IS NOT NULL, error_code, error_message, error_retryable
FROM jobs_job WHERE batch_id = %(batch_id)s AND id > %(after)s AND due_at IS NULL ORDER BY id LIMIT %(page)s
"""


def lines(batch: Batch) -> Iterator[bytes]:
    """One JSON object with a newline for each item that has ended and each line that was refused."""
    parts = [_ended(batch), _refused(batch)] if batch.refused else [_ended(batch)]
    for _, document in heapq.merge(*parts, key=lambda part: part[0]):
        yield json.dumps(document, ensure_ascii=False, separators=(",", ":")).encode() + b"\n"


def _ended(batch: Batch) -> Iterator[tuple[uuid.UUID, dict[str, Any]]]:
    after = _NONE
    while page := rows.select(_ENDED, {"batch_id": batch.pk, "after": after, "page": _PAGE}):
        rows.let_go()
        for found in page:
            yield found[0], _document(*found)
        after = page[-1][0]


def _document(
    job_id: uuid.UUID,
    custom_id: str,
    status: str,
    outputs: str,
    cost_usd: Any,
    cached: bool,
    code: str,
    message: str,
    retryable: bool,
) -> dict[str, Any]:
    return {
        "custom_id": custom_id,
        "job_id": str(job_id),
        "status": status,
        "cached": cached,
        "cost_usd": money.text(cost_usd),
        "outputs": [job_documents.output(kept) for kept in json.loads(outputs)],
        "error": {"code": code, "message": message, "retryable": retryable} if code else None,
        "errors": [],
    }


def _refused(batch: Batch) -> Iterator[tuple[uuid.UUID, dict[str, Any]]]:
    after = _NONE
    while page := list(batch.refusals.filter(pk__gt=after).order_by("id")[:_PAGE]):
        rows.let_go()
        for refusal in page:
            yield (
                refusal.pk,
                {
                    "custom_id": refusal.custom_id or None,
                    "job_id": None,
                    "status": "refused",
                    "cached": False,
                    "cost_usd": "0",
                    "outputs": [],
                    "error": None,
                    "errors": documents.faults(refusal),
                },
            )
        after = page[-1].pk
