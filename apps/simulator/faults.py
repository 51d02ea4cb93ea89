"""What goes wrong, and when: asked for by a tag in the prompt, or by the admin API.

A prompt carries `[fault:NAME]`, `[fault:NAME=VALUE]` or `[fault:NAME*TIMES]` (the first TIMES submits of
exactly that prompt), and `[time:SECONDS]` for an exact generation time before scaling.
"""

import re
from dataclasses import dataclass

# Name → what happens. VALUE is a number; of seconds, where nothing else is said.
KNOWN: dict[str, str] = {
    # Before anything is accepted.
    "500": "the submit is answered 500",
    "502": "the submit is answered 502 with a gateway's HTML page",
    "503": "the submit is answered 503",
    "504": "the submit is answered 504",
    "401": "the key is not accepted any more",
    "402": "the account is empty",
    "404": "the model is retired",
    "429": "the submit is answered 429 with Retry-After (VALUE, default 1)",
    "429-date": "429 with Retry-After as an HTTP date, VALUE (default 7) from now",
    "429-absent": "429 without Retry-After",
    "429-absurd": "429 with Retry-After of thirty years",
    "429-concurrency": "429 because too much is under way",
    "429-quota": "429 because the quota is used up: waiting does not help",
    "refused": "moderation refuses the prompt",
    "hang": "nothing is said for VALUE; accepted only if the client still waits then",
    "reset": "the connection is reset before the task is accepted",
    # The task is accepted; the answer to the submit is not what it should be.
    "accept-reset": "the task is accepted, billed and announced, but the submit's connection is reset",
    "accept-hang": "the task is accepted, and nothing is said for VALUE",
    "accept-garbled": "the answer's JSON is cut short",
    "accept-html": "the answer is an HTML page with status 200",
    "accept-short": "the answer is shorter than its Content-Length, and the connection closed",
    "accept-cut": "the connection is reset in the middle of the answer",
    # What a poll sees.
    "stuck": "the task never ends",
    "unknown-status": "while it is open, the status is a word that nobody knows",
    "regress": "every second status is an earlier one",
    "forgetful": "the first VALUE (default 2) polls are answered 404",
    "poll-500": "the first VALUE (default 2) polls are answered 500",
    "poll-502": "the first VALUE (default 2) polls are answered 502",
    "poll-429": "the first VALUE (default 2) polls are answered 429",
    "poll-reset": "the first VALUE (default 2) polls are reset",
    "poll-garbled": "the first VALUE (default 2) polls are answered with JSON that is cut short",
    "empty": "completed without outputs; charged",
    "cancel-race": "a cancel is accepted, and the task completes all the same",
    # The webhook.
    "lost-webhook": "the webhook is never sent",
    "double-webhook": "the webhook is sent twice, one after the other",
    "triple-webhook": "the webhook is sent three times at once",
    "early-webhook": "the task ends at once, and the webhook is sent before the submit is answered",
    "unordered-webhooks": "after the end a webhook tells of the start",
    "late-webhook": "the webhook is sent VALUE (default 5) after the end",
    "bad-signature": "the webhook is signed with a key that is not the provider's",
    "old-timestamp": "the webhook was signed VALUE (default 3600) ago",
    "rotated-key": "the webhook is signed with the provider's next key (and, where the scheme has it, also the last)",
    "wrong-task": "the webhook names another task",
    "reserialized": "the webhook's JSON is written anew after it was signed",
    # What is delivered; charged.
    "nsfw": "the outputs are flagged",
    "filtered": "the output is black and flagged, and the answer a success",
    "truncated": "the outputs are cut short",
    "html-output": "the output is an HTML error page under the media type",
    "wrong-type": "the output is sent as text/plain",
    "blank": "the pictures are white",
    "black": "the pictures are black",
    "wrong-size": "the outputs are half as wide and high",
    "wrong-n": "one output less, of one one more",
    "huge": "the output says that it has 10 GB, and keeps sending",
    "expired": "the output's address is answered 403",
    "redirect-private": "the output's address redirects to a private address",
    "short-output": "the download is shorter than its Content-Length",
    "cut-output": "the download is reset in its middle",
    "drip": "the download comes byte by byte, one each VALUE (default 1)",
    # Money.
    "failed": "the generation fails; it is not charged",
    "charge-failed": "the generation fails, and is charged",
    "refund": "what was charged is given back VALUE (default 1) later",
    "cost": "it is charged VALUE times (default 1.5) its price",
    "double-charge": "it is charged twice",
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
