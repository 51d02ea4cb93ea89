"""Files of `NAME=value` lines that a shell can source, readable by their owner only."""

import os
import shlex
from collections.abc import Mapping
from pathlib import Path


def read(file: Path) -> dict[str, str]:
    """The variables in `file`; none when there is no file."""
    if not file.exists():
        return {}
    words = [word for line in file.read_text().splitlines() for word in shlex.split(line, comments=True)]
    return dict(word.split("=", 1) for word in words if "=" in word)


def write(file: Path, variables: Mapping[str, str]) -> None:
    """Replaces `file` in one step, so that a reader sees the old lines or the new ones."""
    file.parent.mkdir(parents=True, exist_ok=True)
    fresh = file.with_name(f"{file.name}.{os.getpid()}")
    fresh.touch(mode=0o600)
    fresh.write_text("".join(f"{name}={shlex.quote(value)}\n" for name, value in variables.items()))
    fresh.replace(file)
