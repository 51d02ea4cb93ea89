"""Ops' pages of the work: jobs with their attempts and events. All of it is history; a job can only be canceled."""

import uuid
from collections.abc import Callable, Iterable
from datetime import datetime
from typing import Any

from django import forms
from django.contrib import admin, messages
from django.contrib.admin.helpers import ActionForm
from django.db.models import Prefetch, QuerySet
from django.http import HttpRequest
from django.urls import reverse
from django.utils.html import format_html_join
from django.utils.safestring import SafeString

from apps.artifacts import preview
from apps.catalog.models import GenerationModel
from apps.core import clock
from apps.core.admin import HistoryAdmin, HistoryInline, Since, WordFilter, badge, bar, link, usd
from apps.jobs import cancel, documents, override, review
from apps.jobs.models import Attempt, Job, JobEvent, ProviderBatch
from apps.jobs.states import AttemptStatus, BatchStatus, Billed, JobStatus
from apps.providers.admin import ProviderFilter

_COLOURS: dict[str, str] = {
    JobStatus.QUEUED: "",
    JobStatus.RUNNING: "info",
    JobStatus.COMPLETED: "success",
    JobStatus.FAILED: "danger",
    JobStatus.CANCELED: "warning",
    AttemptStatus.STARTED: "info",
    AttemptStatus.SUBMITTED: "info",
    AttemptStatus.FETCHED: "info",
    AttemptStatus.ACCEPTED: "success",
    AttemptStatus.REJECTED: "danger",
    AttemptStatus.UNKNOWN: "warning",
    BatchStatus.ENDED: "success",
    Billed.YES: "info",
}


_CHECK_COLOURS = {"passed": "success", "failed": "danger", "error": "warning"}


class _WithReason(ActionForm):
    """What is decided about an output says why."""

    reason = forms.CharField(required=False, max_length=200, label="Reason")


def _previews(outputs: Iterable[dict[str, Any]]) -> SafeString:
    shown = ((preview.html(output["artifact_id"], output["media_type"], height=180),) for output in outputs)
    return format_html_join(" ", "{}", shown)


def _tab(title: str, *fields: str | tuple[str, ...]) -> Any:
    return title, {"classes": ["tab"], "fields": fields}


class ModelFilter(WordFilter):
    title = parameter_name = "model"

    def words(self) -> Iterable[str]:
        return GenerationModel.objects.order_by("slug").values_list("slug", flat=True)


def _after(job: Job, at: datetime) -> str:
    """Seconds since the job was accepted."""
    return f"{(at - job.created_at).total_seconds():.2f}\u00a0s"


class _AttemptColumns:
    """What a list of attempts shows, on a job's page and on its own."""

    @admin.display(description="status")
    def state(self, attempt: Attempt) -> SafeString:
        shown = f"{attempt.status}, one of two" if attempt.hedged else attempt.status
        return badge(shown, _COLOURS.get(attempt.status, ""))

    @admin.display(description="began after")
    def began_after(self, attempt: Attempt) -> str:
        return _after(attempt.job, attempt.started_at)

    @admin.display(description="took")
    def took(self, attempt: Attempt) -> str:
        return f"{attempt.latency_s(clock.now()):.2f}\u00a0s"

    @admin.display(description="price")
    def price(self, attempt: Attempt) -> str:
        return usd(attempt.price_usd)

    @admin.display(description="error")
    def error(self, attempt: Attempt) -> str:
        return (
            f"{attempt.error_kind}: {attempt.error_message}" if attempt.error_kind else attempt.error_message
        )


class AttemptInline(_AttemptColumns, HistoryInline):
    model = Attempt
    verbose_name_plural = "Attempts"
    fields = ("which", "provider", "state", "began_after", "took", "price", "billed", "polls", "error")
    readonly_fields = fields
    ordering = ("number",)

    def get_queryset(self, request: HttpRequest) -> QuerySet[Attempt]:
        return super().get_queryset(request).select_related("job")

    @admin.display(description="attempt")
    def which(self, attempt: Attempt) -> SafeString:
        return link(Attempt, attempt.pk, f"#{attempt.number}")


class EventInline(HistoryInline):
    model = JobEvent
    verbose_name_plural = "Events"
    fields = ("at", "after", "from_status", "to_status")
    readonly_fields = fields
    ordering = ("id",)

    def get_queryset(self, request: HttpRequest) -> QuerySet[JobEvent]:
        return super().get_queryset(request).select_related("job")

    @admin.display(description="after")
    def after(self, event: JobEvent) -> str:
        return _after(event.job, event.at)


@admin.register(Job)
class JobAdmin(HistoryAdmin):
    list_display = ("id", "user", "team", "type", "model", "state", "phase", "cost", "created_at")
    list_filter = ("status", "review", "type", ModelFilter, Since)
    list_select_related = ("user", "team")
    # Not the prompt: no index could serve it.
    search_owner = "user"
    search_ids = ("pk", "attempts__pk", "batch_id", "user_id")
    search_help_text = "The id of a job, attempt, batch or user, or a part of a user's name"
    ordering = ("-id",)
    actions = ("cancel", "approve", "reject")
    inlines = (AttemptInline, EventInline)
    fieldsets = (
        (
            None,
            {
                "fields": (
                    ("state", "phase"),
                    ("user", "team"),
                    ("type", "model"),
                    "results",
                    "error",
                    "related",
                )
            },
        ),
        _tab(
            "Request",
            ("batch_id", "custom_id"),
            "prompt",
            "params",
            "requirements",
            "metadata",
            "callback_url",
            "idempotency_key",
        ),
        _tab("Money", ("cost", "estimated"), ("saved", "source"), "quote"),
        _tab(
            "Times",
            ("created_at", "started_at", "finished_at"),
            ("deadline_at", "due_at", "rung_at"),
            ("lease", "lease_expires_at", "crashes"),
            "cancel_requested_at",
        ),
        _tab(
            "Decisions",
            ("priority", "cache"),
            ("review", "findings"),
            "selection",
            "quality",
            "waiting_for",
            "skipped",
        ),
    )

    def get_queryset(self, request: HttpRequest) -> QuerySet[Job]:
        timeline = Prefetch("attempts", Attempt.objects.order_by("number"), to_attr="timeline")
        return super().get_queryset(request).prefetch_related(timeline)

    def has_cancel_permission(self, request: HttpRequest) -> bool:
        return bool(request.user.has_perm("jobs.change_job"))

    @admin.action(description="Cancel", permissions=["cancel"])
    def cancel(self, request: HttpRequest, queryset: QuerySet[Job]) -> None:
        asked = [job for job in queryset if cancel.ask(job.pk)]
        for job in asked:
            self.log_change(request, job, "asked to cancel")
        self.message_user(request, f"{len(asked)} jobs will be canceled at their next touch")

    @admin.action(description="Approve after review", permissions=["cancel"])
    def approve(self, request: HttpRequest, queryset: QuerySet[Job]) -> None:
        self._decide(request, queryset, review.approve, "approved after review")

    @admin.action(description="Reject after review", permissions=["cancel"])
    def reject(self, request: HttpRequest, queryset: QuerySet[Job]) -> None:
        self._decide(request, queryset, review.reject, "rejected after review")

    def _decide(
        self,
        request: HttpRequest,
        queryset: QuerySet[Job],
        decide: Callable[[uuid.UUID], bool],
        what: str,
    ) -> None:
        decided = [job for job in queryset if decide(job.pk)]
        for job in decided:
            self.log_change(request, job, what)
        self.message_user(request, f"{len(decided)} jobs {what}")

    @admin.display(description="status", ordering="status")
    def state(self, job: Job) -> SafeString:
        return badge(job.status, _COLOURS[job.status])

    @admin.display(description="phase")
    def phase(self, job: Any) -> str:
        attempt = job.timeline[-1] if job.timeline else None
        done = documents.progress(job, attempt, clock.now())
        return documents.phase(job, attempt) + (f" {done:.0%}" if job.status == JobStatus.RUNNING else "")

    @admin.display(description="cost", ordering="cost_usd")
    def cost(self, job: Job) -> str:
        return f"{usd(job.cost_usd)} (cached)" if job.is_cached else usd(job.cost_usd)

    @admin.display(description="estimated")
    def estimated(self, job: Job) -> str:
        return usd(job.estimated_cost_usd)

    @admin.display(description="saved by the cache")
    def saved(self, job: Job) -> str:
        return usd(job.saved_usd)

    @admin.display(description="served again from")
    def source(self, job: Job) -> SafeString | str:
        return link(Job, job.cached_from, str(job.cached_from)) if job.cached_from else ""

    @admin.display(description="outputs")
    def results(self, job: Job) -> SafeString:
        return _previews(job.outputs)

    @admin.display(description="error")
    def error(self, job: Job) -> str:
        if not job.error_code:
            return ""
        return f"{job.error_code}: {job.error_message}" + (" (retryable)" if job.error_retryable else "")

    @admin.display(description="see also")
    def related(self, job: Job) -> SafeString:
        """What other rooms know under the job's id: they do not know that it is a job."""
        pages = (("Money", "ledger_entry"), ("Webhooks", "webhooks_delivery"))
        rows = ((f"{reverse(f'admin:{page}_changelist')}?q={job.pk}", title) for title, page in pages)
        return format_html_join(" · ", '<a class="text-link" href="{}">{}</a>', rows)


@admin.register(Attempt)
class AttemptAdmin(_AttemptColumns, HistoryAdmin):
    list_display = (
        "id",
        "of_job",
        "number",
        "provider",
        "model",
        "state",
        "took",
        "price",
        "billed",
        "error_kind",
    )
    list_filter = ("status", "billed", ProviderFilter, Since)
    list_select_related = ("job",)
    search_owner = "job__user"
    search_ids = ("pk", "job_id")
    search_help_text = "The id of an attempt or a job, or a part of a user's name"
    ordering = ("-id",)

    action_form = _WithReason
    actions = ("accept", "reject", "take_down")

    def has_overrule_permission(self, request: HttpRequest) -> bool:
        return bool(request.user.has_perm("jobs.change_attempt"))

    @admin.action(description="Accept what was refused (needs a reason)", permissions=["overrule"])
    def accept(self, request: HttpRequest, queryset: QuerySet[Attempt]) -> None:
        self._overrule(request, queryset, override.accept, "accepted")

    @admin.action(description="Withdraw what was delivered (needs a reason)", permissions=["overrule"])
    def reject(self, request: HttpRequest, queryset: QuerySet[Attempt]) -> None:
        self._overrule(request, queryset, override.reject, "withdrawn")

    @admin.action(
        description="Take down: neither it nor what looks like it again (needs a reason)",
        permissions=["overrule"],
    )
    def take_down(self, request: HttpRequest, queryset: QuerySet[Attempt]) -> None:
        self._overrule(request, queryset, override.take_down, "taken down")

    def _overrule(
        self, request: HttpRequest, queryset: QuerySet[Attempt], decide: Callable[..., None], what: str
    ) -> None:
        reason = request.POST.get("reason", "").strip()
        if not reason:
            self.message_user(request, "Say why: a decision needs a reason", messages.ERROR)
            return
        for attempt in queryset:
            try:
                decide(attempt, reason=reason, by=request.user.get_username())
            except override.NothingToOverrule as error:
                self.message_user(request, str(error), messages.WARNING)
            else:
                self.log_change(request, attempt, f"{what}: {reason}")
                self.message_user(request, f"Attempt {attempt.number} {what}")

    @admin.display(description="outputs")
    def results(self, attempt: Attempt) -> SafeString:
        return _previews(attempt.outputs)

    @admin.display(description="checks")
    def checks(self, attempt: Attempt) -> SafeString:
        """One line for each: what it found, beside the picture."""
        found = (attempt.quality or {}).get("checks", ())
        lines = (
            (
                badge(check["status"], _CHECK_COLOURS.get(check["status"], "")),
                check["name"],
                "" if check["score"] is None else f"{check['score']:.2f}",
                "; ".join(check["details"].get("problems", ())) or check["details"].get("why", ""),
            )
            for check in found
        )
        return format_html_join("", "<div>{} {} {} {}</div>", lines)

    def get_fields(self, request: HttpRequest, obj: Attempt | None = None) -> list[Any]:
        return [
            "of_job",
            ("results", "checks"),
            *(field.name for field in Attempt._meta.fields if field.name != "job"),
        ]

    @admin.display(description="job")
    def of_job(self, attempt: Attempt) -> SafeString:
        return link(Job, attempt.job_id, str(attempt.job_id))


@admin.register(ProviderBatch)
class ProviderBatchAdmin(HistoryAdmin):
    list_display = (
        *(
            "created_at",
            "provider",
            "provider_model",
            "state",
            "progress",
            "fill",
            "waited",
            "provider_status",
        ),
        *("saved", "due_at"),
    )
    list_filter = (ProviderFilter, "status")
    search_fields = ("provider", "provider_model")
    search_ids = ("id", "attempts__job_id")
    search_help_text = "The id of a batch or of a job in it, a provider or its model"
    ordering = ("-id",)

    @admin.display(description="status", ordering="status")
    def state(self, batch: ProviderBatch) -> SafeString:
        return badge(batch.get_status_display().partition(":")[0], _COLOURS.get(batch.status, ""))

    @admin.display(description="done")
    def progress(self, batch: ProviderBatch) -> SafeString:
        """A bar, as far as the provider tells."""
        done = batch.size if batch.status == BatchStatus.ENDED else batch.done
        return bar(f"{done} of {batch.size}", ("ended there", done / batch.size, "green"))

    @admin.display(description="orders")
    def fill(self, batch: ProviderBatch) -> str:
        return f"{batch.size} of {batch.room}"

    @admin.display(description="waited", ordering="waited_s")
    def waited(self, batch: ProviderBatch) -> str:
        return f"{batch.waited_s:.1f} s"

    @admin.display(description="saved", ordering="saved_usd")
    def saved(self, batch: ProviderBatch) -> str:
        return usd(batch.saved_usd)


@admin.register(JobEvent)
class JobEventAdmin(HistoryAdmin):
    list_display = ("at", "of_job", "from_status", "to_status")
    search_owner = "job__user"
    search_ids = ("job_id",)
    search_help_text = "The id of a job, or a part of a user's name"
    ordering = ("-id",)
    fields = ("at", "of_job", "from_status", "to_status")

    @admin.display(description="job")
    def of_job(self, event: JobEvent) -> SafeString:
        return link(Job, event.job_id, str(event.job_id))
