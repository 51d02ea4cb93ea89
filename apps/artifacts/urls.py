"""Included under `v1/`."""

from django.urls import path

from apps.artifacts import views

urlpatterns = [path("artifacts/<uuid:artifact_id>", views.content, name="artifact")]
