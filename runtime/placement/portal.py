"""One end of the socket pair between two engines: what comes in goes to local actors, what they send goes out.

Both ends are alike. An actor of the other side is known here by a :class:`~.remote_cell.RemoteCell`; the
placed actor, which both sides know by an actor of their own, is the portal's ``twin``. Everything here happens
on the engine's thread.
"""

from __future__ import annotations

import asyncio
import itertools
import weakref
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final, cast

from ..address import ARRIVING, LocalAddress, Origin, forget_route, learn_route
from ..calls import Call
from ..cell import Cell
from ..errors import ActorDied, Error, RemoteError, UsageError
from ..messages import Opens
from ..reasons import NOPROC, Reason, describe
from . import wire
from .relayed import GiveUp, RelayedCall, TakenCall
from .remote_cell import RemoteCell

if TYPE_CHECKING:
    from ..engine import Engine

HIGH_WATER: Final = 1 << 20
"""Bytes that wait for the socket before the portal holds back."""
Write = Callable[[int, int, bytes], None]


class Portal(asyncio.Protocol):
    """One end of the link.

    Args:
        engine: of this side.
        on_lost: told when the connection is gone.
        on_life: takes the items that tell of the placed actor's life: kind and content.

    Attributes:
        twin: the actor here that stands for the placed actor: its proxy in the parent, itself in the child.
        twin_origin: by what address the other side knows it.
        closed: nothing goes in or out any more.
    """

    def __init__(self, engine: Engine, on_lost: Callable[[], None], on_life: Callable[[int, Any], None]) -> None:
        self.engine = engine
        self.twin: Cell | None = None
        self.twin_origin: Origin | None = None
        self.closed = False
        self._on_lost = on_lost
        self._on_life = on_life
        self._transport: asyncio.Transport | None = None
        self._reader = wire.Reader()
        self._out: list[bytes] = []
        self._paused = True
        self._flushing = False
        self._numbers = itertools.count(1)
        self._outgoing: dict[int, Call] = {}
        self._incoming: dict[int, RelayedCall] = {}
        self._watching: dict[int, RemoteCell] = {}
        self._watched: dict[int, tuple[Cell, int]] = {}
        self._held: dict[RemoteCell, None] = {}
        self._remote: weakref.WeakValueDictionary[Origin, RemoteCell] = weakref.WeakValueDictionary()
        self._given = 0
        self._takers: dict[int, Callable[[int, Any], None]] = {
            wire.CALL: self._take_call,
            wire.REPLY: self._take_reply,
            wire.GIVE_UP: self._take_give_up,
            wire.CAST: self._take_cast,
            wire.INFO: self._take_info,
            wire.EXIT: self._take_exit,
            wire.STOP: self._take_stop,
            wire.WATCH: self._take_watch,
            wire.UNWATCH: self._take_unwatch,
            wire.DOWN: self._take_down,
            wire.LINK: self._take_link,
            wire.UNLINK: self._take_unlink,
        }

    # -- the connection ----------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The loop has the socket."""
        self._transport = cast("asyncio.Transport", transport)
        self._transport.set_write_buffer_limits(high=HIGH_WATER)
        self.resume_writing()

    def connection_lost(self, exc: Exception | None) -> None:
        """The other side is gone."""
        self._transport = None
        self._on_lost()

    def pause_writing(self) -> None:
        """The other side does not read: what is sent waits here."""
        self._paused = True

    def resume_writing(self) -> None:
        """It reads again."""
        self._paused = False
        self._flush()

    def write(self, kind: int, id: int, data: bytes) -> None:
        """Send an item with the others of this turn of the loop."""
        if self.closed:
            return
        self._out += wire.item(kind, id, data)
        if not self._flushing and not self._paused:
            self._flushing = True
            self.engine.loop.call_soon(self._flush)

    def send(self, kind: int, id: int, body: Any) -> None:
        """The same, pickled here.

        Raises:
            UsageError: it does not pickle.
        """
        self.write(kind, id, wire.dumps(body))

    def _flush(self) -> None:
        self._flushing = False
        if self._out and not self._paused and self._transport is not None:
            out, self._out = self._out, []
            self._transport.write(b"".join(out))

    @property
    def full(self) -> bool:
        """Whether as many items wait for the socket as a mailbox holds."""
        return len(self._out) >= 2 * self.engine.mailbox_limit

    @property
    def connected(self) -> bool:
        """Whether the loop has the socket."""
        return self._transport is not None

    def hang_up(self) -> None:
        """Close the connection, once all that was sent has gone out."""
        if self._transport is not None:
            self._transport.write(b"".join(self._out))
            self._transport.close()

    def break_off(self) -> None:
        """Close the connection at once."""
        if self._transport is not None:
            self._transport.abort()

    def close(self, reason: Reason) -> None:
        """The placed actor has ended: whoever waits for anything of the other side is told."""
        if self.closed:
            return
        self.closed = True
        forget_route(self)
        outgoing, self._outgoing = self._outgoing, {}
        incoming, self._incoming = self._incoming, {}
        watched, self._watched = self._watched, {}
        for call in outgoing.values():
            call.fail(died(call, reason))
        for asked in incoming.values():
            asked.abandon()
        for cell, ref in watched.values():
            cell.unwatch(ref)
        for remote in list(self._held):
            remote.die(reason)
        for remote in list(self._remote.values()):
            remote.die(reason)

    # -- addresses ---------------------------------------------------------------------------------

    def address(self, origin: Origin) -> LocalAddress:
        """The address, here, of an actor that is not of this process."""
        if origin == self.twin_origin and self.twin is not None:
            return self.twin.address
        cell = self._remote.get(origin)
        if cell is None:
            engine_id, process, number = origin
            address = LocalAddress(f"{engine_id}@{process}", number)
            if self.closed:
                return address
            learn_route(process, self)
            cell = self._remote[origin] = RemoteCell(self, address, address)
        return cell.address

    def hold(self, cell: RemoteCell) -> None:
        """Somebody is to be told of this actor's end."""
        self._held[cell] = None

    def let_go(self, cell: RemoteCell) -> None:
        """Nobody is any more."""
        self._held.pop(cell, None)

    # -- what local actors send --------------------------------------------------------------------

    def call(self, call: Call, target: Any, write: Write, *, fail_fast: bool = False) -> None:
        """Have the other side place a call; what does not pickle is refused at the caller."""
        left = None if call.deadline is None else max(0.0, call.deadline - self.engine.now())
        served, holder = self._served(call), call.holder
        place = None if holder is None else holder.address
        body = (target, call.message, left, call.depth, served, place, call.context, fail_fast)
        try:
            data = wire.dumps(body, call.message)
        except UsageError as error:
            call.fail(error)
            return
        id = next(self._numbers)
        self._outgoing[id] = call
        call.attach(GiveUp(id, lambda number: self._give_up(number, write)))
        write(wire.CALL, id, data)

    def _served(self, call: Call) -> int:
        """The call of the other side that this one is made for, if there is one."""
        above: Call | None = call  # itself, if it came from there and is on its way back
        while above is not None:
            if isinstance(above, RelayedCall) and above.waiter is self:
                return above.id
            above = above.parent
        return 0

    def _give_up(self, id: int, write: Write) -> None:
        if self._outgoing.pop(id, None) is not None:
            write(wire.GIVE_UP, id, wire.dumps(None))

    def answer(self, call: RelayedCall) -> None:
        """Send the outcome of a call of the other side."""
        if self._incoming.pop(call.id, None) is None or self._left_to_the_proxy(call):
            return
        farewell = call.message.farewell() if isinstance(call.message, Opens) else None
        try:
            data = wire.dumps((call.value, call.error, farewell), call.value if call.error is None else call.error)
        except UsageError as error:
            data = wire.dumps((None, error, None))
        self.write(wire.REPLY, call.id, data)

    def _left_to_the_proxy(self, call: RelayedCall) -> bool:
        # The end of the placed actor itself is told by the one that stands for it there.
        return isinstance(call.error, ActorDied) and call.to is not None and call.to is self.twin

    def forget_incoming(self, id: int) -> None:
        """Nobody at the other side waits for this call any more."""
        self._incoming.pop(id, None)

    def taken(self, count: int) -> None:
        """The placed actor has taken so many messages from its mailbox."""
        self.write(wire.TAKEN, count, wire.dumps(None))

    def watch(self, cell: RemoteCell) -> int:
        """Be told of an actor's end; the id of the request."""
        id = next(self._numbers)
        self._watching[id] = cell
        self.send(wire.WATCH, id, cell.target)
        return id

    def unwatch(self, id: int) -> None:
        """Undo that."""
        if self._watching.pop(id, None) is not None:
            self.send(wire.UNWATCH, id, None)

    # -- what comes in -----------------------------------------------------------------------------

    def data_received(self, data: bytes) -> None:
        """A batch, or part of it."""
        for kind, id, content in self._reader.feed(data):
            if not self.closed:
                self._take(kind, id, content)
        if self._given and self.twin is not None:
            given, self._given = self._given, 0
            self.twin.put_call(TakenCall(self, given))

    def _take(self, kind: int, id: int, content: bytes) -> None:
        token = ARRIVING.set(self)
        try:
            body = wire.loads(content)
        except Exception as error:  # fault boundary: unpickling runs the code of whatever came
            self._unreadable(kind, id, error)
            return
        finally:
            ARRIVING.reset(token)
        taker = self._takers.get(kind)
        try:
            if taker is not None:
                taker(id, body)
            elif kind == wire.TAKEN:
                self._on_life(kind, id)
            else:
                self._on_life(kind, body)
        except Exception as error:  # fault boundary: what one item leads to must not cost the next one's receiver
            self.engine.log.callback_failed(taker or self._on_life, error)

    def _unreadable(self, kind: int, id: int, error: Exception) -> None:
        """Typically a class that cannot be imported at this side."""
        words = RemoteError(
            f"expected what the other process can unpickle, got {type(error).__name__}: {error}",
            type=type(error).__name__,
            text=str(error),
        )
        if kind == wire.REPLY and (call := self._outgoing.pop(id, None)) is not None:
            call.fail(words)
        elif kind == wire.CALL:
            self._count_given(None)
            self.send(wire.REPLY, id, (None, words, None))
        elif kind in (wire.START, wire.STARTED, wire.ENDED):
            self._on_life(kind, words)
        else:
            self.engine.log.callback_failed(self._take, error)
            if kind in (wire.CAST, wire.INFO):
                self._count_given(None)
                self.engine.dead_letters.add("another process", error)

    def _count_given(self, target: Any) -> None:
        if target is None and self.twin is not None and not self.twin.elsewhere:
            self._given += 1

    def _receiver(self, target: Any) -> Any:
        """A name or an address; None stands for the placed actor."""
        self._count_given(target)
        return target if target is not None or self.twin is None else self.twin.address

    def _take_call(self, id: int, body: Any) -> None:
        target, message, left, depth, served, holder, context, fail_fast = body
        parent = self._outgoing.get(served)
        holding = holder.cell if isinstance(holder, LocalAddress) else None
        call = RelayedCall(self, id, self._receiver(target), message, left, parent, holding, context)
        call.depth = max(call.depth, depth)
        self._incoming[id] = call
        self.engine.router.place(call, "", fail_fast)

    def _take_reply(self, id: int, body: Any) -> None:
        call, (value, error, farewell) = self._outgoing.pop(id, None), body
        if call is None:
            # The caller gave up while the answer was on its way: what that opened is of use to nobody.
            if farewell is not None and (opened := getattr(value, "address", None)) is not None:
                self.engine.router.cast(opened, farewell)
        elif error is None:
            call.complete(value)
        else:
            call.fail(error)

    def _take_give_up(self, id: int, body: None) -> None:
        call = self._incoming.pop(id, None)
        if call is not None:
            call.abandon()

    def _take_cast(self, id: int, body: Any) -> None:
        target, message, context = body
        self.engine.router.cast(self._receiver(target), message, "", context)

    def _take_info(self, id: int, body: Any) -> None:
        target, message, sender, context, notice = body
        receiver = self._receiver(target)
        cell = self.engine.cell_of(receiver)
        if cell is None:
            self.engine.dead_letters.add(receiver, message)
        elif notice:
            cell.put_notice(message, sender, context)
        else:
            cell.put_info(message, sender, context)

    def _take_exit(self, id: int, body: Any) -> None:
        target, reason, sender, from_parent, linked = body
        cell = self.engine.cell_of(target if target is not None or self.twin is None else self.twin.address)
        if cell is None:
            return
        by = sender.cell if isinstance(sender, LocalAddress) else None
        if linked and by is not None:
            part(cell, by)
        self.engine.later_signal(cell, reason, by, from_parent=from_parent)
        self.engine.flush_signals()

    def _take_stop(self, id: int, body: Any) -> None:
        target, reason = body
        self.engine.stop_actor(target if target is not None or self.twin is None else self.twin.address, reason)

    def _take_watch(self, id: int, target: Any) -> None:
        cell = self.engine.cell_of(target)
        if cell is None or not cell.alive:
            self.send(wire.DOWN, id, (None if cell is None else cell.address, NOPROC))
            return

        def tell(address: LocalAddress | None, reason: Reason) -> None:
            self._watched.pop(id, None)
            self.send(wire.DOWN, id, (address, wire.portable_reason(reason)))

        ref = self.engine.next_number()
        self._watched[id] = (cell, ref)
        cell.watch(ref, tell)

    def _take_unwatch(self, id: int, body: None) -> None:
        watched = self._watched.pop(id, None)
        if watched is not None:
            watched[0].unwatch(watched[1])

    def _take_down(self, id: int, body: Any) -> None:
        cell = self._watching.pop(id, None)
        if cell is not None:
            address, reason = body
            cell.ended(address, reason)

    def _take_link(self, id: int, body: Any) -> None:
        target, by = body
        cell, other = self.engine.cell_of(target), by.cell
        if cell is None or not cell.alive:
            self.send(wire.EXIT, 0, (by, NOPROC, target if isinstance(target, LocalAddress) else None, False, True))
        elif other is not None:
            join(cell, other)

    def _take_unlink(self, id: int, body: Any) -> None:
        target, by = body
        cell = self.engine.cell_of(target)
        if cell is not None and by.cell is not None:
            part(cell, by.cell)


def join(cell: Cell, other: Cell) -> None:
    """Link two actors of which one lives elsewhere, without telling that side."""
    for one, two in ((cell, other), (other, cell)):
        if one.links is None:
            one.links = {}
        one.links[two.address] = two
        if isinstance(one, RemoteCell):
            one.portal.hold(one)


def part(cell: Cell, other: Cell) -> None:
    """Undo a link, without telling that side."""
    for one, two in ((cell, other), (other, cell)):
        if one.links is not None:
            one.links.pop(two.address, None)


def died(call: Call, reason: Reason) -> Error:
    """What the caller of an actor in an ended interpreter is told."""
    return ActorDied(
        f"{call.target!s} ended ({describe(reason)}) before it answered {type(call.message).__name__}",
        target=str(call.target),
        reason=reason,
    )
