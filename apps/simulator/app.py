"""The simulator as an ASGI application."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from apps.simulator import admin, elevenlabs, openai, page, stability, wavespeed
from apps.simulator.outputs import MEDIA
from apps.simulator.provider import Options, Provider


def build(options: Options) -> Starlette:
    """The provider lives as long as the application's lifespan."""

    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        provider = Provider(options)
        # Routes need the provider, and the provider needs the running loop.
        fronts = (elevenlabs, openai, stability, wavespeed)
        app.router.routes.extend([*_own(provider), *admin.routes(provider)])
        app.router.routes.extend(route for front in fronts for route in front.routes(provider))
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
        return await _output(provider, request.path_params["task_id"], request.path_params["name"])

    return [
        Route("/healthz", health),
        Route("/", home),
        Route("/outputs/{task_id}/{name}", output),
    ]


async def _output(provider: Provider, task_id: str, name: str) -> Response:
    task = provider.engine.get(task_id)
    index, _, extension = name.partition(".")
    if task is None or task.state != "completed" or not index.isdecimal():
        return Response(status_code=404)
    expected, media_type = MEDIA[task.order.kind]
    count = task.order.count if task.order.kind == "image" else 1
    if extension != expected or int(index) >= count:
        return Response(status_code=404)
    return Response(await provider.outputs.fetch(task, int(index)), media_type=media_type)
