"""A job and what was tried for it, in one statement and without the ORM's general path, which costs more than it."""

import uuid
from collections.abc import Sequence
from itertools import groupby
from typing import Any

from apps.core import rows
from apps.jobs.models import Attempt, Job

# For `SELECT {COLUMNS} FROM … j LEFT JOIN jobs_attempt a ON a.job_id = j.id ORDER BY a.number`.
COLUMNS = f"{rows.columns(Job, 'j')}, {rows.columns(Attempt, 'a')}"
_OF_JOB = len(Job._meta.concrete_fields)

_OF_USER = f"""
SELECT {COLUMNS} FROM jobs_job j LEFT JOIN jobs_attempt a ON a.job_id = j.id
WHERE j.id = %(job_id)s AND j.user_id = %(user_id)s ORDER BY a.number
"""  # noqa: S608 - only our own constants are interpolated


def of_user(job_id: uuid.UUID, user_id: uuid.UUID) -> Job | None:
    """The user's job with its `past`; None if there is none, or it is somebody else's."""
    return joined(rows.select(_OF_USER, {"job_id": job_id, "user_id": user_id}))


def joined_each(found: Sequence[tuple[Any, ...]]) -> list[Job]:
    """The jobs of these rows of COLUMNS, which are sorted by job, each with its `past`."""
    each = (joined(list(those)) for _, those in groupby(found, key=lambda row: row[0]))
    return [job for job in each if job]


def joined(found: Sequence[tuple[Any, ...]]) -> Job | None:
    """The job of these rows of COLUMNS, with its `past`; None without rows."""
    if not found:
        return None
    job = rows.make(Job, found[0][:_OF_JOB])
    tried = (row[_OF_JOB:] for row in found)
    # A job without attempts comes with one that has no id.
    job.past = [rows.make(Attempt, row) for row in tried if row[0] is not None]
    return job
