"""Which providers there are: their settings, joined with the adapter that speaks their protocol."""

from collections.abc import Callable

from django.conf import settings

from apps.providers.adapters.elevenlabs import ElevenLabs
from apps.providers.adapters.fal import Fal
from apps.providers.adapters.openai import OpenAI
from apps.providers.adapters.replicate import Replicate
from apps.providers.adapters.stability import Stability
from apps.providers.adapters.wavespeed import WaveSpeed
from apps.providers.contract import Adapter
from apps.providers.errors import UnknownProvider
from apps.providers.models import Provider

ADAPTERS: dict[str, Callable[..., Adapter]] = {
    "wavespeed": WaveSpeed,
    "replicate": Replicate,
    "fal": Fal,
    "openai": OpenAI,
    "stability": Stability,
    "elevenlabs": ElevenLabs,
}


def adapter(provider: str) -> Adapter:
    """The provider's adapter, made from its entry in settings.PROVIDERS. Raises UnknownProvider."""
    config = settings.PROVIDERS.get(provider)
    if config is None or config.get("adapter", provider) not in ADAPTERS:
        raise UnknownProvider(provider)
    arguments = {name: value for name, value in config.items() if name != "adapter"}
    return ADAPTERS[config.get("adapter", provider)](**arguments)


def is_available(provider: str) -> bool:
    """Whether it may be called: it is known, has a key, and ops have not switched it off."""
    config = settings.PROVIDERS.get(provider)
    if not config or not config.get("api_key"):
        return False
    return not Provider.objects.filter(slug=provider, enabled=False).exists()
