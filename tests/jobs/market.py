"""Several providers that make the same model, all of them in the one simulator."""

from decimal import Decimal
from typing import Any

from apps.catalog import snapshot
from apps.catalog.models import GenerationModel, Price, Route
from apps.providers import breaker_store
from apps.providers.breaker_store import Name
from tests.fakes.simulator import Simulator

_UNITS = {
    "image": Price.Unit.IMAGE,
    "video": Price.Unit.SECOND,
    "audio": Price.Unit.THOUSAND_CHARACTERS,
}


def configured(simulator: Simulator) -> dict[str, dict[str, str]]:
    """settings.PROVIDERS with every provider that the simulator plays."""
    own, key = simulator.provider_settings, {"api_key": simulator.api_key}
    return {
        "wavespeed": own,
        "replicate": {**own, "base_url": f"{simulator.base_url}/replicate"},
        "fal": {
            **key,
            "base_url": f"{simulator.base_url}/fal",
            "jwks_url": f"{simulator.base_url}/fal-rest/.well-known/jwks.json",
        },
        "openai": {**key, "base_url": f"{simulator.base_url}/openai/v1"},
        "stability": {**key, "base_url": f"{simulator.base_url}/stability"},
        "elevenlabs": {**key, "base_url": f"{simulator.base_url}/elevenlabs"},
    }


def only_wavespeed() -> None:
    """Takes the catalog's other routes out: a test says which ones there are."""
    Route.objects.exclude(provider="wavespeed").update(active=False)
    snapshot.forget()


def offer(provider: str, *, model: str = "fast-draft", usd: str = "0.005", **changes: Any) -> Route:
    """One more route of `model`, after those it has."""
    values = {"provider_model": f"{provider}-ai/{model}", "position": 5, **changes}
    route = Route.objects.create(model_id=model, provider=provider, **values)
    unit = _UNITS[GenerationModel.objects.get(pk=model).kind]
    Price.objects.create(route=route, version=1, unit=unit, unit_price_usd=Decimal(usd))
    snapshot.forget()
    return route


def breaker(provider: str, model: str, kind: breaker_store.Kind = "submit") -> Name:
    return Name(provider, model, kind)
