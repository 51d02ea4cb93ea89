"""What the contract suite must know of an adapter to hold it to `apps.providers.contract.Adapter`.

A new adapter joins by a line in SUBJECTS: test_contract_suite.py then runs everything that its capabilities promise.
"""

import io
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import av
import httpx
import pytest
from PIL import Image

from apps.providers.adapters.elevenlabs import ElevenLabs
from apps.providers.adapters.fal import Fal
from apps.providers.adapters.openai import OpenAI
from apps.providers.adapters.replicate import Replicate
from apps.providers.adapters.stability import Stability
from apps.providers.adapters.wavespeed import WaveSpeed
from apps.providers.contract import (
    Adapter,
    Capabilities,
    Change,
    GenerationRequest,
    Output,
    Pending,
    Result,
    Ticket,
)
from apps.providers.errors import ErrorKind, ProviderError
from tests.fakes.simulator import Simulator, wait_until

ATTEMPT = "attempt-1"


@dataclass(frozen=True)
class Subject:
    """One adapter as the suite sees it.

    made: the adapter, its key and where it finds the simulator given. model: one of the simulator's, for `kind`.
    params: an order for one small output, and what is delivered for it (`size`: of a picture). several: it makes more
    than one output at a time. unsafe: how the provider says that an output
    is: it flags it, or fails. dropped, refused: what `fit` drops, and what it can't make, by our names.
    kinds: where a fault has another kind here than everywhere else.
    """

    name: str
    made: Callable[[str, str, str], Adapter]
    capabilities: Capabilities
    model: str
    params: Mapping[str, Any] = field(default_factory=lambda: {"width": 64, "height": 32})
    kind: Literal["image", "audio"] = "image"
    size: tuple[int, int] = (64, 32)
    several: bool = True
    unsafe: Literal["flagged", "fails"] = "flagged"
    dropped: tuple[Change, ...] = ()
    refused: tuple[Mapping[str, Any], ...] = ()
    kinds: Mapping[str, ErrorKind] = field(default_factory=dict)

    def adapter(self, simulator: Simulator, *, api_key: str = "", base_url: str = "") -> Adapter:
        """Talks to the simulator, unless another address is given."""
        return self.made(
            base_url or simulator.base_url, api_key or simulator.api_key, simulator.webhook_secret
        )

    def ask(
        self, prompt: str = "a red fox", *, webhook_url: str | None = None, **params: Any
    ) -> GenerationRequest:
        """A request for one output, as `fit` leaves it."""
        asked = {**self.params, **params}
        return GenerationRequest(ATTEMPT, self.kind, self.model, prompt, asked, webhook_url)


SUBJECTS = (
    Subject(
        "wavespeed",
        lambda url, key, secret: WaveSpeed(url, key, secret),
        WaveSpeed.capabilities,
        "wavespeed-ai/fast-draft",
    ),
    Subject(
        "replicate",
        lambda url, key, secret: Replicate(f"{url}/replicate", key, secret),
        Replicate.capabilities,
        "black-forest-labs/fast-draft",
        unsafe="fails",
        dropped=(Change("voice", "aria"), Change("resolution", "720p"), Change("seed", 2**31 + 5, 5)),
        refused=({"n": 5}, {"duration_s": 2.5}),
    ),
    Subject(
        "fal",
        lambda url, key, secret: Fal(f"{url}/fal", key, f"{url}/fal-rest/.well-known/jwks.json"),
        Fal.capabilities,
        "fal-ai/flux/fast-draft",
        dropped=(Change("voice", "aria"), Change("resolution", "720p"), Change("seed", 2**31 + 5, 5)),
        refused=({"n": 5}, {"duration_s": 2.5}),
    ),
    Subject(
        "openai",
        lambda url, key, secret: OpenAI(f"{url}/openai/v1", key),
        OpenAI.capabilities,
        "gpt-image-2",
        dropped=(Change("voice", "aria"), Change("seed", 5), Change("negative_prompt", "rain")),
        refused=({"n": 11}, {"width": 100, "height": 100}, {"width": 64, "height": None}),
    ),
    Subject(
        "stability",
        lambda url, key, secret: Stability(f"{url}/stability", key),
        Stability.capabilities,
        "core",
        params={"aspect_ratio": "21:9"},
        size=(1536, 640),
        several=False,
        dropped=(Change("width", 1344), Change("height", 576), Change("seed", 0, 4_294_967_294)),
        refused=({"n": 2}, {"width": 1000, "height": 999}),
    ),
    Subject(
        "elevenlabs",
        lambda url, key, secret: ElevenLabs(f"{url}/elevenlabs", key),
        ElevenLabs.capabilities,
        "eleven_multilingual_v2",
        params={"voice": "aria"},
        kind="audio",
        several=False,
        dropped=(Change("voice", "sora", "jessica"), Change("resolution", "720p")),
        refused=({"n": 2}, {"duration_s": 5}, {"voice": "nobody"}),
        # What it says of anything but too much at once: everybody wants something of it.
        kinds=dict.fromkeys(("429", "429-date", "429-absent", "429-absurd"), ErrorKind.SERVER_ERROR),
    ),
)


def those(condition: Callable[[Subject], bool]) -> pytest.MarkDecorator:
    """The subjects a test is for."""
    return pytest.mark.parametrize("subject", [s for s in SUBJECTS if condition(s)], ids=lambda s: s.name)


everyone = those(lambda s: True)
asynchronous = those(lambda s: not s.capabilities.synchronous)
synchronous = those(lambda s: s.capabilities.synchronous)
several = those(lambda s: s.several)
in_batches = those(lambda s: bool(s.capabilities.batches))
telling = those(lambda s: s.capabilities.webhooks)
listing = those(lambda s: s.capabilities.lists)


def bought(adapter: Adapter, request: GenerationRequest) -> Ticket:
    """The ticket of a submit, after it was written down and read again."""
    answer = adapter.submit(request)
    assert isinstance(answer, Pending)
    return Ticket.from_json(answer.ticket.to_json())


def finished(adapter: Adapter, ticket: Ticket) -> Result:
    """Polls until there is a result. Errors that are not the end are passed over, as the platform does."""

    def result() -> Result | None:
        try:
            answer = adapter.poll(ticket)
        except ProviderError as error:
            if error.ends_generation:
                raise
            return None
        return answer if isinstance(answer, Result) else None

    done: Result = wait_until(result)
    return done


def result_of(adapter: Adapter, request: GenerationRequest) -> Result:
    """What a submit leads to, at once or later."""
    answer = adapter.submit(request)
    return answer if isinstance(answer, Result) else finished(adapter, answer.ticket)


def error_of(call: Callable[[], object]) -> ProviderError:
    with pytest.raises(ProviderError) as caught:
        call()
    return caught.value


def content(output: Output) -> bytes:
    """Fetched, if it came by address."""
    if output.data is not None:
        return output.data
    assert output.url
    return httpx.get(output.url, trust_env=False).raise_for_status().content


def is_as_ordered(subject: Subject, output: Output) -> bool:
    """Whether it decodes as what the subject delivers."""
    if subject.kind == "image":
        return Image.open(io.BytesIO(content(output))).size == subject.size
    with av.open(io.BytesIO(content(output)), "r") as sound:
        return sum(frame.samples for frame in sound.decode(audio=0)) > 0
