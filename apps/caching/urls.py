"""Paths under /v1/."""

from django.urls import path

from apps.caching import views

urlpatterns = [path("cache/purge", views.Purge.as_view(), name="cache-purge")]
