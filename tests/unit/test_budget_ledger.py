"""Accounts, reservations and windows, as plain arithmetic."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest

from dspex.actors.budgets.account import Refusal
from dspex.actors.budgets.history import History
from dspex.actors.budgets.ledger import MAX_ACCOUNTS, RESERVATION_LIFE, BudgetLedger
from dspex.actors.budgets.messages import Amount, BudgetReport
from dspex.actors.configuration.provider_settings import Budget
from dspex.actors.events.kinds import LmError, LmResponse

DAY = 86_400.0
NOON = 20_000 * DAY + DAY / 2
P, M = "provider/p", "module/m"
EVENT: dict[str, Any] = {"provider": "p", "model": "m", "request_event_id": "r"}


def daily(**parts: Any) -> Budget:
    """A budget for a day."""
    return Budget.model_validate({"window": "1d"} | parts)


def ledger(**budgets: Budget) -> BudgetLedger:
    """A ledger whose accounts ``provider/p`` and ``module/m`` have these budgets."""
    made = BudgetLedger()
    names = {"p": P, "m": M}
    made.declare({names[short]: budget for short, budget in budgets.items()}, NOON)
    return made


def of(made: BudgetLedger, account: str = P, now: float = NOON) -> BudgetReport:
    """One account."""
    (report,) = made.reports(account, now=now)
    return report


def reserve(
    made: BudgetLedger, id: str, tokens: int = 10, cost: str | None = "1", now: float = NOON, accounts: Any = (P,)
) -> Refusal | None:
    """Reserve in ``provider/p`` unless told otherwise."""
    return made.reserve(id, accounts, tokens, None if cost is None else Decimal(cost), now=now)


def test_a_request_is_reserved_then_settled() -> None:
    """What it used takes the place of what was reserved."""
    made = ledger(p=Budget(money=Decimal(5), tokens=100, requests=3))
    assert reserve(made, "a") is None
    assert of(made).reserved == Amount(1, 10, Decimal(1))
    assert (of(made).requests_left, of(made).tokens_left, of(made).money_left) == (2, 90, Decimal(4))
    assert made.settle("a", 4, Decimal("0.25"), now=NOON)
    assert (of(made).reserved, of(made).spent) == (Amount(), Amount(1, 4, Decimal("0.25")))
    assert (of(made).requests_left, of(made).tokens_left, of(made).money_left) == (2, 96, Decimal("4.75"))


def test_what_is_not_said_stands_as_reserved() -> None:
    """Unknown usage is never taken for nothing."""
    made = ledger(p=Budget(tokens=100))
    reserve(made, "a", tokens=30, cost="2")
    made.settle("a", None, None, now=NOON)
    assert of(made).spent == Amount(1, 30, Decimal(2))
    assert of(made).unpriced == 0


def test_a_cancelled_reservation_leaves_nothing() -> None:
    """Nothing was sent: neither tokens nor money nor the request count."""
    made = ledger(p=Budget(requests=1))
    reserve(made, "a")
    assert reserve(made, "b") is not None
    assert made.cancel("a")
    assert of(made).spent == of(made).reserved == Amount()
    assert reserve(made, "b") is None


def test_an_unknown_id_is_ignored() -> None:
    """Settled twice, cancelled after, or never heard of: nothing changes."""
    made = ledger(p=Budget(requests=5))
    reserve(made, "a")
    made.settle("a", 4, None, now=NOON)
    before = of(made)
    assert not made.settle("a", 400, Decimal(7), now=NOON)
    assert not made.cancel("a")
    assert not made.settle("never", 1, None, now=NOON)
    assert of(made) == before


@pytest.mark.parametrize(
    ("budget", "part", "limit", "used", "asked"),
    [
        (Budget(requests=1), "requests", 1, 1, 1),
        (Budget(tokens=15), "tokens", 15, 10, 10),
        (Budget(money=Decimal("1.5")), "money", Decimal("1.5"), 1, 1),
    ],
)
def test_a_refusal_says_which_part_and_the_numbers(
    budget: Budget, part: Any, limit: Any, used: Any, asked: Any
) -> None:
    """Whichever part has no room refuses; it stays refused until something is given back."""
    made = ledger(p=budget)
    assert reserve(made, "a") is None
    assert reserve(made, "b") == Refusal(P, part, limit, used, asked, None)
    assert of(made).refused == 1


@pytest.mark.parametrize("budget", [Budget(requests=0), Budget(tokens=0), Budget(money=Decimal(0))])
def test_zero_lets_nothing_through(budget: Budget) -> None:
    """Zero is a limit, also for a request that is free."""
    assert reserve(ledger(p=budget), "a", tokens=0, cost="0") is not None


def test_exactly_the_budget_fits() -> None:
    """A limit may be reached, not passed."""
    made = ledger(p=Budget(money=Decimal("0.3")))
    for id in ("a", "b", "c"):
        assert reserve(made, id, cost="0.1") is None
    assert reserve(made, "d", cost="0.000001") is not None


def test_an_unknown_price_is_refused_by_a_budget_of_money_only() -> None:
    """Nobody knows whether it fits; budgets of tokens do not care."""
    refusal = reserve(ledger(p=Budget(money=Decimal(5))), "a", cost=None)
    assert refusal is not None
    assert (refusal.part, refusal.asked) == ("money", None)
    made = ledger(p=Budget(tokens=50))
    assert reserve(made, "a", cost=None) is None
    made.settle("a", 5, None, now=NOON)
    assert (of(made).spent, of(made).unpriced) == (Amount(1, 5), 1)


def test_all_accounts_or_none() -> None:
    """One without room keeps the others as they were; an account named twice counts once."""
    made = ledger(p=Budget(tokens=100), m=Budget(tokens=15))
    assert reserve(made, "a", accounts=(P, M, P)) is None
    refusal = reserve(made, "b", accounts=(P, M))
    assert refusal is not None
    assert refusal.account == M
    assert of(made, P).reserved == of(made, M).reserved == Amount(1, 10, Decimal(1))


def test_accounts_without_a_budget_count_and_never_refuse() -> None:
    """They are there to be looked at."""
    made = ledger()
    assert reserve(made, "a", tokens=10**9, cost=None, accounts=("run/r1",)) is None
    made.settle("a", 10**9, None, now=NOON)
    assert of(made, "run/r1").spent.tokens == 10**9
    assert (of(made, "run/r1").tokens_left, of(made, "run/r1").resets_in) == (None, None)


def test_one_request_may_exceed_the_budget_by_what_it_underestimated() -> None:
    """It is counted in full, and the next one is refused."""
    made = ledger(p=Budget(tokens=20))
    reserve(made, "a", tokens=10)
    made.settle("a", 25, None, now=NOON)
    assert (of(made).spent.tokens, of(made).tokens_left) == (25, 0)
    assert reserve(made, "b", tokens=1) is not None


def test_a_window_ends_at_its_own_time() -> None:
    """A day is a day of UTC, whenever the count began; what was spent in it is then forgotten."""
    made = ledger(p=daily(tokens=20))
    reserve(made, "a", tokens=20)
    made.settle("a", 20, None, now=NOON)
    refusal = reserve(made, "b", tokens=1, now=NOON + 1)
    assert refusal is not None
    assert refusal.resets_in == DAY / 2 - 1
    assert reserve(made, "b", tokens=1, now=NOON + DAY / 2) is None
    assert of(made, now=NOON + DAY / 2).resets_in == DAY


def test_what_is_reserved_when_a_window_ends_stays_reserved() -> None:
    """It is spent when it is settled, in the window of that moment."""
    made = ledger(p=daily(tokens=20))
    reserve(made, "a", tokens=15, now=NOON + DAY / 2 - 1)
    tomorrow = NOON + DAY / 2
    assert of(made, now=tomorrow).tokens_left == 5
    made.settle("a", 12, None, now=tomorrow)
    assert (of(made, now=tomorrow).spent.tokens, of(made, now=tomorrow).tokens_left) == (12, 8)


def test_a_clock_put_back_forgets_nothing() -> None:
    """Rather too much is counted than too little; a clock put forward begins a new window."""
    made = ledger(p=daily(tokens=20))
    reserve(made, "a", tokens=15)
    made.settle("a", 15, None, now=NOON)
    assert of(made, now=NOON - 3 * DAY).spent.tokens == 15
    assert of(made, now=NOON).spent.tokens == 0


def test_a_changed_budget_holds_at_once_and_keeps_the_count() -> None:
    """A smaller limit refuses what a larger one let in; without a budget the account goes on counting."""
    made = ledger(p=Budget(tokens=100))
    reserve(made, "a", tokens=50)
    made.declare({P: Budget(tokens=40)}, NOON)
    assert (of(made).reserved.tokens, of(made).tokens_left) == (50, 0)
    assert reserve(made, "b", tokens=1) is not None
    made.declare({}, NOON)
    assert of(made).budget is None
    assert reserve(made, "b", tokens=1000) is None


def test_a_new_window_is_to_be_looked_up() -> None:
    """Only an account whose window is new needs its history, from the beginning of that window."""
    made = BudgetLedger()
    budgets = {P: daily(tokens=1), M: Budget(tokens=1)}
    made.declare(budgets, NOON)
    assert made.unread(NOON) == {P: NOON - DAY / 2, M: None}
    made.restore(P, Amount(1, 5), 0)
    assert made.unread(NOON) == {M: None}
    made.go_on()
    made.declare(budgets | {P: daily(tokens=9)}, NOON)
    assert made.unread(NOON) == {}
    assert of(made).spent.tokens == 5
    made.declare(budgets | {P: Budget(window=3600.0, tokens=9)}, NOON)
    assert made.unread(NOON) == {P: NOON}
    # Looked up later, it is the window of that moment that counts.
    assert made.unread(NOON + 3600) == {P: NOON + 3600}
    made.declare({}, NOON)
    assert made.unread(NOON) == {}


def test_declared_budgets_leave_others_alone() -> None:
    """What a run was given is not taken away by a change of configuration."""
    made = ledger(p=Budget(tokens=1))
    made.set_budget("run/r", Budget(tokens=1), NOON)
    made.declare({}, NOON)
    assert (of(made).budget, of(made, "run/r").budget) == (None, Budget(tokens=1))


def test_what_a_dead_owner_reserved_is_spent() -> None:
    """Nobody can say what became of it; others' reservations stay."""
    made = ledger(p=Budget(tokens=100))
    made.reserve("a", (P,), 30, None, now=NOON, owner="x")
    made.reserve("b", (P,), 5, None, now=NOON, owner="y")
    assert list(made.owners) == ["x", "y"]
    made.owner_ended("x", now=NOON)
    assert (of(made).spent, of(made).reserved) == (Amount(1, 30), Amount(1, 5))
    assert list(made.owners) == ["y"]


def test_a_reservation_that_nobody_settles_is_spent_in_the_end() -> None:
    """A lost message does not keep room for ever, and gives none away."""
    made = ledger(p=Budget(tokens=100))
    reserve(made, "a", tokens=30)
    assert of(made, now=NOON + RESERVATION_LIFE).reserved.tokens == 30
    late = NOON + RESERVATION_LIFE + 1
    assert (of(made, now=late).reserved.tokens, of(made, now=late).spent.tokens) == (0, 30)
    assert "a" not in made


def test_accounts_without_a_budget_are_forgotten_when_there_are_too_many() -> None:
    """Memory is bounded; those with a budget or something reserved stay."""
    made = ledger(p=Budget(tokens=100))
    reserve(made, "held", accounts=("run/held",))
    for number in range(MAX_ACCOUNTS + 10):
        reserve(made, "x", accounts=(f"run/{number}",))
        made.cancel("x")
    names = {report.account for report in made.reports(None, now=NOON)}
    assert len(names) <= MAX_ACCOUNTS + 1
    assert {P, "run/held", f"run/{MAX_ACCOUNTS + 9}"} <= names
    made.settle("held", 1, None, now=NOON)


def test_reports_of_all_and_of_none() -> None:
    """All come by name; an unknown account has none."""
    made = ledger(p=Budget(), m=Budget())
    assert [report.account for report in made.reports(None, now=NOON)] == [M, P]
    assert made.reports("run/unknown", now=NOON) == ()


# -- history ---------------------------------------------------------------------------------------


def answered(id: str, time: float, *accounts: str, **fields: Any) -> LmResponse:
    """An event of an answer that was paid for."""
    return LmResponse(id=id, time=time, accounts=accounts, duration=1.0, **(EVENT | fields))


def test_history_adds_up_what_was_paid_in_each_accounts_window() -> None:
    """Tokens, money and requests, from each account's own beginning; others' accounts do not matter."""
    history = History({P: NOON, M: None})
    assert history.begin is None
    history.add(answered("1", NOON - 1, P, M, total_tokens=100, cost=Decimal("0.5")))
    history.add(answered("2", NOON, P, "run/x", total_tokens=10, cost=Decimal("0.25")))
    history.add(answered("3", NOON + 1, M, input_tokens=3, output_tokens=4))
    history.add(answered("4", NOON + 1, M, cache_hit=True, total_tokens=0, cost=Decimal(0)))
    history.add(answered("5", NOON + 1))
    assert history.spent == {P: Amount(1, 10, Decimal("0.25")), M: Amount(2, 107, Decimal("0.5"))}
    assert history.unpriced == {P: 0, M: 1}


def test_history_counts_failures_that_were_paid_for() -> None:
    """An interrupted answer costs as much as it says; a request that nobody paid for has no accounts."""
    history = History({P: NOON})
    assert history.begin == NOON
    fields: dict[str, Any] = EVENT | {"code": "lm_stream_interrupted"}
    history.add(LmError(id="1", time=NOON, accounts=(P,), total_tokens=7, cost=Decimal("0.1"), **fields))
    history.add(LmError(id="2", time=NOON, **fields))
    assert history.spent == {P: Amount(1, 7, Decimal("0.1"))}


def test_history_leaves_out_what_is_still_open() -> None:
    """A request whose reservation is open is counted when it is settled, not twice."""
    history = History({P: None}, {"r"})
    history.add(answered("1", NOON, P, total_tokens=7))
    history.add(answered("2", NOON, P, total_tokens=5, request_event_id="other"))
    assert history.spent == {P: Amount(1, 5)}
