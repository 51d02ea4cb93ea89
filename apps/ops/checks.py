"""Settings mistakes that would leave nobody told of an alert."""

from typing import Any

from django.conf import settings
from django.core.checks import CheckMessage, Error, register

from apps.ops import notices


@register()
def check_alert_urls(**_: Any) -> list[CheckMessage]:
    if not settings.ALERT_URLS:
        return []
    return [
        Error(f"ALERT_URLS: {problem}.", hint="See docs/howto/alerts.md.", id="ops.E001")
        for problem in notices.problems()
    ]
