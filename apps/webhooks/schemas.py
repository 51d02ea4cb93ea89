"""The shapes of webhook requests and answers."""

from datetime import datetime
from typing import Annotated

from pydantic import BaseModel, Field

from apps.core.inputs import Strict
from apps.webhooks.models import EventType


class EndpointRequest(Strict):
    """`event_types`: which to tell; all of them by default."""

    url: Annotated[str, Field(min_length=1, max_length=2048)]
    event_types: Annotated[
        list[Annotated[EventType, Field(strict=False)]], Field(min_length=1, max_length=20)
    ] = list(EventType)


class Endpoint(BaseModel):
    id: str
    url: str
    event_types: list[str]
    active: bool
    created_at: datetime


class Endpoints(BaseModel):
    data: list[Endpoint]


class WebhookSecret(BaseModel):
    key: str
