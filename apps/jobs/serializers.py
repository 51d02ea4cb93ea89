"""The request bodies of the API over jobs."""

import json
from typing import Annotated, Any, Literal

from pydantic import Field, field_validator

from apps.core.inputs import Strict

MAX_METADATA_BYTES = 4096


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
        if value is not None and (isinstance(value, bool) or not isinstance(value, int | float)):
            raise ValueError("Input should be a number")
        return value


class Requirements(Strict):
    """What is needed, when no model is named."""

    quality: Annotated[int, Field(ge=1, le=10)] | None = None
    content_type: Annotated[str, Field(max_length=40, examples=["social", "client", "print"])] | None = None


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


class JobRequest(EstimateRequest):
    """POST /v1/jobs."""

    callback_url: Annotated[str, Field(min_length=1, max_length=2048)] | None = None
    metadata: dict[Annotated[str, Field(max_length=100)], Any] = {}
    priority: Literal["interactive", "batch"] = "interactive"
    cache: Literal["exact", "off"] = "exact"

    @field_validator("metadata")
    @classmethod
    def _small(cls, value: dict[str, Any]) -> dict[str, Any]:
        if value and len(json.dumps(value)) > MAX_METADATA_BYTES:
            raise ValueError(f"Metadata should have at most {MAX_METADATA_BYTES} bytes")
        return value
