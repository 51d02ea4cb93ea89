"""Paths under /v1/."""

from django.urls import path

from apps.batches import views

urlpatterns = [
    path("batches", views.Batches.as_view(), name="batches"),
    path("batches/<uuid:batch_id>", views.BatchDetail.as_view(), name="batch"),
    path("batches/<uuid:batch_id>/results", views.BatchResults.as_view(), name="batch-results"),
    path("batches/<uuid:batch_id>/cancel", views.BatchCancel.as_view(), name="batch-cancel"),
]
