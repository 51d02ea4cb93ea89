"""What goes wrong, and when: asked for by a tag in the prompt, or by the admin API.

A prompt carries `[fault:NAME]`, `[fault:NAME=VALUE]` or `[fault:NAME*TIMES]` (the first TIMES submits of
exactly that prompt), and `[time:SECONDS]` for an exact generation time before scaling.
"""

import re
from dataclasses import dataclass

# Name → what happens. The value, where one is taken, is a number of seconds.
KNOWN: dict[str, str] = {
    "500": "the submit is answered 500; nothing is accepted",
    "429": "the submit is answered 429 with Retry-After (VALUE seconds, default 1)",
    "hang": "nothing is said for VALUE seconds; accepted only if the client still waits then",
    "reset": "the connection is reset before the task is accepted",
    "accept-reset": "the task is accepted, billed and announced, but the submit's connection is reset",
    "lost-webhook": "the webhook is never sent",
    "failed": "the generation fails; it is not charged",
    "nsfw": "the outputs are flagged; they are charged",
    "truncated": "the outputs are cut short; they are charged",
}

_FAULT = re.compile(r"\[fault:([^\]]*)\]")
_SPEC = re.compile(r"([a-z0-9-]+)(?:=(\d+(?:\.\d+)?))?(?:\*(\d+))?")
_TIME = re.compile(r"\[time:(\d+(?:\.\d+)?)\]")


class UnknownFault(ValueError):
    """A misspelt fault must not look like a fault that was survived."""


@dataclass(slots=True)
class Rule:
    """One fault to inject; `left` counts down, None is for ever."""

    name: str
    value: float | None
    left: int | None
    match: str = ""

    def take(self) -> bool:
        if self.left is None:
            return True
        self.left -= 1
        return self.left >= 0


def parse(spec: str) -> Rule:
    """`"429=2*3"` → 429 with value 2, three times. Raises UnknownFault."""
    found = _SPEC.fullmatch(spec)
    if not found or found[1] not in KNOWN:
        raise UnknownFault(f"unknown fault: {spec!r}; known: {', '.join(KNOWN)}")
    return Rule(found[1], float(found[2]) if found[2] else None, int(found[3]) if found[3] else None)


def exact_time_s(prompt: str) -> float | None:
    found = _TIME.search(prompt)
    return float(found[1]) if found else None


class Faults:
    """The rules in force. `strike` uses one turn of every rule that applies to a submit."""

    def __init__(self) -> None:
        self._rules: list[Rule] = []
        self._counted: dict[tuple[str, str], Rule] = {}

    def add(self, spec: str, *, times: int | None = None, match: str = "") -> None:
        """`match`: only submits whose prompt or model contains it. Raises UnknownFault."""
        rule = parse(spec)
        rule.left = times if times is not None else rule.left
        rule.match = match
        self._rules.append(rule)

    def clear(self) -> None:
        self._rules.clear()
        self._counted.clear()

    def strike(self, *, prompt: str, model: str) -> dict[str, float | None]:
        """Name → value of the faults for this submit. Raises UnknownFault for a misspelt tag."""
        tagged = [self._tagged(prompt, spec) for spec in _FAULT.findall(prompt)]
        ruled = [rule for rule in self._rules if rule.match in prompt or rule.match in model]
        return {rule.name: rule.value for rule in tagged + ruled if rule.take()}

    def _tagged(self, prompt: str, spec: str) -> Rule:
        rule = parse(spec)
        return rule if rule.left is None else self._counted.setdefault((prompt, spec), rule)
