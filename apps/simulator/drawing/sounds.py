"""Sounds: a few soft notes of a pentatonic scale."""

import io
import math
import random
import wave
from array import array

import av

from apps.simulator.orders import Order

RATE_HZ = 22_050
_NOTE_S = 0.4
_SCALE = (0, 3, 5, 7, 10, 12, 15)
# Share of each harmonic: a plucked string more than a whistle.
_HARMONICS = ((1, 0.6), (2, 0.25), (3, 0.1))


def wav(order: Order) -> bytes:
    """Mono, 16 bit, as long as asked for."""
    rng = random.Random(f"{order.model}|{order.prompt}|{order.seed}")
    root_hz = 220 * 2 ** (rng.randint(-5, 5) / 12)
    notes = {step: _note(root_hz * 2 ** (step / 12)) for step in _SCALE}
    wanted = round(order.duration_s * RATE_HZ)
    samples = array("h")
    while len(samples) < wanted:
        samples.extend(notes[rng.choice(_SCALE)])
    return _encode(samples[:wanted])


def mp3(order: Order) -> bytes:
    """The same, packed as speech services do."""
    packed = io.BytesIO()
    with av.open(io.BytesIO(wav(order)), "r") as plain, av.open(packed, "w", format="mp3") as target:
        stream = target.add_stream("mp3", rate=RATE_HZ)
        for frame in plain.decode(audio=0):
            target.mux(stream.encode(frame))
        target.mux(stream.encode(None))
    return packed.getvalue()


def _note(hz: float) -> "array[int]":
    samples = array("h")
    for tick in range(round(_NOTE_S * RATE_HZ)):
        t = tick / RATE_HZ
        # A quick attack and an end at zero, so that notes join without a click.
        envelope = min(1.0, t / 0.01) * (1 - t / _NOTE_S) ** 2
        tone = sum(share * math.sin(2 * math.pi * hz * n * t) for n, share in _HARMONICS)
        samples.append(round(20_000 * envelope * tone))
    return samples


def _encode(samples: "array[int]") -> bytes:
    buffer = io.BytesIO()
    with wave.open(buffer, "wb") as sound:
        sound.setnchannels(1)
        sound.setsampwidth(2)
        sound.setframerate(RATE_HZ)
        sound.writeframes(samples.tobytes())
    return buffer.getvalue()
