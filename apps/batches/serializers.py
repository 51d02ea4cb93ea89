"""The requests of the API over batches."""

from typing import Annotated, Literal

from pydantic import Field, RootModel

from apps.core.inputs import Strict
from apps.jobs.serializers import JobRequest, Metadata


class Item(JobRequest):
    """A line of a batch: what POST /v1/jobs takes, and a name of its own."""

    custom_id: Annotated[str, Field(min_length=1, max_length=255, description="Unique in the batch")]
    priority: Literal["batch"] = "batch"


class Items(RootModel[list[Item]]):
    """At most 50,000."""


class Options(Strict):
    """Of the whole batch: parameters of the query, or fields of the form."""

    callback_url: Annotated[str, Field(min_length=1, max_length=2048)] | None = None
    metadata: Metadata = {}
    partial: bool = False
    completion_window: Annotated[
        str, Field(pattern=r"^([1-9]|[1-9][0-9]|1[0-5][0-9]|16[0-8])h$", description="1h to 168h")
    ] = "24h"


class Form(Options):
    """The same as a form, with the lines as a file."""

    file: bytes
