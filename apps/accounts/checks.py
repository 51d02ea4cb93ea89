"""Settings mistakes that would make keys worthless."""

from typing import Any

from django.conf import settings
from django.core.checks import CheckMessage, Error, Tags, register


@register(Tags.security)
def check_pepper(**_: Any) -> list[CheckMessage]:
    pepper = settings.API_KEY_PEPPER
    if settings.DEBUG or (len(pepper) >= 32 and not pepper.startswith("development-only")):
        return []
    return [
        Error(
            "API_KEY_PEPPER is short or the development one.",
            hint="Set it to 32 random characters or more; a change makes every issued key invalid.",
            id="accounts.E001",
        )
    ]
