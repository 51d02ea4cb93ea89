"""Row ids: UUID version 7 (RFC 9562, section 5.7), so that rows of one moment lie together in an index, in the order in
which a process made them."""

import secrets
import time
import uuid
from collections.abc import Iterator
from datetime import datetime


def uuid7() -> uuid.UUID:
    """48 bits of Unix milliseconds, 12 bits of the millisecond's fraction (section 6.2, method 3, as Postgres does it:
    steps of 244 ns), then 62 random bits."""
    milliseconds, rest_ns = divmod(time.time_ns(), 1_000_000)
    fraction = (rest_ns << 12) // 1_000_000
    value = milliseconds << 80 | 0x7 << 76 | fraction << 64 | 0x2 << 62
    return uuid.UUID(int=value | secrets.randbits(62))


def rising() -> Iterator[uuid.UUID]:
    """Ids of this moment in rising order, for rows that keep an order among themselves (RFC 9562, section 6.2, method
    2): each is the one before plus a random step of at most 2**32."""
    # The top bit of the last 62 gives room for 500 million of them.
    value = uuid7().int & ~(1 << 61)
    while True:
        yield uuid.UUID(int=value)
        value += 1 + secrets.randbits(32)


def since(at: datetime) -> uuid.UUID:
    """The least id of a row made at `at` or later: `id >= since(at)` is a range of the primary key."""
    return uuid.UUID(int=int(at.timestamp() * 1000) << 80)
