"""The tests' side door: read the ledger, inject faults, turn knobs, start afresh."""

import json
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from apps.simulator.provider import Provider


def routes(provider: Provider) -> list[Route]:
    panel = _Panel(provider)
    return [
        Route("/admin/ledger", panel.ledger, methods=["GET"]),
        Route("/admin/summary", panel.summary, methods=["GET"]),
        Route("/admin/faults", panel.add_fault, methods=["POST"]),
        Route("/admin/faults", panel.clear_faults, methods=["DELETE"]),
        Route("/admin/settings", panel.settings, methods=["POST"]),
        Route("/admin/reset", panel.reset, methods=["POST"]),
    ]


class _Panel:
    def __init__(self, provider: Provider) -> None:
        self._provider = provider

    async def ledger(self, request: Request) -> Response:
        try:
            since = float(request.query_params.get("since", 0))
        except ValueError:
            return _invalid("since: Unix seconds")
        task_id, protocol = (request.query_params.get(name) for name in ("task_id", "protocol"))
        return JSONResponse(self._provider.ledger.entries(task_id=task_id, since=since, protocol=protocol))

    async def summary(self, request: Request) -> Response:
        return JSONResponse(self._provider.ledger.summary(request.query_params.get("protocol")))

    async def add_fault(self, request: Request) -> Response:
        """`{"fault": "429=2", "times": 3, "match": "part of a prompt or model"}`, the last two optional."""
        try:
            body = await _object(request)
            times, match = body.get("times"), body.get("match", "")
            if not isinstance(times, int | None) or not isinstance(match, str):
                return _invalid("times: a whole number; match: text")
            self._provider.faults.add(str(body.get("fault", "")), times=times, match=match)
        except ValueError as error:
            return _invalid(str(error))
        return JSONResponse({})

    async def clear_faults(self, request: Request) -> Response:
        self._provider.faults.clear()
        return JSONResponse({})

    async def settings(self, request: Request) -> Response:
        """Any of the knobs; answers with all of them."""
        try:
            self._provider.knobs.set(await _object(request))
        except ValueError as error:
            return _invalid(str(error))
        return JSONResponse(vars(self._provider.knobs))

    async def reset(self, request: Request) -> Response:
        self._provider.reset()
        return JSONResponse({})


async def _object(request: Request) -> dict[str, Any]:
    body = json.loads(await request.body() or b"{}")
    if not isinstance(body, dict):
        raise ValueError("a JSON object is expected")
    return body


def _invalid(message: str) -> Response:
    return JSONResponse({"error": message}, status_code=400)
