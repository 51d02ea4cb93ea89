"""Stability AI, v2beta: Stable Image Core, Ultra and Stable Diffusion 3.

A multipart form, answered with the picture itself: no idempotency key and no lookup, so an answer that was lost stays
unknown. One picture a call, its shape a ratio: how many pixels that makes is the model's. A picture that moderation
stopped is HTTP 200 as well; only the `finish-reason` tells.
"""

from dataclasses import dataclass, field, replace
from math import gcd
from typing import ClassVar, Final

from apps.providers import answers, fitting, http
from apps.providers.adapters.at_once import AnswersAtOnce
from apps.providers.contract import (
    Capabilities,
    Change,
    Fitted,
    GenerationRequest,
    Output,
    Pending,
    Result,
)
from apps.providers.errors import ErrorKind, ProviderError

_KINDS: Final = {
    "content_moderation": ErrorKind.CONTENT_REJECTED,
    "payment_required": ErrorKind.INSUFFICIENT_FUNDS,
}
_ENDS: Final = {"CONTENT_FILTERED": ErrorKind.CONTENT_REJECTED}
_ASPECT_RATIOS: Final = frozenset({"16:9", "1:1", "21:9", "2:3", "3:2", "4:5", "5:4", "9:16", "9:21"})
_MAX_CHARACTERS = 10_000
# To it 0 is any seed. Ours end below this one (catalog.parameters.MAX_SEED), so it is nobody else's.
_SEED_FOR_0 = 4_294_967_294


@dataclass(frozen=True)
class Stability(AnswersAtOnce):
    """Models are `core`, `ultra`, and those of the sd3 family by their own names, such as `sd3.5-large`."""

    base_url: str
    api_key: str = field(repr=False)

    capabilities: ClassVar = Capabilities(kinds=frozenset({"image"}), synchronous=True)

    def fit(self, request: GenerationRequest) -> Fitted:
        if request.kind != "image":
            raise fitting.unsupported(f"it makes no {request.kind}")
        fitting.count(request, 1)
        _path(request.model)
        if len(request.prompt) > _MAX_CHARACTERS:
            raise fitting.unsupported(f"at most {_MAX_CHARACTERS} characters")
        changes = []
        if size := fitting.size(request):
            request = _with_ratio(request, *size)
            changes = [Change("width", size[0]), Change("height", size[1])]
        if (ratio := request.params.get("aspect_ratio")) and ratio not in _ASPECT_RATIOS:
            raise fitting.unsupported(f"{ratio} is no shape it draws")
        if request.params.get("seed") == 0:
            changes.append(Change("seed", 0, _SEED_FOR_0))
        return fitting.only(request, "aspect_ratio", "seed", "negative_prompt", says=changes)

    def ping(self) -> None:
        answer = http.exchange("GET", f"{self.base_url}/v1/user/balance", headers=self._headers())
        if answer.status != 200:
            raise _refusal(answer)

    def submit(self, request: GenerationRequest) -> Pending | Result:
        path, model = _path(request.model)
        content_type, content = http.form(_fields(request, model))
        headers = {
            **self._headers(),
            "accept": "image/*",
            "content-type": content_type,
            # Not known to the provider, but it names the attempt in its logs.
            "idempotency-key": request.attempt_id,
        }
        answer = http.result(
            f"{self.base_url}/v2beta/stable-image/generate/{path}", headers=headers, content=content
        )
        if answer.status != 200:
            raise _refusal(answer)
        return _result(answer)

    def _headers(self) -> dict[str, str]:
        return {"authorization": f"Bearer {self.api_key}"}


def _path(model: str) -> tuple[str, str | None]:
    """The endpoint's last word, and the model to name there. Raises ProviderError (unsupported)."""
    if model in ("core", "ultra"):
        return model, None
    if model.startswith("sd3"):
        return "sd3", model
    raise fitting.unsupported(f"no model called {model}")


def _with_ratio(request: GenerationRequest, width: int, height: int) -> GenerationRequest:
    """The exact shape of the size asked for: a near one would cut off what was composed for it."""
    step = gcd(width, height)
    ratio = f"{width // step}:{height // step}"
    # 21:9 in lowest terms.
    ratio = {"7:3": "21:9", "3:7": "9:21"}.get(ratio, ratio)
    return replace(request, params={**request.params, "aspect_ratio": ratio})


def _fields(request: GenerationRequest, model: str | None) -> dict[str, str]:
    fields = {"prompt": request.prompt, "output_format": "png", **({"model": model} if model else {})}
    return fields | {name: str(value) for name, value in request.params.items() if name != "n"}


def _result(answer: http.Answer) -> Result:
    reason = answer.headers.get("finish-reason", "SUCCESS")
    if reason != "SUCCESS":
        raise ProviderError(_ENDS.get(reason, ErrorKind.BAD_OUTPUT), answers.quoted(f"finished: {reason}"))
    # The protocol tells no price, and no time.
    return Result(None, (Output(data=answers.file(answer)),))


def _refusal(answer: http.Answer) -> ProviderError:
    """From `{"id", "name", "errors": ["…"]}`."""
    name = answers.field(answer, "name")
    message = f"{name}: {answers.field(answer, 'errors')}"
    return answers.refusal(answer.status, message, headers=answer.headers, kind=_KINDS.get(name))
