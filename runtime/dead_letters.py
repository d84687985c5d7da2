"""Messages that reached nobody: counted, the last ones kept, and told to who asked for them."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from thespian.actors import ActorSystemMessage, DeadEnvelope

if TYPE_CHECKING:
    from .cell import Cell

KEPT: Final = 100


class DeadLetter(NamedTuple):
    """One message that reached nobody; of the message only its class is kept.

    Attributes:
        target: the name or address it was for.
        message_type: its class.
        at: when, on the engine's monotonic clock (seconds).
    """

    target: str
    message_type: str
    at: float


class DeadLetterBox:
    """The engine's dead letters.

    Args:
        now: the engine's monotonic clock.
        tell: is told of each one.
    """

    def __init__(self, now: Callable[[], float], tell: Callable[[DeadLetter], None]) -> None:
        self._now = now
        self._tell = tell
        self._handler: Cell | None = None
        self._recent: deque[DeadLetter] = deque(maxlen=KEPT)
        self.count = 0

    @property
    def recent(self) -> tuple[DeadLetter, ...]:
        """The last ones, oldest first."""
        return tuple(self._recent)

    def handle(self, cell: Cell, enable: bool) -> None:
        """Let an actor receive dead letters as Thespian's ``DeadEnvelope``, or stop that.

        The last one that asked has them, and nobody after it ends (so Thespian).
        """
        if enable:
            self._handler = cell
        elif cell is self._handler:
            self._handler = None

    def add(self, target: Any, message: Any) -> None:
        """Take a message that reached nobody."""
        self.count += 1
        letter = DeadLetter(str(target), type(message).__name__, self._now())
        self._recent.append(letter)
        self._tell(letter)
        handler = self._handler
        # Thespian tells of user messages only; a dead envelope of a dead envelope would go on for ever.
        if handler is not None and not isinstance(message, ActorSystemMessage):
            if handler.alive:
                handler.put_info(DeadEnvelope(target, message), None, None, force=True)
            else:
                self._handler = None
