"""What an actor's code may do where it must not touch the engine: on other threads, or after the actor's end."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

from .errors import CallCancelled
from .reasons import Reason, describe

if TYPE_CHECKING:
    from .engine import Engine

T = TypeVar("T")


class Guarded:
    """Mixin of :class:`~.cell.Cell`, for cells with guards."""

    __slots__ = ()

    engine: Engine
    guards: int
    reason: Reason

    @property
    def alive(self) -> bool:
        """Whether it has not ended."""
        raise TypeError(f"{type(self).__name__} does not say whether it lives")

    @property
    def label(self) -> str:
        """For people."""
        raise TypeError(f"{type(self).__name__} has no label")

    def _too_late(self) -> None:
        cell: Any = self
        self.engine.log.late_output(cell)

    def may_act(self, function: Callable[..., Any], *args: Any) -> bool:
        """Whether the calling code may act at once. If not, ``function(*args)`` is left to the engine's thread.

        For actors with guards: what an actor that has ended still does is dropped and counted.
        """
        if not self.alive:
            self._too_late()
            return False
        if self.engine.outside.on_thread():
            return True
        self.engine.post(self._act, function, args)
        return False

    def _act(self, function: Callable[..., Any], args: tuple[Any, ...]) -> None:
        if not self.alive:
            self._too_late()
        else:
            function(*args)

    def act(self, function: Callable[..., T], *args: Any) -> T:
        """Call ``function(*args)`` on the engine's thread for this actor's code, wherever that runs.

        Raises:
            CallCancelled: the actor has ended meanwhile.
        """
        if not self.guards:
            return function(*args)

        def checked() -> T:
            if not self.alive:
                raise CallCancelled(f"{self.label} has ended ({describe(self.reason)}) and does nothing any more")
            return function(*args)

        return self.engine.on_engine(checked)
