"""The parts of one simulated provider, put together once per process."""

import random
from dataclasses import dataclass

from apps.simulator.engine import Engine
from apps.simulator.faults import Faults
from apps.simulator.knobs import Knobs
from apps.simulator.ledger import Ledger
from apps.simulator.outputs import Outputs
from apps.simulator.webhooks import Sender


@dataclass(frozen=True)
class Options:
    """What is fixed while the process runs. Without keys, every non-empty key is good."""

    api_keys: tuple[str, ...] = ()
    webhook_secret: str = "whsec_c2ltdWxhdG9y"  # noqa: S105 - a stand-in has a known secret
    ledger: str | None = None
    seed: int | None = None
    time_scale: float = 1.0


class Provider:
    """Must be made inside the event loop that serves it."""

    def __init__(self, options: Options) -> None:
        self.options = options
        self.rng = random.Random(options.seed)
        self.knobs = Knobs(time_scale=options.time_scale)
        self.faults = Faults()
        self.ledger = Ledger(options.ledger)
        self.engine = Engine(self.knobs, self.ledger, self.rng)
        self.outputs = Outputs(self.knobs)
        self.webhooks = Sender(self.knobs, self.ledger)

    def reset(self) -> None:
        """Everything as at the start, the ledger emptied: for the next test."""
        self.webhooks.cancel()
        self.engine.reset()
        self.outputs.clear()
        self.faults.clear()
        self.ledger.clear()
        self.rng.seed(self.options.seed)
        vars(self.knobs).update(vars(Knobs(time_scale=self.options.time_scale)))

    async def close(self) -> None:
        self.engine.reset()
        await self.webhooks.close()
        self.ledger.close()
