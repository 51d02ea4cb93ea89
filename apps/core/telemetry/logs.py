"""What is taken out of log lines before they are written."""

import re
from collections.abc import MutableMapping
from typing import Any, Final

# Postgres quotes the whole row that a constraint refused, over as many lines as its texts have.
_DETAIL: Final = re.compile(
    r"^DETAIL:.*?(?=^Traceback |^The above exception|^During handling|\Z)", re.M | re.S
)


def without_rows(_: Any, __: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """For structlog, after the traceback was formatted: errors of Postgres without the values that they quote."""
    for name in ("exception", "event"):
        text = event.get(name)
        if isinstance(text, str) and "DETAIL:" in text:
            event[name] = _DETAIL.sub("DETAIL: left out\n", text)
    return event
