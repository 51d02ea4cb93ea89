"""Paths under /v1/."""

from django.urls import path

from apps.jobs import views

urlpatterns = [
    path("jobs", views.Jobs.as_view(), name="jobs"),
    path("jobs/<uuid:job_id>", views.JobDetail.as_view(), name="job"),
    path("jobs/<uuid:job_id>/cancel", views.JobCancel.as_view(), name="job-cancel"),
    path("jobs/<uuid:job_id>/events", views.JobEvents.as_view(), name="job-events"),
    path("estimates", views.Estimates.as_view(), name="estimates"),
    path("models", views.Models.as_view(), name="models"),
]
