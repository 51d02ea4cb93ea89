"""The words of a job's and an attempt's life. A job only moves forward."""

from django.db import models


class JobStatus(models.TextChoices):
    QUEUED = "queued"
    RUNNING = "running"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELED = "canceled"


OPEN = (JobStatus.QUEUED, JobStatus.RUNNING)
ENDED = (JobStatus.COMPLETED, JobStatus.FAILED, JobStatus.CANCELED)


class AttemptStatus(models.TextChoices):
    """`started` is committed before the paid call; every attempt ends in one of the last five."""

    STARTED = "started", "started: the provider may or may not know of it"
    SUBMITTED = "submitted", "submitted: the provider gave a ticket"
    FETCHED = "fetched", "fetched: the output is ours, not yet checked"
    ACCEPTED = "accepted"
    REJECTED = "rejected", "rejected: the output failed validation"
    FAILED = "failed"
    CANCELED = "canceled"
    UNKNOWN = "unknown", "unknown: what the provider did can't be known yet"


IN_PROGRESS = (AttemptStatus.STARTED, AttemptStatus.SUBMITTED, AttemptStatus.FETCHED)


class Review(models.TextChoices):
    """Whether ops has to allow the job before it is run."""

    NONE = "", "not needed"
    PENDING = "pending"
    APPROVED = "approved"
    REJECTED = "rejected"


class Billed(models.TextChoices):
    """Whether the provider charges us for the attempt."""

    NO = "no"
    YES = "yes"
    UNKNOWN = "unknown"


class Kind(models.TextChoices):
    IMAGE = "image"
    VIDEO = "video"
    AUDIO = "audio"


class Priority(models.TextChoices):
    INTERACTIVE = "interactive"
    BATCH = "batch"


class CachePolicy(models.TextChoices):
    OFF = "off"
    EXACT = "exact"
