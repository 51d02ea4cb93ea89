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


class BatchStatus(models.TextChoices):
    """Of what was sent to a provider together. `started` is committed before the paid call, as of an attempt."""

    STARTED = "started", "started: the provider may or may not know of it"
    SUBMITTED = "submitted", "submitted: the provider gave a ticket"
    ENDED = "ended", "ended: every order in it was handed to its job"
    FAILED = "failed", "failed: the provider took none of it"


class CachePolicy(models.TextChoices):
    """What may answer a job instead of a new generation; each includes those before it."""

    OFF = "off"
    EXACT = "exact", "exact: the same request"
    CANONICAL = "canonical", "canonical: and certain rewordings of it"
    SEMANTIC = "semantic", "semantic: and look-alikes that the guard lets pass"
    ACCOUNT = "account", "account: canonical, and semantic as the team has it"


class CacheTier(models.TextChoices):
    """What did answer it. `shared`: it waited for an equal request that was already on its way."""

    EXACT = "exact"
    CANONICAL = "canonical"
    SEMANTIC = "semantic"
    SHARED = "shared"


class Flight(models.TextChoices):
    """Equal requests at once: one buys, the others wait for it."""

    ALONE = "", "alone"
    LEADS = "leads"
    FOLLOWS = "follows"


class Feedback(models.TextChoices):
    NONE = "", "none"
    WRONG_MATCH = "wrong_match"
    BAD_QUALITY = "bad_quality"
    GOOD = "good"
