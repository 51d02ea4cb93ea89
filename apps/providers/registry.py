"""Which providers there are: their settings, joined with the adapter that speaks their protocol."""

from collections.abc import Callable
from datetime import datetime
from functools import lru_cache

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
from apps.providers.limiter import Caps
from apps.providers.models import Provider

# A provider that is switched off is sent nothing more after this time.
REMEMBERED_S = 1.0
_read: tuple[datetime, dict[str, Caps | None]] | None = None

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
    return _made(config.get("adapter", provider), *config.items())


@lru_cache(maxsize=64)
def _made(name: str, *config: tuple[str, str]) -> Adapter:
    """One for all calls: an adapter is its settings, and keeps nothing."""
    return ADAPTERS[name](**{key: value for key, value in config if key != "adapter"})


def is_available(provider: str) -> bool:
    """Whether it may be called: it is known, has a key, and ops have not switched it off."""
    return caps(provider) is not None


def caps(provider: str) -> Caps | None:
    """How much ops allow there; None if it may not be called at all."""
    config = settings.PROVIDERS.get(provider)
    if not config or not config.get("api_key"):
        return None
    return _words_of_ops().get(provider, Caps())


def forget() -> None:
    """For tests: what ops said is read again."""
    global _read
    _read = None


def _words_of_ops() -> dict[str, Caps | None]:
    """By provider; None: switched off."""
    global _read
    now = clock.now()
    # A clock that was set back must not keep a provider on.
    if _read is None or not 0 <= (now - _read[0]).total_seconds() < REMEMBERED_S:
        rows = {
            row.slug: Caps(row.max_concurrency, row.max_per_minute) if row.enabled else None
            for row in Provider.objects.all()
        }
        _read = (now, rows)
    return _read[1]
