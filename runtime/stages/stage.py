"""What all stages share: how their messages are handled, and who watches whom.

Most of a stage's work is a sequence of the user's own functions (``handle_events``, ``handle_demand``) with
bookkeeping between them. It is written once, as a generator that yields each such call, and driven either
by a plain handler or by a coroutine, whichever the user's functions are.
"""

from __future__ import annotations

import inspect
from collections.abc import Generator, Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Final, TypeAlias

from thespian.actors import ActorAddress

from ..address import LocalAddress
from ..errors import DefinitionError
from ..gen_server import GenServer, call, cast
from ..handlers import Handler
from ..outcomes import Stop
from ..process import context_of
from ..reasons import NOPROC, Reason
from .messages import AsyncInfo, StageDown, SyncInfo

if TYPE_CHECKING:
    from ..cell import Cell

UserCall: TypeAlias = tuple[Any, ...]
"""A function of the user's and its arguments."""
Work: TypeAlias = Generator[UserCall, Any, Stop | None]
"""A stage's work on one message: yields user calls, is sent their results, returns a Stop or None."""
NO_STEPS: Final[Mapping[type, str]] = {}


class Stage(GenServer):
    """Base of producers and consumers.

    A stage handles messages of its own as any :class:`~..gen_server.GenServer` does. It must not be
    ``blocking``: what blocks is for ``run_blocking``.
    """

    dspex_steps: ClassVar[Mapping[type, str]] = NO_STEPS
    """Message classes of the stage protocol, each with the name of the generator method that does the work."""
    dspex_cast_steps: ClassVar[Mapping[type, str]] = NO_STEPS
    """The same for casts."""
    dspex_user_work: ClassVar[str] = ""
    """The user's function that decides whether that work is done by coroutines."""

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if cls.blocking:
            raise DefinitionError(f"{cls.__qualname__}: a stage is not blocking; use run_blocking in async handlers")
        for name in ("handle_subscribe", "handle_cancel", "format_discarded"):
            if inspect.iscoroutinefunction(getattr(cls, name, None)):
                raise DefinitionError(f"{cls.__qualname__}.{name}: expected a plain function, got 'async def'")
        is_async = inspect.iscoroutinefunction(getattr(cls, cls.dspex_user_work, None))
        for message_type, name in cls.dspex_steps.items():
            cls.dspex_infos[message_type] = _handler(name, is_async)
        for message_type, name in cls.dspex_cast_steps.items():
            cls.dspex_casts[message_type] = _handler(name, is_async)

    # -- for the user --------------------------------------------------------------------------------

    def handle_subscribe(self, role: str, options: Mapping[str, Any], subscription: Any) -> Any:
        """A subscription begins. Plain.

        Args:
            role: what the other end is: ``"producer"`` or ``"consumer"``.
            options: how the consumer subscribed: ``max_demand``, ``min_demand``, ``cancel``, and the options
                for the dispatcher.
            subscription: see there.

        Returns:
            ``"automatic"``; a consumer may say ``"manual"``, and then asks itself; or ``Stop(reason)``.
        """
        return "automatic"

    def handle_cancel(self, kind: str, reason: Reason, subscription: Any) -> Stop | None:
        """A subscription has ended. Plain.

        Args:
            kind: ``"cancel"``, or ``"down"`` if the other end died.
            reason: why.
            subscription: see there.
        """

    # -- infos ---------------------------------------------------------------------------------------

    @call
    def dspex_on_sync_info(self, message: SyncInfo) -> None:
        """See :class:`.messages.SyncInfo`."""
        self._stage_inform(message.message)

    @cast
    def dspex_on_async_info(self, message: AsyncInfo) -> None:
        """See :class:`.messages.AsyncInfo`."""
        self._stage_inform(message.message)

    def _stage_inform(self, message: Any) -> None:
        """Deliver an info; at once, where nothing is buffered (OTP STG-50)."""
        self._myRef.put_notice(message)

    # -- watching and sending --------------------------------------------------------------------------

    def _stage_watch(self, address: ActorAddress | None, notice: type[StageDown], subscription: str) -> int:
        """Have a ``notice`` come when the other end of a subscription ends, or has ended; the monitor's number."""
        cell = self._myRef
        ref = cell.engine.next_number()
        other = engine_cell(address)

        def tell(ended: LocalAddress | None, reason: Reason) -> None:
            if cell.watching is not None:
                cell.watching.pop(ref, None)
            cell.put_notice(notice(ref, ended, reason, subscription), ended)

        if other is None or not other.alive:
            tell(None, NOPROC)
        else:
            other.watch(ref, tell, cell)
        return ref

    def _stage_tell(self, address: ActorAddress | None, message: Any) -> None:
        """Send another stage a message of the protocol; demand bounds them, so no mailbox refuses one."""
        cell = self._myRef
        if type(address) is LocalAddress and address.cell is not None:
            address.cell.put_notice(message, cell.address, context_of(cell))
        else:
            cell.engine.router.send(address, message, cell, context_of(cell))


def drive(work: Work) -> Stop | None:
    """Do a stage's work with plain functions of the user's."""
    result: Any = None
    while True:
        try:
            function, *args = work.send(result)
        except StopIteration as end:
            stop: Stop | None = end.value
            return stop
        result = function(*args)


async def drive_async(work: Work) -> Stop | None:
    """Do a stage's work with functions of the user's of either kind."""
    result: Any = None
    while True:
        try:
            function, *args = work.send(result)
        except StopIteration as end:
            stop: Stop | None = end.value
            return stop
        result = function(*args)
        if inspect.isawaitable(result):
            result = await result


def _handler(name: str, is_async: bool) -> Handler:
    def plain(stage: Any, message: Any) -> Stop | None:
        return drive(getattr(stage, name)(message))

    async def waiting(stage: Any, message: Any) -> Stop | None:
        return await drive_async(getattr(stage, name)(message))

    return Handler(waiting if is_async else plain, is_async)


def engine_cell(address: ActorAddress | None) -> Cell | None:
    """The cell behind an address of this process."""
    return address.cell if type(address) is LocalAddress else None


__all__ = ("NO_STEPS", "Stage", "UserCall", "Work", "drive", "drive_async", "engine_cell")
