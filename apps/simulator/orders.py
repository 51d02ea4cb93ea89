"""What a client asked for, in one shape whatever protocol it came by."""

import re
from dataclasses import dataclass
from decimal import Decimal
from typing import Literal

Kind = Literal["image", "video", "audio"]

# A model's kind is read from its name, so that any catalog works without a table here.
_WORDS: dict[Kind, tuple[str, ...]] = {
    "video": ("video", "t2v", "i2v", "motion"),
    "audio": ("audio", "speech", "tts", "music", "voice", "sound"),
}
_TAG = re.compile(r"\[(?:fault|time):[^\]]*\]\s*")


def kind_of(model: str) -> Kind:
    name = model.lower()
    return next((kind for kind, words in _WORDS.items() if any(word in name for word in words)), "image")


@dataclass(frozen=True, slots=True)
class Order:
    """`seed` is always known: the front end draws one when the client gave none. `sound`: how speech is packed."""

    model: str
    prompt: str
    seed: int
    width: int
    height: int
    count: int
    duration_s: float
    sound: Literal["wav", "mp3"] = "wav"

    @property
    def kind(self) -> Kind:
        return kind_of(self.model)

    @property
    def title(self) -> str:
        """The prompt as it is drawn: without the tags that steer the simulator."""
        return _TAG.sub("", self.prompt).strip()

    def cost_usd(self, prices: dict[str, str]) -> Decimal:
        """By the first price whose name is in the model's; else by kind."""
        name = next((part for part in prices if part in self.model.lower()), self.kind)
        return Decimal(prices[name]) * self._units()

    def _units(self) -> Decimal:
        if self.kind == "image":
            return Decimal(self.count)
        if self.kind == "audio":
            return Decimal(len(self.prompt)) / 1000
        # The usual price list: 1080p costs half as much again as 720p.
        return Decimal(str(self.duration_s)) * (Decimal("1.5") if self.height >= 1080 else 1)
