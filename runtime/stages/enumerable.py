"""A producer over an iterable (OTP STG-72)."""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterable, AsyncIterator, Hashable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal, cast, get_args

from ..child_spec import ChildSpec
from ..gen_server import Exit, info
from ..messages import TaskDone, TaskFailed
from ..outcomes import Stop
from ..reasons import NORMAL, Reason
from .credit import Credit
from .messages import Subscription
from .options import STAGE_OPTIONS, bad_option, check_word
from .producer import Producer

OnCancel = Literal["continue", "stop"]
PUMP: Final = "dspex.stages.pump"


@dataclass(frozen=True, slots=True)
class _Exhausted:
    """To itself, behind the last events: nothing more comes."""


class FromEnumerable(Producer):
    """Emits the items of an iterable, one for each event asked for, and exits ``normal`` after the last was sent.

    Each item of an async iterable is read only when somebody has asked for it. A plain iterable is read on the
    engine's thread: it must not block.
    """

    def init(
        self, items: Iterable[Any] | AsyncIterable[Any], *, on_cancel: OnCancel = "continue", **options: Any
    ) -> None:
        """Begin to read.

        Args:
            items: what to emit.
            on_cancel: ``stop``: end, reason ``normal``, when the last consumer has left.
            **options: see :class:`.options.StageOptions`.

        Raises:
            Exit: with ``("bad_opts", text)``: an option is malformed, or ``items`` is no iterable.
        """
        self.configure(**options)
        self._stops = _checked_on_cancel(on_cancel) == "stop"
        self._consumers = 0
        self._items: Iterator[Any] | None = None
        self._credit = Credit()
        if isinstance(items, AsyncIterable):
            self.start_task(self._pump(aiter(items)), tag=PUMP)
        elif isinstance(cast("object", items), Iterable):
            self._items = iter(items)
        else:
            raise Exit(bad_option("from_enumerable", "items", "an iterable or async iterable", type(items)).reason)

    def handle_demand(self, demand: int) -> Iterable[Any]:
        """Read as many."""
        if self._items is None:
            self._credit.add(demand)
            return ()
        events = tuple(itertools.islice(self._items, demand))
        self.emit(events)
        if len(events) < demand:
            self._items = iter(())
            self.async_info(_Exhausted())
        return ()

    async def _pump(self, items: AsyncIterator[Any]) -> None:
        """Read one item for each event that was asked for, not before."""
        try:
            await self._credit.take()
            async for item in items:
                self.emit((item,))
                await self._credit.take()
        finally:
            close = getattr(items, "aclose", None)
            if close is not None:
                await close()

    @info
    def pumped(self, end: TaskDone | TaskFailed) -> Stop | None:
        """The async iterable is at its end, or failed."""
        if isinstance(end, TaskFailed):
            return Stop(end.reason)
        self.async_info(_Exhausted())
        return None

    @info
    def exhausted(self, message: _Exhausted) -> Stop:
        """All events have been sent."""
        return Stop(NORMAL)

    def handle_subscribe(self, role: str, options: Mapping[str, Any], subscription: Any) -> str:
        """Count consumers."""
        self._consumers += 1
        return "automatic"

    def handle_cancel(self, kind: str, reason: Reason, subscription: Subscription) -> Stop | None:
        """Count consumers."""
        self._consumers -= 1
        return Stop(NORMAL) if self._stops and not self._consumers else None


def from_enumerable(
    items: Iterable[Any] | AsyncIterable[Any],
    *,
    id: Hashable = "from_enumerable",
    on_cancel: OnCancel = "continue",
    **options: Any,
) -> ChildSpec:
    """A :class:`FromEnumerable` as a temporary child: its iterable cannot be read twice.

    Args:
        items: what to emit.
        id: the child's id within its supervisor.
        on_cancel: see :meth:`FromEnumerable.init`.
        **options: fields of :class:`.options.StageOptions`, and of the child spec (``name``, ``restart`` ...).

    Raises:
        SpecError: an option is malformed.
    """
    _checked_on_cancel(on_cancel)
    arguments = {name: options.pop(name) for name in STAGE_OPTIONS if name in options}
    fields: dict[str, Any] = {"restart": "temporary", **options}
    return ChildSpec(id, FromEnumerable, (items,), {"on_cancel": on_cancel, **arguments}, **fields)


def _checked_on_cancel(on_cancel: OnCancel) -> OnCancel:
    check_word("from_enumerable", "on_cancel", on_cancel, get_args(OnCancel))
    return on_cancel


__all__ = ("PUMP", "FromEnumerable", "OnCancel", "from_enumerable")
