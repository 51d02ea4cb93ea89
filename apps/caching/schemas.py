"""Bodies of the API over the cache."""

from typing import Annotated, Literal

from pydantic import BaseModel, Field, model_validator

from apps.core.inputs import Strict


class PurgeRequest(Strict):
    """Which of your team's results to forget: exactly one of these."""

    job_id: (
        Annotated[
            str, Field(pattern=r"^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$", description="What it made")
        ]
        | None
    ) = None
    model: Annotated[str, Field(min_length=1, max_length=100)] | None = None
    prompt: Annotated[
        str | None, Field(min_length=1, max_length=100_000, description="In any of its certain rewordings")
    ] = None
    all: Literal[True] | None = None

    @model_validator(mode="after")
    def _one(self) -> "PurgeRequest":
        if sum(value is not None for value in (self.job_id, self.model, self.prompt, self.all)) != 1:
            raise ValueError("Give exactly one of job_id, model, prompt, all")
        return self


class Purged(BaseModel):
    purged: int
