"""The look of the admin, and its sidebar: every registered page, grouped by what ops comes for."""

from typing import Any

from django.http import HttpRequest

# Title, icon (Material Symbols), apps. An app that is in no group gets one of its own name.
GROUPS = (
    ("Work", "work", ("jobs", "batches", "artifacts", "validation", "caching")),
    ("Money", "payments", ("ledger",)),
    ("Catalog", "storefront", ("catalog", "providers")),
    ("Webhooks", "webhook", ("webhooks",)),
    ("Accounts", "group", ("accounts", "auth")),
    ("Operations", "monitor_heart", ("ops", "django_celery_results")),
)

# A dot in the admin's colour, in the page itself: no request, no file.
_ICON = (
    "data:image/svg+xml,%3Csvg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 8 8'%3E"
    "%3Ccircle cx='4' cy='4' r='4' fill='%239333ea'/%3E%3C/svg%3E"
)

UNFOLD: dict[str, Any] = {
    "SITE_TITLE": "genplatform",
    "SITE_HEADER": "genplatform",
    "SITE_SUBHEADER": "Operations",
    "SITE_SYMBOL": "auto_awesome",
    "SITE_FAVICONS": [{"rel": "icon", "type": "image/svg+xml", "href": lambda request: _ICON}],
    "SITE_URL": "/v1/docs",
    "SHOW_VIEW_ON_SITE": False,
    "DASHBOARD_CALLBACK": "apps.ops.dashboard.context",
    "SIDEBAR": {"show_search": True, "navigation": "genplatform.unfold.navigation"},
}


def navigation(request: HttpRequest) -> list[dict[str, Any]]:
    """The pages this user may open, so that a page never has to be listed twice."""
    from django.contrib import admin  # the settings import this module: nothing of Django is ready then

    apps = {app["app_label"]: app for app in admin.site.get_app_list(request)}
    grouped = [label for _, _, labels in GROUPS for label in labels]
    others = [(app["name"], "folder", (label,)) for label, app in apps.items() if label not in grouped]
    groups = []
    for title, icon, labels in (*GROUPS, *others):
        items = [_item(model, icon) for label in labels if label in apps for model in apps[label]["models"]]
        if items:
            groups.append({"title": title, "separator": True, "items": items})
    return groups


def _item(model: dict[str, Any], icon: str) -> dict[str, Any]:
    return {"title": model["name"], "icon": icon, "link": model["admin_url"] or model["add_url"]}
