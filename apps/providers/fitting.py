"""Fitting a request to a provider: what the adapters have in common."""

from collections.abc import Collection
from dataclasses import replace
from typing import Any

from apps.providers.contract import Change, Fitted, GenerationRequest
from apps.providers.errors import ErrorKind, ProviderError


def only(request: GenerationRequest, *names: str, says: Collection[Change] = ()) -> Fitted:
    """What of `request` has a name among `names`; every other parameter that was asked for is a change.

    `says`: parameters that go otherwise than asked: each replaces what it changes, or takes it out.
    """
    asked = {name: value for name, value in request.params.items() if value is not None}
    # One output is what is made anyhow.
    dropped = [name for name in asked if name not in names and (name, asked[name]) != ("n", 1)]
    changes = [*says, *(Change(name, asked[name]) for name in dropped if name not in {c.param for c in says})]
    sent = {change.param: change.sent for change in changes}
    params = {name: sent.get(name, value) for name, value in asked.items() if name in names or name in sent}
    kept = {name: value for name, value in params.items() if value is not None}
    return Fitted(replace(request, params=kept), tuple(changes))


def count(request: GenerationRequest, most: int) -> int:
    """How many outputs are asked for. Raises ProviderError (unsupported) beyond `most`."""
    asked = int(request.params.get("n") or 1)
    if asked > most:
        raise unsupported(f"at most {most} at a time")
    return asked


def size(request: GenerationRequest) -> tuple[int, int] | None:
    """Width and height in pixels, None if neither is asked for. Raises ProviderError (unsupported) for one alone."""
    width, height = request.params.get("width"), request.params.get("height")
    if not width and not height:
        return None
    if not width or not height:
        raise unsupported("width and height go together")
    return int(width), int(height)


def voice(
    request: GenerationRequest, voices: Collection[str], stand_ins: dict[str, str]
) -> tuple[Change, ...]:
    """The change of the voice asked for into one of the provider's, none where it has it by that name.

    Raises ProviderError (unsupported) for a voice it has nothing like.
    """
    asked: Any = request.params.get("voice")
    if asked is None or asked in voices:
        return ()
    if asked not in stand_ins:
        raise unsupported(f"no voice called {asked}")
    return (Change("voice", asked, stand_ins[asked]),)


def unsupported(why: str) -> ProviderError:
    return ProviderError(ErrorKind.UNSUPPORTED, why)
