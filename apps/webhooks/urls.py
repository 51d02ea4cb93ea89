"""Paths under /v1/."""

from django.urls import path

from apps.webhooks import views

urlpatterns = [
    path("webhooks/secret", views.WebhookSecret.as_view(), name="webhook-secret"),
    path("webhooks/endpoints", views.Endpoints.as_view(), name="webhook-endpoints"),
    path("webhooks/endpoints/<uuid:endpoint_id>", views.EndpointDetail.as_view(), name="webhook-endpoint"),
]
