"""Included at the root."""

from django.urls import path

from apps.providers import views

urlpatterns = [
    path("v1/providers/<slug:provider>/webhooks/<uuid:attempt_id>", views.webhook, name="provider-webhook"),
]
