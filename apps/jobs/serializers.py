"""The request bodies of the API over jobs."""

import json
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, field_validator

from apps.core.inputs import Strict

MAX_METADATA_BYTES = 4096


def _number(value: Any) -> Any:
    """5 is a number where 5.0 is; "5" and true are none."""
    if value is not None and (isinstance(value, bool) or not isinstance(value, int | float)):
        raise ValueError("Input should be a number")
    return value


def _small(value: dict[str, Any]) -> dict[str, Any]:
    if value and len(json.dumps(value)) > MAX_METADATA_BYTES:
        raise ValueError(f"Metadata should have at most {MAX_METADATA_BYTES} bytes")
    return value


Metadata = Annotated[dict[Annotated[str, Field(max_length=100)], Any], AfterValidator(_small)]


class Params(Strict):
    """What to generate. Which fields a model takes, and how far, is the catalog's word (GET /v1/models)."""

    width: Annotated[int, Field(ge=64, le=16_384)] | None = None
    height: Annotated[int, Field(ge=64, le=16_384)] | None = None
    n: Annotated[int, Field(ge=1, le=10, description="How many outputs")] | None = None
    seed: Annotated[int, Field(ge=0, le=2**32 - 1)] | None = None
    duration_s: Annotated[float, Field(gt=0, le=3600, strict=False)] | None = None
    resolution: Annotated[str, Field(max_length=20)] | None = None
    aspect_ratio: Annotated[str, Field(max_length=20, examples=["16:9"])] | None = None
    negative_prompt: Annotated[str, Field(max_length=10_000)] | None = None
    voice: Annotated[str, Field(max_length=100)] | None = None

    @field_validator("duration_s", mode="before")
    @classmethod
    def _a_number(cls, value: Any) -> Any:
        return _number(value)


class Requirements(Strict):
    """What is needed: of the model that is chosen, or of the one named."""

    quality: Annotated[int, Field(ge=1, le=10)] | None = None
    content_type: Annotated[str, Field(max_length=40, examples=["social", "client", "print"])] | None = None
    max_cost_usd: (
        Annotated[
            str, Field(pattern=r"^[0-9]{1,8}(\.[0-9]{1,10})?$", examples=["0.05"], description="Of the job")
        ]
        | None
    ) = None
    max_latency_s: Annotated[float, Field(gt=0, le=86_400, strict=False)] | None = None
    commercial_use: (
        Annotated[bool, Field(description="All models used have to be licensed for it")] | None
    ) = None

    @field_validator("max_latency_s", mode="before")
    @classmethod
    def _a_number(cls, value: Any) -> Any:
        return _number(value)


class EstimateRequest(Strict):
    """What a job would cost."""

    type: Literal["image", "video", "audio"]
    prompt: str
    model: Annotated[str, Field(min_length=1, max_length=100)] | None = None
    fallback_models: Annotated[
        list[Annotated[str, Field(min_length=1, max_length=100)]], Field(max_length=5)
    ] = []
    requirements: Requirements = Requirements()
    params: Params = Params()
    priority: Literal["interactive", "batch"] = "interactive"
    cache: Annotated[
        Literal["off", "exact", "canonical", "semantic", "account"],
        Field(description="Which earlier results of your team may answer it"),
    ] = "account"
    variation: Annotated[bool, Field(description="Another picture for the same prompt: a new seed")] = False


class FeedbackRequest(Strict):
    """POST /v1/jobs/{id}/feedback."""

    verdict: Literal["wrong_match", "bad_quality", "good"]


class JobRequest(EstimateRequest):
    """POST /v1/jobs."""

    callback_url: Annotated[str, Field(min_length=1, max_length=2048)] | None = None
    metadata: Metadata = {}
    quote_id: (
        Annotated[
            str,
            Field(
                pattern=r"^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$",
                description="Of an estimate of the same request: its prices hold for ten minutes",
            ),
        ]
        | None
    ) = None
