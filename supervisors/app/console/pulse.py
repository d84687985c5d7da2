"""Whether an engine's loop turns, and who holds it if not. Looked at from another thread."""

from __future__ import annotations

import asyncio
import threading
import time
from dataclasses import dataclass
from typing import Final

from ....runtime.cell import Cell
from ....runtime.engine import Engine
from ....runtime.errors import ApplicationDown

STUCK: Final = 1.0
"""Seconds without a turn after which the loop counts as held."""
_GRACE: Final = 0.1
"""Seconds a look waits at least: who was just let go turns within it."""


@dataclass(frozen=True, slots=True)
class Held:
    """What a look found.

    Attributes:
        seconds: how long the loop has not turned since the first look; 0 if it turns.
        holder: the actor whose code holds it, if it is an actor's.
    """

    seconds: float = 0.0
    holder: Cell | None = None


class Pulse:
    """Asks an engine's loop for a turn. Costs nothing while nobody looks; for one thread."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._asked: float | None = None
        self._turned = threading.Event()

    def look(self) -> Held:
        """Ask for a turn, or go on waiting for the one that was asked for; at most until it counts as stuck."""
        if self._asked is None:
            self._turned.clear()
            self._asked = time.monotonic()
            try:
                self._engine.post(self._turned.set)
            except ApplicationDown:
                self._asked = None
                return Held()  # nothing turns any more, and nobody is to blame
        if self._turned.wait(max(_GRACE, self._asked + STUCK - time.monotonic())):
            self._asked = None
            return Held()
        return Held(time.monotonic() - self._asked, self._holder())

    def release(self) -> None:
        """Let a look that waits come back."""
        self._turned.set()

    def _holder(self) -> Cell | None:
        engine = self._engine
        if engine.running is not None:
            return engine.running
        task = asyncio.current_task(engine.loop)
        if task is None:
            return None
        for cell in list(engine.cells.values()):
            if cell.run_task is task or task in (cell.tasks or ()):
                return cell
        return None
