"""The simulator as an ASGI application."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from apps.simulator import (
    admin,
    downloads,
    elevenlabs,
    fal,
    mortal,
    openai,
    openai_batches,
    page,
    replicate,
    stability,
    wavespeed,
)
from apps.simulator.provider import Options, Provider

# Protocol → the modules whose `routes(provider)` speak it. WaveSpeed has no prefix, and its last path takes all.
FRONT_ENDS = {
    "replicate": (replicate,),
    "fal": (fal,),
    "openai": (openai, openai_batches),
    "stability": (stability,),
    "elevenlabs": (elevenlabs,),
    "wavespeed": (wavespeed,),
}


def build(options: Options) -> Starlette:
    """The provider lives as long as the application's lifespan."""

    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        provider = Provider(options)
        # Routes need the provider, and the provider needs the running loop.
        app.router.routes.extend([*_own(provider), *admin.routes(provider)])
        for protocol, front_ends in FRONT_ENDS.items():
            for front_end in front_ends:
                app.router.routes.extend(mortal.routes(provider, protocol, front_end.routes(provider)))
        provider.engine.resume()
        yield
        await provider.close()

    return Starlette(lifespan=lifespan)


def _own(provider: Provider) -> list[Route]:
    async def health(request: Request) -> Response:
        return JSONResponse({"status": "ok"})

    async def home(request: Request) -> Response:
        return page.page(provider, request)

    async def output(request: Request) -> Response:
        return await downloads.send(
            provider, request, request.path_params["task_id"], request.path_params["name"]
        )

    return [
        Route("/healthz", health),
        Route("/", home),
        Route("/outputs/{task_id}/{name}", output),
    ]
