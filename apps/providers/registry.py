"""Which providers there are: their settings, joined with the adapter that speaks their protocol."""

from collections.abc import Callable

from django.conf import settings

from apps.providers.adapters.wavespeed import WaveSpeed
from apps.providers.contract import Adapter
from apps.providers.errors import UnknownProvider
from apps.providers.limiter import Caps
from apps.providers.models import Provider

ADAPTERS: dict[str, Callable[..., Adapter]] = {"wavespeed": WaveSpeed}


def adapter(provider: str) -> Adapter:
    """The provider's adapter, made from its entry in settings.PROVIDERS. Raises UnknownProvider."""
    config = settings.PROVIDERS.get(provider)
    if config is None or config.get("adapter", provider) not in ADAPTERS:
        raise UnknownProvider(provider)
    arguments = {name: value for name, value in config.items() if name != "adapter"}
    return ADAPTERS[config.get("adapter", provider)](**arguments)


def is_available(provider: str) -> bool:
    """Whether it may be called: it is known, has a key, and ops have not switched it off."""
    return caps(provider) is not None


def caps(provider: str) -> Caps | None:
    """How much ops allow there; None if it may not be called at all."""
    config = settings.PROVIDERS.get(provider)
    if not config or not config.get("api_key"):
        return None
    row = Provider.objects.filter(slug=provider).first()
    if row is None:
        return Caps()
    return Caps(row.max_concurrency, row.max_per_minute) if row.enabled else None
