"""The URL table."""

from django.contrib import admin
from django.contrib.staticfiles.urls import staticfiles_urlpatterns
from django.urls import URLPattern, URLResolver, include, path
from django.views.generic import RedirectView
from drf_spectacular.views import SpectacularJSONAPIView, SpectacularSwaggerView

from apps.ops import health, metrics, reference

urlpatterns: list[URLPattern | URLResolver] = [
    path("", RedirectView.as_view(url="/v1/docs")),
    path("v1/", include("apps.jobs.urls")),
    path("v1/", include("apps.batches.urls")),
    path("v1/", include("apps.caching.urls")),
    path("v1/", include("apps.ledger.urls")),
    path("v1/", include("apps.webhooks.urls")),
    path("v1/", include("apps.artifacts.urls")),
    path("v1/", include("apps.providers.urls")),
    path("v1/openapi.json", SpectacularJSONAPIView.as_view(throttle_classes=[]), name="openapi"),
    path("v1/docs", SpectacularSwaggerView.as_view(url_name="openapi", throttle_classes=[]), name="docs"),
    path("v1/docs/errors", reference.errors, name="errors"),
    path("healthz", health.healthz, name="healthz"),
    path("readyz", health.readyz, name="readyz"),
    path("metrics", metrics.view, name="metrics"),
    path("admin/", admin.site.urls),
    *staticfiles_urlpatterns(),
]

handler404 = "apps.core.api_errors.not_found"
handler500 = "apps.core.api_errors.server_error"
