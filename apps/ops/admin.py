"""The admin's first page, and what Celery kept: results of periodic tasks and every failure, to look at."""

from django.contrib import admin
from django_celery_results.models import GroupResult, TaskResult

from apps.core.admin import HistoryAdmin

admin.site.index_title = "Today"
admin.site.index_template = "ops/dashboard.html"
admin.site.unregister(GroupResult)  # the platform has no groups: rows, not chords, are its workflow
admin.site.unregister(TaskResult)


@admin.register(TaskResult)
class TaskResultAdmin(HistoryAdmin):
    list_display = ("task_name", "status", "worker", "date_created", "date_done")
    list_filter = ("status", "task_name")
    search_fields = ("task_name", "task_id", "task_kwargs")
    date_hierarchy = "date_done"
    ordering = ("-date_done",)
    fields = (
        "task_name",
        "status",
        "task_id",
        "task_kwargs",
        "worker",
        "date_created",
        "date_started",
        "date_done",
        "result",
        "traceback",
    )
