"""What the tests of the adapters share that are answered with the result itself."""

from pathlib import Path

import pytest

from apps.providers.contract import Adapter, GenerationRequest, Result
from apps.providers.errors import ErrorKind, ProviderError
from apps.validation.checks import decode
from apps.validation.checks.film import Film
from apps.validation.checks.results import MediaInfo, Subject
from apps.validation.checks.sound import Sound


def bought(adapter: Adapter, request: GenerationRequest) -> Result:
    """The result of a request, fitted as the conductor does it."""
    answer = adapter.submit(adapter.fit(request).request)
    assert isinstance(answer, Result)
    return answer


def refused(adapter: Adapter, request: GenerationRequest) -> ProviderError:
    with pytest.raises(ProviderError) as caught:
        adapter.submit(request)
    return caught.value


def unfit(adapter: Adapter, request: GenerationRequest) -> ErrorKind:
    with pytest.raises(ProviderError) as caught:
        adapter.fit(request)
    return caught.value.kind


def decoded(data: bytes | None, kind: str, media_type: str, folder: Path) -> MediaInfo:
    """What the decode check finds. Raises decode.Undecodable."""
    path = folder / "output"
    path.write_bytes(data or b"")
    if kind == "image":
        with decode.picture(path, media_type) as image:
            return MediaInfo(*image.size)
    watcher = Film() if kind == "video" else Sound()
    return decode.recording(Subject(path, kind, media_type, {}), watcher)
