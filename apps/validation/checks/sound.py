"""How good a recording is technically: is there something to hear, and is it not cut off at full scale."""

import math
from dataclasses import dataclass, field
from typing import Any, Final

from apps.validation.checks.picture import ramp

_WINDOW_S: Final = 0.05
_SILENT_RMS: Final = 0.001  # -60 dB of full scale
_CLIPPED: Final = 0.999
MAX_SILENCE: Final = 0.9
MAX_CLIPPING: Final = 0.01
# Loudness is an average: the first minutes tell it.
_MAX_LOUDNESS_S: Final = 120.0


@dataclass(slots=True)
class Sound:
    """Told of each frame of samples as it is decoded."""

    samples: int = 0
    clipped: int = 0
    windows: int = 0
    silent: int = 0
    lufs: float | None = None
    _meter: Any = field(default=None, repr=False)
    _rest: Any = field(default=None, repr=False)

    def frame(self, frame: Any) -> None:
        self._count(_floats(frame), frame.sample_rate)
        if self.samples <= _MAX_LOUDNESS_S * frame.sample_rate:
            self._weigh(frame)

    def details(self) -> dict[str, Any]:
        """Shares of windows and samples, 0 to 1. `lufs`: integrated loudness (EBU R 128), None for silence."""
        return {
            "silence": round(self.silent / self.windows, 4) if self.windows else 0.0,
            "clipping": round(self.clipped / max(1, self.samples), 5),
            "lufs": self.lufs,
        }

    def scores(self) -> dict[str, float]:
        shares = self.details()
        loud = {} if self.lufs is None else {"loudness": ramp(self.lufs, -60, -35)}
        silence = ramp(shares["silence"], MAX_SILENCE, 0.5)
        return {"silence": silence, "clipping": ramp(shares["clipping"], MAX_CLIPPING, 0.001), **loud}

    def problems(self) -> list[str]:
        shares, found = self.details(), []
        if shares["silence"] > MAX_SILENCE:
            found.append(f"{shares['silence']:.0%} of it is silent")
        if shares["clipping"] > MAX_CLIPPING:
            found.append(f"{shares['clipping']:.1%} of it is clipped")
        return found

    def _count(self, values: Any, rate: int) -> None:
        import numpy

        self.samples += values.shape[1]
        self.clipped += int((numpy.abs(values).max(axis=0) >= _CLIPPED).sum())
        window = max(1, int(rate * _WINDOW_S))
        mono = numpy.abs(values).max(axis=0)
        mono = mono if self._rest is None else numpy.concatenate([self._rest, mono])
        whole = len(mono) // window
        if whole:
            rms = numpy.sqrt((mono[: whole * window].reshape(whole, window) ** 2).mean(axis=1))
            self.windows += whole
            self.silent += int((rms < _SILENT_RMS).sum())
        self._rest = mono[whole * window :]

    def _weigh(self, frame: Any) -> None:
        import av
        from av.filter import Graph

        if self._meter is None:
            graph = Graph()
            source = graph.add_abuffer(template=None, sample_rate=frame.sample_rate, format=frame.format.name,
                                       layout=frame.layout.name, time_base=frame.time_base)  # fmt: skip
            meter, sink = graph.add("ebur128", "metadata=1"), graph.add("abuffersink")
            source.link_to(meter)
            meter.link_to(sink)
            graph.configure()
            self._meter = graph
        self._meter.push(frame)
        while True:
            try:
                weighed = self._meter.pull()
            except (av.error.BlockingIOError, av.error.EOFError):
                return
            measured = float(weighed.metadata.get("lavfi.r128.I", "-inf"))
            # What EBU R 128's gate leaves of silence is its floor of -70, not a loudness.
            self.lufs = round(measured, 1) if math.isfinite(measured) and measured > -70 else None


def _floats(frame: Any) -> Any:
    """Channels by samples, -1 to 1."""
    import numpy

    values = frame.to_ndarray()
    if values.dtype.kind == "i":
        values = values / float(-int(numpy.iinfo(values.dtype).min))
    elif values.dtype.kind == "u":
        values = (values.astype(numpy.float32) - 128) / 128
    if not frame.format.is_planar:
        values = values.reshape(-1, frame.layout.nb_channels).T
    return numpy.nan_to_num(values)
