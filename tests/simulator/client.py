"""A bare client of the WaveSpeedAI protocol, independent of our adapter."""

from typing import Any

import httpx

from tests.fakes.simulator import Simulator, wait_until

MODEL = "wavespeed-ai/fast-draft"


class Client:
    def __init__(self, simulator: Simulator) -> None:
        self.simulator = simulator
        self.http = httpx.Client(
            base_url=simulator.base_url,
            headers={"Authorization": f"Bearer {simulator.api_key}"},
            timeout=10,
            trust_env=False,
        )

    def __enter__(self) -> "Client":
        return self

    def __exit__(self, *_: object) -> None:
        self.http.close()

    def post(
        self, body: dict[str, Any], *, model: str = MODEL, webhook: str | None = None, timeout_s: float = 10
    ) -> httpx.Response:
        params = {"webhook": webhook} if webhook else {}
        return self.http.post(f"/api/v3/{model}", json=body, params=params, timeout=timeout_s)

    def submit(
        self, body: dict[str, Any], *, model: str = MODEL, webhook: str | None = None
    ) -> dict[str, Any]:
        data: dict[str, Any] = self.post(body, model=model, webhook=webhook).raise_for_status().json()["data"]
        return data

    def result(self, task_id: str) -> dict[str, Any]:
        answer = self.http.get(f"/api/v3/predictions/{task_id}/result").raise_for_status()
        data: dict[str, Any] = answer.json()["data"]
        return data

    def ended(self, task_id: str) -> dict[str, Any]:
        """Polls until the prediction is final."""

        def final() -> dict[str, Any] | None:
            data = self.result(task_id)
            return data if data["status"] in ("completed", "failed") else None

        data: dict[str, Any] = wait_until(final)
        return data

    def output(self, body: dict[str, Any], *, model: str = MODEL) -> bytes:
        """The first output's bytes."""
        return (
            self.http.get(self.ended(self.submit(body, model=model)["id"])["outputs"][0])
            .raise_for_status()
            .content
        )
