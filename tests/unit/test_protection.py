"""The protection actor, in virtual time."""

from __future__ import annotations

import asyncio
import pickle
import random
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from dspex.actors.configuration.actor import ConfigurationActor
from dspex.actors.configuration.load import load_settings
from dspex.actors.configuration.messages import DeclareProvider
from dspex.actors.configuration.provider_settings import ProviderSettings, RateLimit
from dspex.actors.events.query import EventPage, EventQuery
from dspex.actors.events.store import EventStore, Query
from dspex.actors.journals.memory import MemoryJournal
from dspex.actors.lm.failures import FAILURES, failure_of
from dspex.actors.protection.actor import (
    Admission,
    Admit,
    ProtectionActor,
    ProtectionReport,
    ProtectionStatus,
    ResetProtection,
    Settle,
)
from dspex.actors.protection.safeguards import UNSENT
from dspex.runtime.errors import (
    CallCancelled,
    LMAuthError,
    LMCircuitOpen,
    LMError,
    LMQuotaExceeded,
    LMRateLimited,
    UsageError,
)
from dspex.runtime.gen_server import GenServer, NoReply, call, cast
from dspex.runtime.messages import GetState
from dspex.runtime.testing import VirtualSystem

NAME = "protection/p"


class House:
    """A protection actor, and short ways to ask it."""

    def __init__(self, system: VirtualSystem, **settings: Any) -> None:
        self.system = system
        self.ids = iter(range(1_000_000))
        self.settings = ProviderSettings(**{"kind": "openai", "api_key": {"system": "NO_KEY"}, **settings})
        system.spawn(ProtectionActor, "p", settings=self.settings, name=NAME)
        system.record(*(("dspex", "protection", word) for word in ("breaker", "pause", "gate", "refused", "waited")))

    def admit(self, timeout: float | None = 30.0, **more: Any) -> str:
        """Be admitted; the id."""
        id = f"a{next(self.ids)}"
        admission: Admission = self.system.call(NAME, Admit(id, **more), timeout=timeout)
        assert admission.id == id
        return id

    def begin(self, timeout: float | None = 30.0, **more: Any) -> asyncio.Task[Any]:
        """Ask, and do not wait for the answer."""
        id = more.pop("id", None) or f"a{next(self.ids)}"

        async def ask() -> Any:
            try:
                return await self.system.engine.call_async(NAME, Admit(id, **more), timeout)
            except (LMError, CallCancelled) as error:
                return error

        task = self.system.loop.create_task(ask())
        self.system.settle()
        return task

    def settle(self, id: str, failure: str | None = None, **more: Any) -> None:
        self.system.cast(NAME, Settle(id, failure, **more))

    def attempt(self, failure: str | None = None, **more: Any) -> None:
        """One attempt with this end."""
        self.settle(self.admit(), failure, **more)

    @property
    def report(self) -> ProtectionReport:
        report: ProtectionReport = self.system.call(NAME, ProtectionStatus())
        return report

    def used(self, limit: str) -> int:
        return next(bucket.used for bucket in self.report.buckets if bucket.limit == limit)


@pytest.fixture
def system() -> Iterator[VirtualSystem]:
    """A system whose time passes only when the test says so."""
    with VirtualSystem(auto_jump=False) as made:
        yield made


def refused(house: House, expected: type[LMError], **more: Any) -> LMError:
    """The refusal, which is typed as its row says."""
    with pytest.raises(expected) as caught:
        house.admit(**more)
    row = failure_of(caught.value)
    assert row is not None
    assert row.error is expected
    assert caught.value.local
    return caught.value


def test_no_settlement_is_dropped_however_many_come_at_once(system: VirtualSystem) -> None:
    """More requests end in one turn than a mailbox holds otherwise: none stays in flight for ever."""
    house = House(system)
    ids = [house.admit() for _ in range(system.engine.mailbox_limit + 10)]
    for id in ids:
        system.engine.cast(NAME, Settle(id, "cancelled"))
    system.settle()
    assert house.report.in_flight == 0
    assert system.engine.counters.overloaded == 0


def test_what_the_console_shows_is_readable(system: VirtualSystem) -> None:
    """State in words and numbers, no object of Python's; also while nobody may pass."""
    house = House(system, rate_limit=RateLimit(limit=10, window=60.0), failure_threshold=1, recovery_time=30.0)
    house.admit()
    state = system.call(NAME, GetState())
    assert (state["breaker"], state["gate of quota"]) == ("'closed, 0 of 1 failures'", "'open'")
    assert (state["limits"], state["in flight"]) == ("['requests: 1 of 10, all back in 60.0 s']", "1")
    house.attempt("server")
    refused(house, LMCircuitOpen)
    state = system.call(NAME, GetState())
    assert state["breaker"] == "'open, 1 of 1 failures, next probe in 30.0 s'"
    assert state["refused"] == "{'breaker': 1}"
    assert not any(" at 0x" in value or "bound method" in value for value in state.values())


# -- limits ------------------------------------------------------------------------------------------


def test_an_unlimited_provider_admits_everybody(system: VirtualSystem) -> None:
    """Without limits and troubles nobody waits."""
    house = House(system)
    ids = [house.admit() for _ in range(50)]
    assert house.report.in_flight == 50
    for id in ids:
        house.settle(id)
    assert house.report.in_flight == 0
    assert house.report.admitted == 50


def test_who_finds_no_room_waits_to_the_moment(system: VirtualSystem) -> None:
    """The third of two is admitted when the first is a window old, and is told how long it waited."""
    house = House(system, rate_limit=RateLimit(limit=2, window=10.0))
    house.admit()
    house.admit()
    third = house.begin()
    system.advance(9.99)
    assert not third.done()
    assert house.report.waiting == 1
    system.advance(0.01)
    assert third.result().waited == pytest.approx(10.0)
    assert system.expect_event(("dspex", "protection", "waited")).measurements["seconds"] == pytest.approx(10.0)


def test_who_must_not_wait_is_told_when_to_come(system: VirtualSystem) -> None:
    """The retry_after of a refusal is true: a moment earlier there is no room, then there is."""
    house = House(system, rate_limit=RateLimit(limit=1, window=10.0, on_limit="fail"))
    house.admit()
    system.advance(4.0)
    error = refused(house, LMRateLimited)
    assert (error.limit, error.scope, error.gate) == ("requests", "all", "limit")
    assert error.retry_after == pytest.approx(6.0)
    system.advance(error.retry_after - 0.01)
    refused(house, LMRateLimited)
    system.advance(0.01)
    house.admit()
    assert house.report.refused == {"requests": 2}


def test_the_asker_may_decide_to_wait_or_to_fail(system: VirtualSystem) -> None:
    """``on_limit`` of the message goes before that of the settings."""
    house = House(system, rate_limit=RateLimit(limit=1, window=1.0, on_limit="fail"))
    house.admit()
    waits = house.begin(on_limit="wait")
    assert house.report.waiting == 1
    refused(house, LMRateLimited, on_limit="fail")
    system.advance(1.0)
    assert isinstance(waits.result(), Admission)


def test_a_newcomer_does_not_overtake(system: VirtualSystem) -> None:
    """One who would fit stands behind one who waits for more tokens; the refusal counts those in front."""
    house = House(system, rate_limit=RateLimit(limit=None, tokens=100, window=10.0))
    house.admit(tokens=60)
    big, small = house.begin(tokens=80), house.begin(tokens=10)
    assert house.report.waiting == 2
    error = refused(house, LMRateLimited, tokens=10, on_limit="fail")
    assert error.limit == "queue"
    assert error.retry_after == pytest.approx(10.0)
    system.advance(10.0)
    assert isinstance(big.result(), Admission)
    assert isinstance(small.result(), Admission)


def test_a_refund_wakes_those_who_wait(system: VirtualSystem) -> None:
    """Tokens that were not used let the next one in at once."""
    house = House(system, rate_limit=RateLimit(limit=None, tokens=100))
    first = house.admit(tokens=100)
    second = house.begin(tokens=50)
    house.settle(first, tokens=40)
    assert isinstance(second.result(), Admission)


def test_concurrency_is_given_on_when_somebody_ends(system: VirtualSystem) -> None:
    """In the order of arrival."""
    house = House(system, rate_limit=RateLimit(limit=None, concurrency=1))
    id = house.admit()
    second, third = house.begin(), house.begin()
    assert refused(house, LMRateLimited, on_limit="fail").retry_after is None
    house.settle(id)
    assert isinstance(second.result(), Admission)
    assert not third.done()
    house.settle(second.result().id)
    assert isinstance(third.result(), Admission)


def test_a_user_s_own_place_is_given_on_to_himself(system: VirtualSystem) -> None:
    """One who waits for his own concurrency gets in when his own request ends, and not when another's does."""
    house = House(system, user_rate_limit=RateLimit(limit=None, concurrency=1))
    ann, bob = house.admit(user="ann"), house.admit(user="bob")
    waits = house.begin(user="ann")
    house.settle(bob)
    assert not waits.done()
    house.settle(ann)
    assert isinstance(waits.result(), Admission)


def test_a_user_s_full_bucket_blocks_nobody_else(system: VirtualSystem) -> None:
    """Others pass by those of a user who has used up his own."""
    house = House(system, user_rate_limit=RateLimit(limit=1, window=10.0))
    house.admit(user="ann")
    ann = house.begin(user="ann")
    house.admit(user="bob")
    house.admit()
    assert not ann.done()
    assert house.report.users == 3
    system.advance(10.0)
    assert isinstance(ann.result(), Admission)


@pytest.mark.parametrize("limits", [{"limit": 0}, {"limit": None, "tokens": 99}])
def test_what_never_fits_is_refused_at_once(system: VirtualSystem, limits: dict[str, Any]) -> None:
    """Nobody waits for what waiting cannot bring; there is no time to come again."""
    house = House(system, rate_limit=RateLimit(**limits))
    assert refused(house, LMRateLimited, tokens=100).retry_after is None
    assert house.report.waiting == 0


def test_waiting_is_bounded_by_max_wait(system: VirtualSystem) -> None:
    """Then it is refused, and the queue is empty."""
    house = House(system, rate_limit=RateLimit(limit=1, window=60.0, max_wait=5.0))
    house.admit()
    waits = house.begin()
    system.advance(5.0)
    assert isinstance(waits.result(), LMRateLimited)
    assert waits.result().retry_after == pytest.approx(55.0)
    assert house.report.waiting == 0
    system.advance(60.0)
    house.admit()


def test_room_at_the_very_end_of_the_wait_is_taken(system: VirtualSystem) -> None:
    """When patience and shortage end at the same moment, the request is let in."""
    house = House(system, rate_limit=RateLimit(limit=1, window=5.0, max_wait=5.0))
    house.admit()
    waits = house.begin()
    system.advance(5.0)
    assert isinstance(waits.result(), Admission)


def test_the_end_of_patience_does_not_end_an_admission(system: VirtualSystem) -> None:
    """One let in at the moment at which its patience ends keeps what it was given."""
    house = House(system, rate_limit=RateLimit(limit=None, concurrency=1, max_wait=5.0))
    first = house.admit()
    # Before the request, so that the loop has it in front of the timer of the same moment.
    system.loop.call_at(system.now + 5.0, system.engine.cast, NAME, Settle(first))
    waits = house.begin()
    system.advance(5.0)
    assert isinstance(waits.result(), Admission)
    assert house.report.in_flight == 1


def test_waiting_is_bounded_by_the_deadline(system: VirtualSystem) -> None:
    """The caller hears of the limit, not of a time-out."""
    house = House(system, rate_limit=RateLimit(limit=1, window=60.0))
    house.admit()
    waits = house.begin(timeout=2.0)
    system.advance(1.99)
    assert isinstance(waits.result(), LMRateLimited)


def test_the_queue_is_bounded(system: VirtualSystem) -> None:
    """More than ``max_waiting`` are refused; for users, each has a queue of his own length."""
    limits = RateLimit(limit=1, max_waiting=3)
    house = House(system, rate_limit=limits, user_rate_limit=RateLimit(limit=1, max_waiting=1))
    house.admit(user="ann")
    waiting = [house.begin(user="ann")]
    refused(house, LMRateLimited, user="ann")
    waiting += [house.begin(user="bob"), house.begin(user="cid")]
    refused(house, LMRateLimited, user="dan")
    assert house.report.waiting == 3
    assert not any(task.done() for task in waiting)


def test_ten_thousand_wait_cheaply(system: VirtualSystem) -> None:
    """All of them get in, in their order."""
    house = House(system, rate_limit=RateLimit(limit=1000, window=1.0))
    order: list[int] = []

    async def ask(number: int) -> None:
        await system.engine.call_async(NAME, Admit(f"n{number}"), None)
        order.append(number)

    async def everybody() -> None:
        await asyncio.gather(*(ask(number) for number in range(10_000)))

    with system.loop.jumping():
        system.run(everybody())
    assert order == list(range(10_000))
    assert house.report.waiting == 0


def test_new_limits_hold_for_those_who_wait(system: VirtualSystem, monkeypatch: pytest.MonkeyPatch) -> None:
    """A higher limit lets them in at once; what was counted stays counted; the key's gate opens."""
    monkeypatch.delenv("NO_KEY", raising=False)
    local = {"kind": "openai", "base_url": "http://127.0.0.1:9/v1", "gate_time": 3600.0}
    table = {"ai": {"providers": {"p": {**local, "rate_limit": {"limit": 2, "window": 60.0}}}}}
    system.spawn(EventStore, MemoryJournal(), name="core/events")
    system.spawn(ConfigurationActor, load_settings(config=table, environ={}), name="core/config")
    system.spawn(ProtectionActor, "p", name=NAME)
    house = House.__new__(House)
    house.system, house.ids = system, iter(range(100))
    house.admit()
    last = house.admit()
    waits = [house.begin(timeout=None) for _ in range(3)]
    system.call("core/config", DeclareProvider("p", {**local, "rate_limit": {"limit": 4, "window": 60.0}}))
    system.settle()
    assert [task.done() for task in waits] == [True, True, False]
    assert house.used("requests") == 4
    house.settle(last, "auth")
    assert isinstance(waits[2].result(), LMAuthError)
    system.call("core/config", DeclareProvider("p", {**local, "rate_limit": {"limit": 5, "window": 60.0}}))
    system.settle()
    house.admit()


# -- those who go ------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Hold:
    """Ask for an admission, in a handler, in a task, or with request; then do nothing with it."""

    how: str
    id: str


class Holder(GenServer):
    """Somebody who asks and may die."""

    @call
    def hold(self, message: Hold) -> NoReply:
        return self.serve(self.ask(message))

    async def ask(self, message: Hold) -> Admission:
        admission: Admission = await self.call(NAME, Admit(message.id), timeout=None)
        return admission

    @cast
    def ask_by_request(self, message: Hold) -> None:
        self.request(NAME, Admit(message.id), timeout=None)


class HandlerHolder(GenServer):
    """The same, from an async handler."""

    @call
    async def hold(self, message: Hold) -> Admission:
        admission: Admission = await self.call(NAME, Admit(message.id), timeout=None)
        return admission


def test_a_dead_actor_s_admissions_are_taken_back(system: VirtualSystem) -> None:
    """However it asked; what it held and what it waited for."""
    house = House(system, rate_limit=RateLimit(limit=None, concurrency=4))
    holder, other = system.spawn(Holder), system.spawn(HandlerHolder)
    system.call(holder, Hold("task", "h1"))
    system.cast(holder, Hold("request", "h2"))
    system.call(other, Hold("handler", "h3"))
    outside = house.admit()
    system.cast(holder, Hold("request", "h4"))
    mine = house.begin()
    assert (house.report.in_flight, house.report.waiting) == (4, 2)
    system.kill(holder)
    assert isinstance(mine.result(), Admission)
    assert (house.report.in_flight, house.report.waiting) == (3, 0)
    system.kill(other)
    assert house.report.in_flight == 2
    house.settle(outside)
    assert house.report.in_flight == 1


def test_an_owner_can_be_named(system: VirtualSystem) -> None:
    """For an asker that asks on behalf of another actor."""
    house = House(system, rate_limit=RateLimit(limit=None, concurrency=1))
    owner = system.spawn(Holder)
    house.admit(owner=owner)
    waits = house.begin()
    system.kill(owner)
    assert isinstance(waits.result(), Admission)


def test_a_dead_prober_frees_the_probe(system: VirtualSystem) -> None:
    """Its death says nothing of the provider: the next one may probe."""
    house = House(system, failure_threshold=1, recovery_time=10.0)
    house.attempt("server")
    system.advance(10.0)
    holder = system.spawn(Holder)
    assert system.call(holder, Hold("task", "h")).probe
    refused(house, LMCircuitOpen)
    system.kill(holder)
    house.attempt()
    assert house.report.breaker.state == "closed"


def test_a_lease_is_taken_back(system: VirtualSystem) -> None:
    """An admission of code that is no actor ends with its lease, unless it is settled before."""
    house = House(system, rate_limit=RateLimit(limit=None, concurrency=1))
    id = house.admit(lease=5.0)
    house.settle(id)
    house.admit(lease=5.0)
    waits = house.begin()
    system.advance(4.9)
    assert not waits.done()
    system.advance(0.1)
    assert isinstance(waits.result(), Admission)
    system.advance(10.0)
    assert house.report.in_flight == 1


def test_a_lease_begins_with_the_admission(system: VirtualSystem) -> None:
    """Not while it waits."""
    house = House(system, rate_limit=RateLimit(limit=None, concurrency=1))
    id = house.admit()
    waits = house.begin(lease=5.0, timeout=None)
    system.advance(10.0)
    house.settle(id)
    assert waits.done()
    system.advance(4.9)
    assert house.report.in_flight == 1
    system.advance(0.1)
    assert house.report.in_flight == 0


def test_who_gives_up_waiting_leaves_the_queue(system: VirtualSystem) -> None:
    """A Settle of one that waits takes it out, and whoever stood behind it moves up."""
    house = House(system, rate_limit=RateLimit(limit=None, tokens=100, window=60.0))
    house.admit(tokens=50)
    house.begin(id="big", tokens=100)
    small = house.begin(tokens=10)
    assert not small.done()
    house.settle("big", "cancelled")
    assert isinstance(small.result(), Admission)
    assert house.report.waiting == 0


def test_a_cancelled_caller_takes_no_place(system: VirtualSystem) -> None:
    """A call that was given up is passed over, even if nobody said so."""
    house = House(system, rate_limit=RateLimit(limit=1, window=10.0))
    house.admit()
    gone, waits = house.begin(), house.begin()
    gone.cancel()
    system.advance(10.0)
    assert isinstance(waits.result(), Admission)
    assert house.used("requests") == 1


def test_unknown_ids_are_ignored_and_taken_ones_refused(system: VirtualSystem) -> None:
    """A second Settle changes nothing; two admissions cannot have one id."""
    house = House(system, rate_limit=RateLimit(limit=None, concurrency=2))
    house.settle("nobody")
    id = house.admit()
    with pytest.raises(UsageError, match="not settled yet"):
        system.call(NAME, Admit(id))
    house.settle(id)
    house.settle(id)
    assert house.report.in_flight == 0


@pytest.mark.parametrize(
    "make",
    [
        lambda: Settle("x", "sever"),
        lambda: Settle("x", tokens=-1),
        lambda: Settle("x", retry_after=float("nan")),
        lambda: Admit("x", tokens=-1),
        lambda: Admit("x", lease=0.0),
    ],
)
def test_malformed_messages_are_refused_where_they_are_made(make: Any) -> None:
    """Not in the actor, which would crash on them."""
    with pytest.raises(UsageError, match="expected"):
        make()


def test_a_misspelt_failure_gets_a_hint() -> None:
    """The nearest row is named."""
    with pytest.raises(UsageError, match="did you mean 'server'"):
        Settle("x", "sever")


# -- what each failure does --------------------------------------------------------------------------

EFFECTS: dict[str, set[str]] = {
    "connection": {"breaker", "given back"},
    "reset": {"breaker"},
    "pool": {"given back"},
    "timeout": {"breaker"},
    "deadline": set(),
    "gateway_timeout": {"breaker"},
    "server": {"breaker"},
    "overloaded": {"breaker", "slowdown"},
    "conflict": {"alive"},
    "rate": {"pause"},
    "quota": {"quota"},
    "auth": {"auth"},
    "invalid": {"alive"},
    "context_length": {"alive"},
    "protocol": {"breaker"},
    "redirect": {"auth"},
    "too_large": {"alive"},
    "interrupted": {"breaker"},
    "limit": {"given back"},
    "circuit_open": {"given back"},
    "budget": {"given back"},
    "cancelled": set(),
}
"""What an attempt that ends so does; ``alive`` begins the count of failures anew."""


def test_the_table_of_effects_is_whole() -> None:
    """A new row of the table of failures needs a decision here."""
    assert set(EFFECTS) == {*FAILURES, "cancelled"}


@pytest.mark.parametrize("failure", EFFECTS)
def test_what_each_failure_does(system: VirtualSystem, failure: str) -> None:
    """After one counted failure: breaker, pause, gates, slow-down and limits, by the row of the second."""
    house = House(system, failure_threshold=2, rate_limit=RateLimit(limit=9, tokens=900))
    house.attempt("server", tokens=0)
    house.attempt(failure, tokens=None if failure in UNSENT else 40)
    report = house.report
    found: set[str] = {gate.gate for gate in report.gates if gate.state == "closed"}
    happened = {
        "breaker": report.breaker.state == "open",
        "alive": report.breaker.state == "closed" and report.breaker.failures == 0,
        "pause": report.pause_left > 0.0,
        "slowdown": report.slowed_to is not None,
        "given back": house.used("requests") == 1,
    }
    found.update(name for name, did in happened.items() if did)
    assert found == EFFECTS[failure]
    assert house.used("tokens") == (0 if failure in UNSENT else 40)


# -- breaker, pause, gates ---------------------------------------------------------------------------


def test_an_open_breaker_refuses_at_once_and_tells(system: VirtualSystem) -> None:
    """Callers hear when a probe may try; the state change is told once."""
    house = House(system, failure_threshold=2, recovery_time=30.0)
    house.attempt("server")
    house.attempt("timeout")
    error = refused(house, LMCircuitOpen)
    assert (error.gate, error.state, error.retry_after) == ("breaker", "open", 30.0)
    told = system.expect_event(("dspex", "protection", "breaker"))
    assert (told.metadata["state"], told.metadata["reason"]) == ("open", "timeout")
    report = house.report
    assert (report.breaker.state, report.breaker.next_probe, report.refused) == ("open", 30.0, {"breaker": 1})
    system.advance(30.0)
    house.attempt()
    states = [system.expect_event(("dspex", "protection", "breaker"), state=state) for state in ("half-open", "closed")]
    assert [each.metadata["reason"] for each in states] == ["time", "success"]


def test_those_who_wait_hear_when_the_breaker_opens(system: VirtualSystem) -> None:
    """A waiter is not left to wait for a provider that rests, even one that is short of his own limit."""
    house = House(system, rate_limit=RateLimit(limit=3), user_rate_limit=RateLimit(limit=2), failure_threshold=1)
    id = house.admit(user="ann")
    house.admit(user="ann")
    waits = [house.begin(user="ann"), house.begin(user="bob"), house.begin(user="cid")]
    house.settle(id, "server")
    assert [type(task.result()) for task in waits] == [LMCircuitOpen, Admission, LMCircuitOpen]
    assert house.report.waiting == 0


def test_a_probe_that_has_no_room_waits_and_keeps_no_slot(system: VirtualSystem) -> None:
    """The slot is taken with the admission; whoever comes second is refused then."""
    house = House(system, rate_limit=RateLimit(limit=1, window=60.0), failure_threshold=1, recovery_time=1.0)
    house.attempt("server")
    system.advance(1.0)
    first, second = house.begin(timeout=None), house.begin(timeout=None)
    assert house.report.breaker.probing == 0
    system.advance(59.0)
    assert first.result().probe
    system.advance(60.0)
    assert isinstance(second.result(), LMCircuitOpen)
    assert second.result().retry_after is None
    assert "(while probes find out; the last failure was 'server')" in second.result().message


def test_a_pause_holds_everybody_back(system: VirtualSystem) -> None:
    """Nobody is admitted before the provider's time, not one moment."""
    house = House(system)
    house.attempt("rate", retry_after=7.0)
    waits = [house.begin() for _ in range(3)]
    system.advance(6.99)
    assert not any(task.done() for task in waits)
    assert house.report.pause_left == pytest.approx(0.01)
    system.advance(0.01)
    assert all(isinstance(task.result(), Admission) for task in waits)
    assert system.expect_event(("dspex", "protection", "pause")).measurements["seconds"] == 7.0


def test_a_pause_that_outlasts_the_caller_is_refused_at_once(system: VirtualSystem) -> None:
    """A pause does not end early, so there is nothing to wait for."""
    house = House(system)
    house.attempt("rate", retry_after=60.0)
    error = refused(house, LMRateLimited, timeout=5.0)
    assert (error.limit, error.retry_after) == ("pause", 60.0)
    assert refused(house, LMRateLimited, on_limit="fail").retry_after == 60.0


def test_a_429_does_not_open_the_breaker(system: VirtualSystem) -> None:
    """It is no sign of ill health, and no success either."""
    house = House(system, failure_threshold=2)
    house.attempt("server")
    house.attempt("rate", retry_after=1.0)
    system.advance(1.0)
    assert house.report.breaker.failures == 1
    house.attempt("server")
    assert house.report.breaker.state == "open"


@pytest.mark.parametrize(
    ("failure", "gate", "error"),
    [("quota", "quota", LMQuotaExceeded), ("auth", "auth", LMAuthError), ("redirect", "auth", LMAuthError)],
)
def test_a_gate_closes_until_one_finds_out(
    system: VirtualSystem, failure: str, gate: str, error: type[LMError]
) -> None:
    """Everybody fails fast for the gate's time, then one request tries, and the rest wait for its news."""
    house = House(system, gate_time=60.0)
    house.attempt(failure)
    said = refused(house, error)
    assert (said.gate, said.state, said.retry_after) == (gate, "closed", 60.0)
    told = system.expect_event(("dspex", "protection", "gate"))
    assert (told.metadata["gate"], told.metadata["state"]) == (gate, "closed")
    system.advance(60.0)
    trial = house.admit()
    assert refused(house, error).retry_after is None
    house.settle(trial, "cancelled")
    trial = house.admit()
    house.settle(trial, failure)
    refused(house, error)
    system.advance(60.0)
    house.attempt()
    house.admit()
    house.admit()


def test_an_overload_lowers_the_concurrency(system: VirtualSystem) -> None:
    """Half of what was in flight may be; it comes back with successes."""
    house = House(system, failure_threshold=0)
    ids = [house.admit() for _ in range(8)]
    house.settle(ids.pop(), "overloaded")
    assert house.report.slowed_to == 4
    waits = house.begin()
    for _ in range(3):
        house.settle(ids.pop(), "cancelled")
    assert not waits.done()
    house.settle(ids.pop(), "cancelled")
    assert waits.done()
    for _ in range(40):
        house.settle(ids.pop())
        ids.append(house.admit())
    assert house.report.slowed_to is None


def test_reset_opens_everything(system: VirtualSystem) -> None:
    """By hand; what the windows hold stays."""
    house = House(system, failure_threshold=1, rate_limit=RateLimit(limit=9))
    ids = [house.admit() for _ in range(5)]
    for failure in ("quota", "auth", "rate", "overloaded"):
        house.settle(ids.pop(), failure, retry_after=50.0 if failure == "rate" else None)
    report = house.report
    assert {gate.state for gate in report.gates} == {"closed"}
    assert (report.breaker.state, report.slowed_to) == ("open", 1)
    assert report.pause_left == 50.0
    system.call(NAME, ResetProtection())
    report = house.report
    assert {gate.state for gate in report.gates} == {"open"}
    assert (report.breaker.state, report.slowed_to, report.pause_left) == ("closed", None, 0.0)
    assert house.used("requests") == 5
    house.admit()


def test_wall_clock_jumps_change_nothing() -> None:
    """Only monotonic time counts: a day back and forth opens and closes nothing."""

    class Jumping:
        """A clock whose wall time the test moves."""

        def __init__(self, inner: Any) -> None:
            self.inner, self.shift = inner, 0.0

        def monotonic(self) -> float:
            now: float = self.inner.monotonic()
            return now

        def time(self) -> float:
            now: float = self.inner.time()
            return now + self.shift

    with VirtualSystem(auto_jump=False) as system:
        clock = Jumping(system.clock)
        system._options["clock"] = clock
        house = House(system, failure_threshold=1, recovery_time=10.0, rate_limit=RateLimit(limit=3, window=60.0))
        first = house.admit()
        house.admit()
        for shift in (86_400.0, -86_400.0):
            clock.shift = shift
            house.used("requests")
        house.settle(first, "server")
        for shift in (86_400.0, -86_400.0):
            clock.shift = shift
            error = refused(house, LMCircuitOpen)
            assert error.retry_after == 10.0
            assert house.report.opened_at == pytest.approx(clock.time())
        system.advance(10.0)
        house.settle(house.admit())
        assert house.used("requests") == 3


# -- telling -----------------------------------------------------------------------------------------


def test_changes_are_events(system: VirtualSystem) -> None:
    """Breaker, gates and pauses can be found in the event store."""
    system.spawn(EventStore, MemoryJournal(), name="core/events")
    house = House(system, failure_threshold=1)
    ids = [house.admit() for _ in range(3)]
    for failure in ("rate", "auth", "server"):
        house.settle(ids.pop(), failure, retry_after=9.0 if failure == "rate" else None)
    page: EventPage = system.call("core/events", Query(EventQuery(types=("protection_changed",))))
    found = {(event.gate, event.state, event.reason, event.seconds) for event in page.events}  # type: ignore[attr-defined]
    assert found == {
        ("pause", "paused", "rate", 9.0),
        ("auth", "closed", "auth", 60.0),
        ("breaker", "open", "server", 30.0),
    }
    assert {event.source for event in page.events} == {NAME}


def test_the_report_has_every_number_and_pickles(system: VirtualSystem) -> None:
    """Each bucket with its limit, what is used, what remains, and when it is back."""
    limits = RateLimit(limit=10, tokens=1000, concurrency=4, window=60.0)
    house = House(system, rate_limit=limits, user_rate_limit=replace_limits(limits, limit=2))
    house.admit(user="ann", tokens=300)
    system.advance(15.0)
    report = pickle.loads(pickle.dumps(house.report))
    rows = {(row.scope, row.user, row.limit): (row.of, row.used, row.remaining, row.reset_in) for row in report.buckets}
    assert rows == {
        ("all", None, "requests"): (10, 1, 9, 45.0),
        ("all", None, "tokens"): (1000, 300, 700, 45.0),
        ("all", None, "concurrency"): (4, 1, 3, None),
        ("user", "ann", "requests"): (2, 1, 1, 45.0),
        ("user", "ann", "tokens"): (1000, 300, 700, 45.0),
        ("user", "ann", "concurrency"): (4, 1, 3, None),
    }
    assert (report.provider, report.storage, report.users) == ("p", "memory", 1)


def replace_limits(limits: RateLimit, **changes: Any) -> RateLimit:
    """The same but for these."""
    return limits.model_copy(update=changes)


def test_nothing_secret_shows(system: VirtualSystem) -> None:
    """Neither a key nor the address of a store, in state or report."""
    house = House(system, api_key="sk-do-not-show", limit_storage="redis://:pass-do-not-show@127.0.0.1:1")
    house.admit()
    shown = f"{system.call(NAME, GetState())} {house.report}"
    assert "do-not-show" not in shown
    assert "closed" in shown


def test_a_store_that_is_down_stops_nobody(system: VirtualSystem) -> None:
    """This process keeps to the limits by itself; it is told and counted, and the store is left alone for a while."""
    house = House(
        system,
        limit_storage="redis://:pass-do-not-show@127.0.0.1:1",
        rate_limit=RateLimit(limit=2, window=10.0),
        user_rate_limit=None,
    )
    system.record(("dspex", "protection", "storage"))
    house.admit()
    house.admit()
    waits = house.begin()
    report = house.report
    assert (report.storage, report.storage_failures, report.waiting) == ("down", 1, 1)
    told = system.expect_event(("dspex", "protection", "storage"))
    assert told.metadata["state"] == "down"
    assert "do-not-show" not in str(told)
    system.advance(10.0)
    assert isinstance(waits.result(), Admission)
    assert house.report.storage_failures == 2


@pytest.mark.parametrize("address", ["redis://h:port", {"system": "NO_SUCH_VARIABLE"}, {"system": "HOME"}])
def test_an_address_that_is_none_is_told(system: VirtualSystem, address: Any) -> None:
    """The limits of this process hold, and the event says what is wrong without the address."""
    system.record(("dspex", "protection", "storage"))
    house = House(system, limit_storage=address, rate_limit=RateLimit(limit=1, on_limit="fail"))
    house.admit()
    told = system.expect_event(("dspex", "protection", "storage"))
    assert "limit_storage" in told.metadata["reason"]
    refused(house, LMRateLimited)


def test_an_unconfigured_provider_does_not_start(system: VirtualSystem) -> None:
    """The start fails and says which provider was expected."""
    system.spawn(EventStore, MemoryJournal(), name="core/events")
    system.spawn(ConfigurationActor, load_settings(config={}, environ={}), name="core/config")
    with pytest.raises(Exception, match="expected a configured provider"):
        system.spawn(ProtectionActor, "nobody", name=NAME)


def test_random_traffic_never_breaks_the_books(system: VirtualSystem) -> None:
    """After any mixture of ends, nothing is in flight, nobody waits, and the windows hold what was admitted."""
    rng = random.Random(3)
    house = House(
        system,
        failure_threshold=3,
        recovery_time=1.0,
        gate_time=1.0,
        rate_limit=RateLimit(limit=20, tokens=2000, concurrency=5, window=3.0, max_wait=4.0),
        user_rate_limit=RateLimit(limit=9, window=2.0),
    )
    tasks: list[asyncio.Task[Any]] = []
    for _ in range(600):
        tasks.append(house.begin(user=rng.choice(["ann", "bob", None]), tokens=rng.randrange(300)))
        if rng.random() < 0.2:
            tasks.pop(rng.randrange(len(tasks))).cancel()
        for task in [one for one in tasks if one.done() and rng.random() < 0.7]:
            tasks.remove(task)
            if isinstance(task.result(), Admission):
                failure = rng.choice(
                    [None, None, None, "server", "rate", "auth", "overloaded", "connection", "cancelled"]
                )
                house.settle(task.result().id, failure, tokens=rng.randrange(400))
        report = house.report
        assert report.in_flight >= 0
        system.advance(rng.random() * 0.3)
    # Those whose callers were cancelled while they were let in are known by their ids alone.
    for number in range(700):
        house.settle(f"a{number}", "cancelled")
    system.advance(30.0)
    report = house.report
    assert (report.in_flight, report.waiting) == (0, 0)
    assert {row.used for row in report.buckets} == {0}
    assert report.breaker.probing == 0
