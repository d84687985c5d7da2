"""The budget actor: who is let through, what survives which crash, and what changes while it runs."""

from __future__ import annotations

import asyncio
import pickle
from collections.abc import Callable, Coroutine, Iterable, Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any, cast

import pytest

from dspex.actors.budgets import actor as budgets
from dspex.actors.budgets.actor import NAME, REFUSED, BudgetActor, configured_budgets
from dspex.actors.budgets.ledger import BudgetLedger
from dspex.actors.budgets.messages import (
    Amount,
    BudgetReport,
    BudgetStatus,
    CancelReservation,
    Reserve,
    Reserved,
    SetBudget,
    SettleBudget,
)
from dspex.actors.configuration.actor import ConfigurationActor, DeclareProvider, UpdateSetting
from dspex.actors.configuration.load import load_settings
from dspex.actors.configuration.provider_settings import Budget
from dspex.actors.configuration.settings import Settings
from dspex.actors.events.kinds import Event, LmResponse
from dspex.actors.events.query import EventQuery
from dspex.actors.events.store import AppendAcked, EventStore, Query
from dspex.actors.journals.memory import MemoryJournal
from dspex.actors.journals.sqlite import SqliteJournal
from dspex.actors.lm.failures import failure_of
from dspex.runtime.child_spec import ChildSpec
from dspex.runtime.engine import Engine
from dspex.runtime.errors import CallTimeout, ConfigError, LMBudgetExceeded, UsageError
from dspex.runtime.gen_server import GenServer, NoReply, Started, call
from dspex.runtime.testing.system import VirtualSystem
from dspex.supervisors.supervisor import Supervisor

P, M, R = "provider/p", "module/m", "run/r"


def settings(provider: Any = None, module: Any = None) -> Settings:
    """A provider and a module with these budgets."""
    config = {
        "ai": {"providers": {"p": {"kind": "openai", "base_url": "http://127.0.0.1:9/v1", "budget": provider}}},
        "modules": {"m": {"signature": "question -> answer", "provider": "p", "budget": module}},
    }
    return load_settings(config=config, environ={})


def start(system: VirtualSystem, provider: Any = None, module: Any = None, **more: Any) -> None:
    """Start the actor."""
    system.spawn(BudgetActor, settings(provider, module), name=NAME, **more)


def ask(id: str = "a", accounts: Iterable[str] = (P,), tokens: int = 10, cost: str | None = "1") -> Reserve:
    """A reservation in ``provider/p`` unless told otherwise."""
    return Reserve(id, tuple(accounts), tokens, None if cost is None else Decimal(cost))


def of(system: VirtualSystem, account: str = P) -> BudgetReport:
    """One account."""
    (report,) = system.call(NAME, BudgetStatus(account))
    assert isinstance(report, BudgetReport)
    return report


def answered(number: int, time: float, *accounts: str, tokens: int = 7) -> LmResponse:
    """An event of an answer that was paid for."""
    return LmResponse(
        id=f"{number:06}",
        time=time,
        provider="p",
        model="m",
        request_event_id=f"r{number}",
        duration=1.0,
        total_tokens=tokens,
        cost=Decimal("0.5"),
        accounts=accounts,
    )


def journal_of(events: Iterable[Event]) -> MemoryJournal:
    """A journal with these events."""
    journal = MemoryJournal()
    journal.append(tuple(events)).result()
    return journal


@pytest.fixture
def bare() -> Iterator[VirtualSystem]:
    """Virtual time, and nobody there."""
    with VirtualSystem() as system:
        yield system


@pytest.fixture
def system(bare: VirtualSystem) -> VirtualSystem:
    """Virtual time, with an empty event store."""
    bare.spawn(EventStore, MemoryJournal(), name="core/events")
    return bare


class Worker(GenServer):
    """Reserves: in a handler, or in a task that serves a call as a provider does."""

    @call
    async def in_handler(self, msg: str) -> Any:
        return await self.call(NAME, ask(msg))

    @call
    def in_task(self, msg: int) -> NoReply:
        return self.serve(self._in_task(str(msg)))

    async def _in_task(self, id: str) -> Any:
        return await self.call(NAME, ask(id))


# -- spending --------------------------------------------------------------------------------------


def test_no_settlement_is_dropped_however_many_come_at_once(system: VirtualSystem) -> None:
    """More requests end in one turn than a mailbox holds otherwise: none stands as reserved for ever."""
    start(system)
    ids = [str(number) for number in range(system.engine.mailbox_limit + 10)]
    for id in ids:
        system.call(NAME, ask(id))
    for number, id in enumerate(ids):
        system.engine.cast(NAME, CancelReservation(id) if number % 2 else SettleBudget(id, 1, Decimal(0)))
    system.settle()
    assert of(system).reserved == Amount()


def test_a_request_reserves_settles_or_cancels(system: VirtualSystem) -> None:
    """Room is kept until the request is over; what it used then counts, and nothing if it was cancelled."""
    start(system, {"tokens": 25})
    assert system.call(NAME, ask("a")) == Reserved("a")
    assert system.call(NAME, ask("b")) == Reserved("b")
    assert of(system).tokens_left == 5
    system.cast(NAME, SettleBudget("a", 3, Decimal("0.1")))
    system.cast(NAME, CancelReservation("b"))
    system.cast(NAME, SettleBudget("b", 3, None))
    assert of(system).spent == Amount(1, 3, Decimal("0.1"))
    assert of(system).reserved == Amount()


def test_a_refusal_is_typed_and_told(system: VirtualSystem) -> None:
    """It says which account, what there is too little of and when it begins anew, and survives pickling."""
    start(system, {"money": "1.5", "window": 60})
    system.record(REFUSED)
    system.call(NAME, ask("a"))
    with pytest.raises(
        LMBudgetExceeded, match=r"budget of provider/p \(1.5 US dollars\), got 1 more where 1 "
    ) as caught:
        system.call(NAME, ask("b"))
    error = pickle.loads(pickle.dumps(caught.value))
    row = failure_of(error)
    assert row is not None
    assert (row.name, error.retryable, error.code) == ("budget", False, "budget_exceeded")
    assert (error.account, error.part, error.limit, error.used, error.asked) == (P, "money", Decimal("1.5"), 1, 1)
    assert 0 < error.resets_in <= 60
    assert system.expect_event(REFUSED, account=P, part="money")
    assert of(system).refused == 1


def test_an_unknown_price_is_refused_by_a_budget_of_money(system: VirtualSystem) -> None:
    """Its text says so, and no number is invented."""
    start(system, {"money": 5})
    with pytest.raises(LMBudgetExceeded, match="a request of unknown price"):
        system.call(NAME, ask(cost=None))


def test_all_accounts_or_none(system: VirtualSystem) -> None:
    """A module without room leaves its provider's account alone."""
    start(system, {"tokens": 100}, {"requests": 1})
    system.call(NAME, ask("a", (P, M)))
    with pytest.raises(LMBudgetExceeded) as caught:
        system.call(NAME, ask("b", (P, M)))
    assert caught.value.account == M
    assert of(system, P).reserved.requests == 1
    assert [report.account for report in system.call(NAME, BudgetStatus())] == [M, P]


def test_an_open_id_is_not_taken_twice(system: VirtualSystem) -> None:
    """Two requests under one id would be counted as one."""
    start(system)
    system.call(NAME, ask("a"))
    with pytest.raises(UsageError, match="'a', which is open"):
        system.call(NAME, ask("a"))
    assert of(system).reserved.requests == 1


@pytest.mark.parametrize(
    "make",
    [
        lambda: Reserve("a", cast("Any", P), 1, None),
        lambda: Reserve("a", (P,), -1, None),
        lambda: Reserve("a", (P,), 1, Decimal("-0.1")),
        lambda: Reserve("a", (P,), 1, Decimal("nan")),
        lambda: SetBudget(cast("Any", 7), None),
        lambda: SetBudget(R, cast("Any", 5)),
    ],
)
def test_malformed_messages_are_refused_where_they_are_made(make: Any) -> None:
    """At the sender, not as a crash of the actor that counts for everybody."""
    with pytest.raises(UsageError, match=r"^expected .*, got .*, at (Reserve|SetBudget)$"):
        make()


def test_many_at_once_never_exceed_the_budget(system: VirtualSystem) -> None:
    """Of fifty requests at the same time exactly ten are let through."""
    start(system, {"requests": 10})

    async def race() -> list[Any]:
        calls = [system.engine.outside.call_async(NAME, ask(str(number)), timeout=5.0) for number in range(50)]
        return await asyncio.gather(*calls, return_exceptions=True)

    outcomes = system.run(race())
    assert sum(isinstance(one, Reserved) for one in outcomes) == 10
    assert sum(isinstance(one, LMBudgetExceeded) for one in outcomes) == 40


@pytest.mark.parametrize("message", ["7", 7])
def test_what_a_dead_actor_had_reserved_is_spent(system: VirtualSystem, message: str | int) -> None:
    """Reserved in its handler or in a task of it: nobody will settle it, and perhaps it was sent."""
    start(system, {"tokens": 100})
    worker = system.spawn(Worker)
    system.call(worker, message)
    assert of(system).reserved.tokens == 10
    system.kill(worker)
    system.settle()
    assert (of(system).reserved, of(system).spent) == (Amount(), Amount(1, 10, Decimal(1)))


def test_an_owner_may_be_named(system: VirtualSystem) -> None:
    """For those whose caller cannot be told, and for outside callers."""
    start(system)
    worker = system.spawn(Worker)
    system.call(NAME, Reserve("a", (P,), 10, None, owner=worker))
    system.kill(worker)
    system.settle()
    assert of(system).spent.tokens == 10


# -- settings --------------------------------------------------------------------------------------


def test_accounts_have_the_budgets_that_are_configured() -> None:
    """Each provider's and module's; those without one have none."""
    found = configured_budgets(settings({"tokens": 5}, {"money": "0.5", "window": "1d"}))
    assert found == {P: Budget(tokens=5), M: Budget.model_validate({"money": "0.5", "window": "1d"})}
    assert configured_budgets(settings()) == {}


def test_changes_hold_at_once_and_forget_nothing(system: VirtualSystem) -> None:
    """A budget that is lowered, raised, taken away or comes with a new provider."""
    system.spawn(ConfigurationActor, settings({"tokens": 15}), name="core/config")
    system.spawn(BudgetActor, name=NAME)
    system.call(NAME, ask("a"))
    system.call("core/config", UpdateSetting("ai.providers.p.budget.tokens", 5))
    system.settle()
    with pytest.raises(LMBudgetExceeded):
        system.call(NAME, ask("b", tokens=1))
    system.call("core/config", UpdateSetting("ai.providers.p.budget", None))
    system.call("core/config", DeclareProvider("q", {"kind": "openai", "budget": {"requests": 0}}))
    system.settle()
    system.call(NAME, ask("b", tokens=1000))
    assert of(system).reserved.tokens == 1010
    with pytest.raises(LMBudgetExceeded):
        system.call(NAME, ask("c", ("provider/q",)))


def test_a_run_is_given_its_budget(system: VirtualSystem) -> None:
    """What the run spent before, in an earlier life, counts; taken away, it refuses nothing."""
    system.call("core/events", AppendAcked((answered(1, system.now, R, tokens=30), answered(2, system.now, "run/s"))))
    start(system)
    system.call(NAME, SetBudget(R, Budget(tokens=35)))
    assert of(system, R).spent == Amount(1, 30, Decimal("0.5"))
    with pytest.raises(LMBudgetExceeded):
        system.call(NAME, ask("a", (R,)))
    system.call(NAME, SetBudget(R, None))
    assert system.call(NAME, ask("a", (R,))) == Reserved("a")


@pytest.mark.parametrize("account", [P, "module/new"])
def test_configured_accounts_are_changed_where_they_are_configured(system: VirtualSystem, account: str) -> None:
    """There is one place that says what they may spend."""
    start(system, {"tokens": 5})
    with pytest.raises(ConfigError, match=r"ai\.providers\.<id>\.budget"):
        system.call(NAME, SetBudget(account, Budget(tokens=50)))


# -- restarts --------------------------------------------------------------------------------------


def test_a_ledger_that_is_handed_in_survives_a_crash(system: VirtualSystem) -> None:
    """Spent and reserved are as before, and the owners of reservations are watched again."""
    worker, ledger = system.spawn(Worker), BudgetLedger()
    spec = ChildSpec("budgets", BudgetActor, args=(settings({"tokens": 100}),), kwargs={"ledger": ledger}, name=NAME)
    system.spawn(Supervisor, [spec])
    system.call(NAME, ask("a"))
    system.cast(NAME, SettleBudget("a", 4, None))
    system.call(worker, "b")
    system.kill(NAME)
    assert (of(system).spent.tokens, of(system).reserved.tokens) == (4, 10)
    system.kill(worker)
    system.settle()
    assert (of(system).spent.tokens, of(system).reserved.tokens) == (14, 0)


def test_sums_are_read_back_from_the_event_log(bare: VirtualSystem) -> None:
    """All pages of it, each account from the beginning of its own window."""
    now = bare.now
    begin = now // 60 * 60
    old = [answered(number, begin - 1, P, M) for number in range(1500)]
    new = [answered(number, begin, P, M) for number in range(1500, 4000)]
    bare.spawn(EventStore, journal_of(old + new), name="core/events")
    start(bare, {"tokens": 17_507, "window": 60}, {"money": 2000})
    assert of(bare, P).spent == Amount(2500, 17_500, Decimal(1250))
    assert of(bare, M).spent == Amount(4000, 28_000, Decimal(2000))
    with pytest.raises(LMBudgetExceeded) as caught:
        bare.call(NAME, ask(tokens=8))
    assert caught.value.account == P
    assert bare.call(NAME, ask(tokens=7)) == Reserved("a")


def test_reading_back_is_bounded(
    bare: VirtualSystem, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The newest events count, and the log says that older ones do not."""
    monkeypatch.setattr(budgets, "MAX_EVENTS", 2000)
    journal = journal_of(answered(number, 1.0, P) for number in range(2500))
    bare.spawn(EventStore, journal, name="core/events")
    start(bare, {"tokens": 10**9})
    assert of(bare).spent.requests == 2000
    assert "newest events only" in caplog.text


def test_a_reading_that_a_crash_ended_is_made_again(bare: VirtualSystem) -> None:
    """A ledger that is handed in knows what it has not been told yet."""
    store, ledger = bare.probe("core/events"), BudgetLedger()
    spec = ChildSpec("budgets", BudgetActor, args=(settings({"tokens": 15}),), kwargs={"ledger": ledger}, name=NAME)
    bare.spawn(Supervisor, [spec])

    def asked() -> EventQuery:
        store.expect_type(AppendAcked)
        store.reply(())
        return store.expect_type(Query).query

    asked()
    bare.kill(NAME)
    query = asked()
    store.reply(journal_of([answered(1, 1.0, P)]).query(query))
    bare.settle()
    assert of(bare).spent.tokens == 7


def test_without_an_event_store_the_count_begins_at_zero(bare: VirtualSystem) -> None:
    """It works all the same."""
    start(bare, {"tokens": 15})
    assert bare.call(NAME, ask("a")) == Reserved("a")
    with pytest.raises(LMBudgetExceeded):
        bare.call(NAME, ask("b"))


def test_requests_wait_until_the_log_is_read(bare: VirtualSystem) -> None:
    """Nothing is let through on a count that is not known yet; who gives up meanwhile reserves nothing."""
    store = bare.probe("core/events")
    start(bare, {"tokens": 15})
    with pytest.raises(CallTimeout):
        bare.call(NAME, ask("late"), timeout=1.0)
    store.expect_type(AppendAcked)
    store.reply(())
    query = store.expect_type(Query).query
    assert query.types == ("lm_response", "lm_error")
    store.reply(journal_of([answered(1, 1.0, P)]).query(query))
    bare.settle()
    assert (of(bare).spent.tokens, of(bare).reserved) == (7, Amount())


def test_a_new_process_knows_what_the_last_one_spent(tmp_path: Path) -> None:
    """A file of events is all it takes."""

    async def live(use: Callable[[Engine], Coroutine[Any, Any, None]]) -> None:
        engine = Engine(loop="current")
        try:
            for cls, args, name in (
                (EventStore, (lambda: SqliteJournal(tmp_path / "events.db"),), "core/events"),
                (BudgetActor, (settings({"tokens": 15}),), NAME),
            ):
                assert isinstance(await engine.spawn(cls, args, {}, name=name), Started)
            await use(engine)
        finally:
            await engine.astop()

    async def first(engine: Engine) -> None:
        await engine.outside.call_async(NAME, ask("a"), timeout=5.0)
        engine.cast(NAME, SettleBudget("a", 7, None))
        await engine.outside.call_async("core/events", AppendAcked((answered(1, 1.0, P),)), timeout=5.0)

    async def second(engine: Engine) -> None:
        with pytest.raises(LMBudgetExceeded) as caught:
            await engine.outside.call_async(NAME, ask("a"), timeout=5.0)
        assert caught.value.used == 7

    asyncio.run(live(first))
    asyncio.run(live(second))
