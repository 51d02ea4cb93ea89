"""Which providers there are: their settings, joined with the adapter that speaks their protocol."""

from collections.abc import Callable
from datetime import datetime

from django.conf import settings

from apps.core import clock
from apps.providers.adapters.elevenlabs import ElevenLabs
from apps.providers.adapters.fal import Fal
from apps.providers.adapters.litellm import LiteLLM
from apps.providers.adapters.openai import OpenAI
from apps.providers.adapters.replicate import Replicate
from apps.providers.adapters.stability import Stability
from apps.providers.adapters.wavespeed import WaveSpeed
from apps.providers.contract import Adapter
from apps.providers.errors import UnknownProvider
from apps.providers.models import Provider

# A provider that is switched off is sent nothing more after this time.
REMEMBERED_S = 1.0
_read: tuple[datetime, frozenset[str]] | None = None

ADAPTERS: dict[str, Callable[..., Adapter]] = {
    "wavespeed": WaveSpeed,
    "replicate": Replicate,
    "fal": Fal,
    "openai": OpenAI,
    "stability": Stability,
    "elevenlabs": ElevenLabs,
    "litellm": LiteLLM,
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
    return provider not in _switched_off()


def forget() -> None:
    """For tests: the switches are read again."""
    global _read
    _read = None


def _switched_off() -> frozenset[str]:
    global _read
    now = clock.now()
    # A clock that was set back must not keep a provider on.
    if _read is None or not 0 <= (now - _read[0]).total_seconds() < REMEMBERED_S:
        _read = (now, frozenset(Provider.objects.filter(enabled=False).values_list("slug", flat=True)))
    return _read[1]
