"""The scheduling order of a seeded run: which actor runs next, and for how many messages, is drawn by lot.

Each actor still handles its messages in the order they came; between actors nothing is promised, and
here nothing is kept. Real time plays no part, so a seed gives the same order again.
"""

from __future__ import annotations

import math
import random
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from ..calls import Call
from ..cell import MAX_BATCH, Cell
from ..scheduler import Scheduler

if TYPE_CHECKING:
    from ..engine import Engine

_BATCHES: Final = (1, 2, MAX_BATCH)
_ON_THE_SPOT: Final = 0.5
"""Share of calls to idle actors that are answered before anybody else runs; the others wait for their lot."""


class _LotteryQueue(deque[Cell]):
    """A run queue that gives out any of its cells."""

    def __init__(self, rng: random.Random) -> None:
        super().__init__()
        self._rng = rng

    def popleft(self) -> Cell:
        """Any cell."""
        if len(self) > 1:
            self.rotate(-self._rng.randrange(len(self)))
        return super().popleft()


class SeededScheduler(Scheduler):
    """A scheduler that draws by lot and does not look at a watch.

    Args:
        engine: the engine it will serve.
        rng: the lots.
    """

    def __init__(self, engine: Engine, rng: random.Random) -> None:
        super().__init__(engine.loop, math.inf, engine.log.slow_handler)
        self._rng = rng
        self._ready = _LotteryQueue(rng)

    def _drain(self, budget: int) -> None:
        ready = self._ready
        try:
            while ready and budget > 0:
                self.running = cell = ready.popleft()
                before = cell.handled
                try:
                    cell.run(self._rng.choice(_BATCHES))
                finally:
                    self._rest(cell)
                budget -= cell.handled - before or 1
        finally:
            self._over()

    def _answered_now(self, cell: Cell, call: Call) -> bool:
        return self._rng.random() < _ON_THE_SPOT and super()._answered_now(cell, call)

    def _took_long(self, cell: Cell, seconds: float) -> None:
        """Real time is nobody's business here."""


def seeded(rng: random.Random) -> Callable[[Engine], SeededScheduler]:
    """An engine's option ``scheduler``: its actors run in an order drawn from ``rng``, from the first one on."""
    return lambda engine: SeededScheduler(engine, rng)
