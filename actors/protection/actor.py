"""The protection actor, ``protection/<id>``: it decides who may ask a provider, and when.

It lives beside the provider and survives it: a restart of the provider must not be a way to hammer one that is down.
Its handlers never wait, so a call is answered where it is made; only a store of limits that is shared with other
processes is asked by a task. Who waits for room is woken when there can be some, not before.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Mapping
from typing import Any, Final

from ...runtime.address import LocalAddress
from ...runtime.errors import CallCancelled, ConfigError, LMError, UsageError
from ...runtime.gen_server import Exit, Fail, NoReply, call, cast, info
from ...runtime.messages import Down, TaskDone, TaskFailed
from ...runtime.timers import Timer
from ..configuration.follower import SettingsFollower
from ..configuration.provider_settings import ProviderSettings, RateLimit
from ..configuration.settings import Settings
from .breaker_verdicts import CANCELLED
from .limit_buckets import Shortage
from .limit_queue import LimitQueue, Waiting
from .limit_redis import SharedHold, StorageDown
from .limit_shared import Asked, SharedStore
from .memory import ProtectionMemory
from .messages import Admission, Admit, ProtectionReport, ProtectionStatus, ResetProtection, Settle
from .refusals import breaker_open, gate_closed, no_room
from .reports import ProtectionReports, told
from .safeguards import UNSENT, Blocker, Change, Safeguards
from .ticket import Ticket, TimeIsUp, Wake, owner_of

# What is left for a refusal to reach a caller whose own deadline is near: it then hears what it waited for.
_MARGIN: Final = 0.02
# Requests that may stand in line to be asked for in a shared store, even if none may wait for room.
_ASKED_FOR: Final = 1000
_UNLIMITED: Final = RateLimit(limit=None)
_IN_LINE: Final = Shortage("queue", "all")
_BEING_ASKED: Final = Shortage("storage", "all")


class ProtectionActor(SettingsFollower):
    """What stands before one provider.

    Args:
        provider: its id; its settings are ``ai.providers.<id>``.
        settings: its settings, for use without a configuration actor.

    Raises:
        ConfigError: the provider is not configured.
    """

    # A settlement that is refused would hold its place for ever; and whoever asks is a request that exists already.
    mailbox_limit = None

    async def init(
        self, provider: str, *, settings: ProviderSettings | None = None, memory: ProtectionMemory | None = None
    ) -> None:
        """Read the settings, and be told when they change."""
        self._provider = provider
        if settings is None:
            whole = await self.follow_settings(("ai", "providers", provider))
            settings = whole.ai.providers.get(provider)
        if settings is None:
            raise ConfigError(
                f"expected a configured provider, got {provider!r}, at ai.providers.{provider}",
                path=f"ai.providers.{provider}",
                expected="a configured provider",
                got=provider,
            )
        self._settings = settings
        self._now = self.system.now
        memory = ProtectionMemory() if memory is None else memory
        memory.settle_all()
        if memory.guards is None:
            memory.guards = Safeguards(self._now, self.random, settings)
        else:
            memory.guards.configure(settings)
        self._guards = memory.guards
        self._store = SharedStore(self, provider, settings)
        self._queue = LimitQueue()
        self._tickets = memory.tickets
        # Those in the queue that wait for no more than the shared store's answer.
        self._impatient: dict[str, Ticket] = {}
        self._owners: dict[LocalAddress, dict[str, None]] = {}
        self._numbers = itertools.count(1)
        self._wake_timer: Timer | None = None
        self._reports = ProtectionReports(self, provider)
        self._admitted = 0

    # -- in --------------------------------------------------------------------------------------

    @call
    def admit(self, msg: Admit) -> Admission | NoReply | Fail:
        """Let a request pass, have it wait, or refuse it."""
        if msg.id in self._tickets:
            return Fail(UsageError(f"expected a new id, got {msg.id!r}, which is not settled yet, at Admit.id"))
        blocker = self._blocker()
        if blocker is not None:
            return Fail(self._blocked(blocker))
        caller = self.caller
        ticket = Ticket(
            msg.id, msg.user, msg.tokens, next(self._numbers), self._now(), owner_of(msg, caller), msg.lease
        )
        short = self._guards.shortage(ticket)
        if short is None and len(self._queue) and self._queue.stands_before(msg.user) and not self._store.asking:
            short = _IN_LINE
        if short is None and not self._store.usable:
            return self._let_in(ticket)
        ticket.caller = caller
        ticket.fails = (msg.on_limit or self._policy(short).on_limit) == "fail"
        if short is not None and (short.never or ticket.fails):
            return Fail(self._no_room(ticket, short, "it is never enough" if short.never else "it was not to wait"))
        return self._wait(ticket, short or _BEING_ASKED)

    def _wait(self, ticket: Ticket, short: Shortage) -> NoReply | Fail:
        """Put a request in the queue, if that is of any use."""
        patience, everybody, own = math.inf, self._settings.rate_limit, self._settings.user_rate_limit
        for limits in (everybody, own):
            if limits is not None and limits.max_wait is not None:
                patience = min(patience, limits.max_wait)
        deadline = ticket.caller.deadline if ticket.caller is not None else None
        if deadline is not None:
            patience = min(patience, deadline - _MARGIN - ticket.since)
        # A pause is not over before its time; limits may be, when something is given back.
        if patience <= self._guards.pause.left:
            return Fail(self._no_room(ticket, short, f"it may wait for {max(patience, 0.0):.3g} s"))
        most = (everybody or own or _UNLIMITED).max_waiting
        if short is _BEING_ASKED:  # that is no waiting
            most = max(most, _ASKED_FOR)
        full = len(self._queue) >= most
        if not full and short is not _BEING_ASKED and everybody is not None and own is not None:
            most = own.max_waiting
            full = self._queue.of_user(ticket.user)[0] >= most
        if full:
            return Fail(self._no_room(ticket, short, f"{most} wait already"))
        self._keep(ticket)
        self._queue.add(ticket)
        if ticket.fails:
            self._impatient[ticket.id] = ticket
        if patience < math.inf:
            ticket.timer = self.start_timer(patience, TimeIsUp(ticket, of_lease=False))
        self._serve_queue()
        return NoReply()

    def _let_in(self, ticket: Ticket) -> Admission:
        ticket.held = held = self._guards.enter(ticket)
        self._admitted += 1
        waited = 0.0
        if ticket.caller is None:
            self._keep(ticket)
        else:
            waited = self._now() - ticket.since
            self._impatient.pop(ticket.id, None)
            if ticket.timer is not None:
                ticket.timer.cancel()
            self._reports.waited(waited)
        if ticket.lease is not None:
            ticket.timer = self.start_timer(ticket.lease, TimeIsUp(ticket, of_lease=True))
        return Admission(ticket.id, waited, held.probe)

    def _keep(self, ticket: Ticket) -> None:
        self._tickets[ticket.id] = ticket
        owner = ticket.owner
        if owner is not None:
            theirs = self._owners.get(owner)
            if theirs is None:
                # Once for each owner, until its end: most ask many times.
                self.monitor(owner)
                theirs = self._owners[owner] = {}
            theirs[ticket.id] = None

    # -- out -------------------------------------------------------------------------------------

    @cast
    def settle(self, msg: Settle) -> None:
        """A request ended."""
        ticket = self._tickets.pop(msg.id, None)
        if ticket is not None:
            self._end(ticket, msg.failure, msg.tokens, msg.retry_after)

    @info
    def owner_died(self, msg: Down) -> None:
        """Take back what an actor held that ended, and forget what it asked for."""
        if isinstance(msg.address, LocalAddress):
            for id in self._owners.pop(msg.address, {}):
                # One that waited may have been passed over just now: its caller is gone.
                ticket = self._tickets.pop(id, None)
                if ticket is not None:
                    self._end(ticket, CANCELLED, None, None)

    @info
    def time_is_up(self, msg: TimeIsUp) -> None:
        """A request waited long enough, or an admission was never settled."""
        ticket = msg.ticket
        if not msg.of_lease:
            # There may be room at this very moment.
            self._serve_queue()
        if self._tickets.get(ticket.id) is not ticket or msg.of_lease != (ticket.held is not None):
            return
        if ticket.held is None and ticket.caller is not None:
            waited = self._now() - ticket.since
            self._queue.remove(ticket)
            short = self._guards.shortage(ticket) or (ticket.short[0] if ticket.short is not None else _IN_LINE)
            self.fail(ticket.caller, self._no_room(ticket, short, f"it has waited for {waited:.3g} s"))
        del self._tickets[ticket.id]
        self._end(ticket, CANCELLED, None, None)

    def _end(self, ticket: Ticket, failure: str | None, tokens: int | None, retry_after: float | None) -> None:
        """A request that is no longer among the tickets is over, admitted or not."""
        if ticket.timer is not None:
            ticket.timer.cancel()
        if ticket.owner is not None and ticket.owner in self._owners:
            self._owners[ticket.owner].pop(ticket.id, None)
        unsent = failure in UNSENT
        changes: list[Change] = []
        if ticket.held is not None:
            changes = self._guards.settle(ticket, ticket.held, failure, tokens, retry_after)
        else:
            unsent = True
            self._queue.remove(ticket)
            self._impatient.pop(ticket.id, None)
            if ticket.caller is not None and not ticket.caller.settled:
                self.fail(ticket.caller, CallCancelled(f"admission {ticket.id!r} was withdrawn while it waited"))
        if ticket.shared is not None:
            self._store.settle(ticket.shared, tokens, unsent=unsent)
        if changes:
            self._tell(changes)
        elif len(self._queue):
            self._queue.unblock(ticket.user)
            self._serve_queue()

    # -- the queue -------------------------------------------------------------------------------

    @info
    def wake(self, msg: Wake) -> None:
        """There may be room."""
        self._wake_timer = None
        self._serve_queue()

    def _serve_queue(self) -> None:
        when = self._queue.serve(self._now(), self._offer) if len(self._queue) else None
        if self._impatient and not self._store.asking:
            for ticket in list(self._impatient.values()):
                self._queue.remove(ticket)
                self._refuse_waiting(ticket, _IN_LINE, "it was not to wait")
        timer = self._wake_timer
        if timer is not None:
            if timer.active and timer.when == when:
                return
            timer.cancel()
            self._wake_timer = None
        if when is not None:
            self._wake_timer = self.start_timer(max(0.0, when - self._now()), Wake())

    def _offer(self, waiting: Waiting) -> Shortage | None:
        """It is this request's turn: let it in or refuse it (None), or say why it still has to wait."""
        assert isinstance(waiting, Ticket)
        ticket, caller = waiting, waiting.caller
        assert caller is not None
        if caller.settled:  # gave up, and says so later, or never
            self._drop(ticket)
            return None
        blocker = self._blocker()
        if blocker is not None:
            self.fail(caller, self._blocked(blocker))
            self._drop(ticket)
            return None
        short = self._guards.shortage(ticket) or self._short_in_store(ticket)
        if short is None:
            self.reply(caller, self._let_in(ticket))
            return None
        if short.never or (ticket.fails and short is not _BEING_ASKED):
            self._refuse_waiting(ticket, short, "it is never enough" if short.never else "it was not to wait")
            return None
        return short

    def _refuse_waiting(self, ticket: Ticket, short: Shortage, why: str) -> None:
        assert ticket.caller is not None
        self.fail(ticket.caller, self._no_room(ticket, short, why))
        self._drop(ticket)

    def _drop(self, ticket: Ticket) -> None:
        """Forget a request that waits; the queue is being served and lets it go."""
        del self._tickets[ticket.id]
        self._impatient.pop(ticket.id, None)
        if ticket.timer is not None:
            ticket.timer.cancel()
        if ticket.owner is not None and ticket.owner in self._owners:
            self._owners[ticket.owner].pop(ticket.id, None)
        if ticket.shared is not None:
            self._store.settle(ticket.shared, None, unsent=True)

    def _short_in_store(self, ticket: Ticket) -> Shortage | None:
        """Whether the shared store has no room, or has to be asked first."""
        if ticket.shared is not None or not self._store.usable:
            return None
        if ticket.short is not None:
            short, until = ticket.short
            if (left := until - self._now()) > 0.0:
                return Shortage(short.limit, short.scope, left)
            ticket.short = None
        if not self._store.asking:
            self._store.ask(ticket)
        return _BEING_ASKED

    @info
    def task_done(self, msg: TaskDone) -> None:
        """The shared store has answered."""
        tag, answer = msg.tag, msg.value
        if self._store.heard(tag, answer):
            reason = str(answer) if isinstance(answer, StorageDown) else "success"
            self._tell([Change("storage", self._store.state, reason)])
        if not isinstance(tag, Asked):
            return
        ticket = tag.asker
        assert isinstance(ticket, Ticket)
        if isinstance(answer, SharedHold):
            if self._tickets.get(ticket.id) is ticket:
                ticket.shared = answer
            else:
                self._store.settle(answer, None, unsent=True)
        elif isinstance(answer, Shortage):
            ticket.short = (answer, self._now() + (answer.wait or 0.0))
        self._serve_queue()

    @info
    def task_failed(self, msg: TaskFailed) -> None:
        """A bug, not a store that is down."""
        raise Exit(msg.reason)

    # -- refusals --------------------------------------------------------------------------------

    def _blocker(self) -> Blocker | None:
        breaker = self._guards.breaker
        state = breaker.state
        blocker = self._guards.refuses()
        if breaker.state != state:
            self._reports.changed(Change("breaker", breaker.state, "time"))
        return blocker

    def _blocked(self, blocker: Blocker) -> LMError:
        self._reports.refused(blocker)
        if blocker == "breaker":
            return breaker_open(self._provider, self._guards.breaker, self._guards.last_failure)
        return gate_closed(self._provider, self._guards.gates[blocker])

    def _no_room(self, ticket: Ticket, short: Shortage, why: str) -> LMError:
        self._reports.refused(short.limit)
        wait = None
        if not short.never:
            ahead = len(self._queue), self._queue.tokens
            wait = self._guards.wait(ticket, ahead, self._queue.of_user(ticket.user))
            if wait is not None and short.wait is not None:
                wait = max(wait, short.wait)
        return no_room(self._provider, short, wait, why)

    def _policy(self, short: Shortage | None) -> RateLimit:
        """The limits that say what a request does that is short."""
        settings = self._settings
        if short is not None and short.scope == "user" and settings.user_rate_limit is not None:
            return settings.user_rate_limit
        return settings.rate_limit or settings.user_rate_limit or _UNLIMITED

    # -- settings, status ------------------------------------------------------------------------

    async def use_settings(self, settings: Settings) -> None:
        """Go on with the new settings: they hold for those who wait, too."""
        own = settings.ai.providers.get(self._provider)
        if own is None:  # no longer declared: its supervisor will end this actor
            return
        self._settings = own
        self._store.configure(own)
        for waiting in self._queue.requests():
            assert isinstance(waiting, Ticket)
            waiting.short = None
        self._tell(self._guards.configure(own))

    @call
    def reset(self, msg: ResetProtection) -> None:
        """Begin anew."""
        self._tell(self._guards.reset())

    @call
    def status(self, msg: ProtectionStatus) -> ProtectionReport:
        """How everything is."""
        guards = self._guards
        breaker = guards.breaker.describe()
        return ProtectionReport(
            provider=self._provider,
            breaker=breaker,
            opened_at=None if breaker.open_for is None else self.clock.time() - breaker.open_for,
            gates=tuple(gate.describe() for gate in guards.gates.values()),
            buckets=tuple(guards.limiter.reports()),
            users=guards.limiter.users,
            waiting=len(self._queue),
            in_flight=guards.in_flight,
            pause_left=guards.pause.left,
            slowed_to=guards.slowdown.limit,
            storage=self._store.state,
            storage_failures=self._store.failures,
            admitted=self._admitted,
            refused=dict(self._reports.refusals),
        )

    def format_status(self) -> Mapping[str, Any]:
        """What the console shows."""
        return told(self.status(ProtectionStatus()))

    # -- telling ---------------------------------------------------------------------------------

    def _tell(self, changes: Iterable[Change]) -> None:
        """Something changed: tell of it, and see what that means for those who wait."""
        for change in changes:
            self._reports.changed(change)
        self._queue.unblock_all()
        self._serve_queue()


__all__ = (
    "Admission",
    "Admit",
    "ProtectionActor",
    "ProtectionReport",
    "ProtectionStatus",
    "ResetProtection",
    "Settle",
)
