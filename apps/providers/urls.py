"""Included under `v1/`."""

from django.urls import path

from apps.providers import views

urlpatterns = [
    path("providers/<slug:provider>/webhooks/<uuid:attempt_id>", views.webhook, name="provider-webhook"),
]
