"""A front end that can be dead: the knob `dead` names its protocol, and nothing of it answers any more."""

from collections.abc import Awaitable, Callable, Iterable

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from apps.simulator import connection
from apps.simulator.provider import Provider

_Endpoint = Callable[[Request], Awaitable[Response]]


def routes(provider: Provider, protocol: str, living: Iterable[Route]) -> list[Route]:
    """The same paths, each asking first whether the protocol is alive."""
    return [
        Route(route.path, _mortal(provider, protocol, route.endpoint), methods=sorted(route.methods or ()))
        for route in living
    ]


def _mortal(provider: Provider, protocol: str, endpoint: _Endpoint) -> _Endpoint:
    async def answer(request: Request) -> Response:
        if protocol not in provider.knobs.dead:
            return await endpoint(request)
        provider.ledger.call(protocol, "dead")
        if provider.rng.random() < 0.5:
            await connection.reset(request)
        return Response("Internal Server Error", 500, media_type="text/plain")

    return answer
