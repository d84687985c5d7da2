"""What holds of budgets whatever is reserved, settled, cancelled or lost, and whenever."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, initialize, invariant, multiple, rule

from dspex.actors.budgets.history import History
from dspex.actors.budgets.ledger import RESERVATION_LIFE, BudgetLedger
from dspex.actors.budgets.messages import Amount
from dspex.actors.configuration.provider_settings import Budget
from dspex.actors.events.kinds import LmResponse

ACCOUNTS: tuple[str, ...] = ("provider/p", "module/m", "run/r")
WINDOW = 100.0

tokens = st.integers(0, 30)
money = st.decimals(0, 3, places=3)
budgets = st.builds(
    Budget,
    window=st.sampled_from([None, WINDOW]),
    money=st.none() | st.decimals(0, 8, places=2),
    tokens=st.none() | st.integers(0, 80),
    requests=st.none() | st.integers(0, 6),
)
choices = st.lists(st.sampled_from(ACCOUNTS), min_size=1, max_size=3)


class Budgets(RuleBasedStateMachine):
    """A ledger beside a naive model of it: every reservation and every spending, each with its moment."""

    open_ids = Bundle("open_ids")

    @initialize(given=st.lists(budgets, min_size=3, max_size=3))
    def begin(self, given: list[Budget]) -> None:
        """Three accounts, not all of them limited."""
        self.now = 1_000_000.0
        self.ledger = BudgetLedger()
        self.budgets = dict(zip(ACCOUNTS, given, strict=True))
        self.ledger.declare(self.budgets, self.now)
        self.reserved: dict[str, tuple[tuple[str, ...], Amount, bool, str]] = {}
        self.spent: list[tuple[float, tuple[str, ...], Amount, bool]] = []
        self.count = 0

    @rule(target=open_ids, accounts=choices, tokens=tokens, cost=st.none() | money, owner=st.sampled_from("xy"))
    def reserve(self, accounts: list[str], tokens: int, cost: Decimal | None, owner: str) -> Any:
        """It is refused exactly if one of its accounts has no room, and then changes nothing."""
        self.count += 1
        id, names = str(self.count), tuple(dict.fromkeys(accounts))
        amount = Amount(1, tokens, cost or Decimal(0))
        fits = all(self.fits(name, amount, priced=cost is not None) for name in names)
        refusal = self.ledger.reserve(id, accounts, tokens, cost, now=self.now, owner=owner)
        assert (refusal is None) == fits
        if refusal is not None:
            assert refusal.account in names
            return multiple()
        self.reserved[id] = (names, amount, cost is not None, owner)
        return id

    @rule(id=consumes(open_ids), share=st.none() | st.decimals(0, 1, places=2))
    def settle(self, id: str, share: Decimal | None) -> None:
        """It used no more than it reserved, or nobody knows what it used."""
        if id not in self.reserved:
            assert not self.ledger.settle(id, 1, None, now=self.now)
            return
        _, amount, priced, _ = self.reserved[id]
        if share is None:
            used, cost = amount, None
        else:
            used = Amount(1, int(amount.tokens * share), amount.money * share)
            cost = used.money if priced else None
        assert self.ledger.settle(id, None if share is None else used.tokens, cost, now=self.now)
        self.book(id, used)

    @rule(id=consumes(open_ids))
    def cancel(self, id: str) -> None:
        """Nothing was spent."""
        assert self.ledger.cancel(id) == (self.reserved.pop(id, None) is not None)

    @rule(owner=st.sampled_from("xy"))
    def die(self, owner: str) -> None:
        """What the dead had reserved is spent."""
        self.ledger.owner_ended(owner, now=self.now)
        for id in [id for id, one in self.reserved.items() if one[3] == owner]:
            self.book(id, self.reserved[id][1])

    @rule(seconds=st.sampled_from([0.5, 30.0, WINDOW]))
    def wait(self, seconds: float) -> None:
        """Time passes, but not so much that reservations lapse."""
        if self.now + seconds < 1_000_000.0 + RESERVATION_LIFE:
            self.now += seconds

    def book(self, id: str, used: Amount) -> None:
        """Note a spending."""
        accounts, _, priced, _ = self.reserved.pop(id)
        self.spent.append((self.now, accounts, used, priced))

    def sums(self, name: str) -> tuple[Amount, Amount]:
        """What the model says is spent in the present window, and reserved."""
        window = self.budgets[name].window
        begin = 0.0 if window is None else self.now // window * window
        spent = sum((one[2] for one in self.spent if one[0] >= begin and name in one[1]), Amount())
        return spent, sum((one[1] for one in self.reserved.values() if name in one[0]), Amount())

    def fits(self, name: str, amount: Amount, *, priced: bool) -> bool:
        """Whether there is room, by the model."""
        budget, total = self.budgets[name], sum(self.sums(name), amount)
        return (
            (budget.requests is None or (budget.requests > 0 and total.requests <= budget.requests))
            and (budget.tokens is None or (budget.tokens > 0 and total.tokens <= budget.tokens))
            and (budget.money is None or (priced and budget.money > 0 and total.money <= budget.money))
        )

    @invariant()
    def the_books_are_right_and_no_budget_is_exceeded(self) -> None:
        """Ledger and model agree, and spent and reserved together stay within every budget."""
        if not hasattr(self, "ledger"):
            return
        for report in self.ledger.reports(None, now=self.now):
            budget, total = self.budgets[report.account], report.spent + report.reserved
            assert (report.spent, report.reserved) == self.sums(report.account)
            assert budget.requests is None or total.requests <= budget.requests
            assert budget.tokens is None or total.tokens <= budget.tokens
            assert budget.money is None or total.money <= budget.money


TestBudgets = Budgets.TestCase


@given(st.lists(st.tuples(tokens, tokens), min_size=1, max_size=20), st.integers(1, 100))
def test_a_budget_is_exceeded_only_by_what_was_underestimated(requests: list[tuple[int, int]], limit: int) -> None:
    """Whatever requests use beyond their reservations, the sum passes the limit by no more than that."""
    ledger = BudgetLedger()
    ledger.declare({"run/r": Budget(tokens=limit)}, 0.0)
    excess = 0
    for number, (estimated, used) in enumerate(requests):
        if ledger.reserve(str(number), ("run/r",), estimated, None, now=0.0) is None:
            ledger.settle(str(number), used, None, now=0.0)
            excess += max(0, used - estimated)
    (report,) = ledger.reports(None, now=0.0)
    assert report.spent.tokens <= limit + excess


@given(st.lists(st.tuples(choices, tokens, st.none() | money, st.floats(0, 3 * WINDOW)), max_size=20))
def test_what_is_read_back_is_what_was_counted(requests: list[tuple[list[str], int, Decimal | None, float]]) -> None:
    """The events of a life, in any window, add up to what the ledger had counted at its end."""
    ledger, windows = BudgetLedger(), {"provider/p": WINDOW, "module/m": 70.0, "run/r": None}
    ledger.declare({name: Budget(window=window) for name, window in windows.items()}, 0.0)
    events: list[LmResponse] = []
    now = 0.0
    for number, (accounts, used, cost, moment) in enumerate(sorted(requests, key=lambda request: request[3])):
        id, now = f"{number:03}", moment
        assert ledger.reserve(id, accounts, used, cost, now=now) is None
        ledger.settle(id, used, cost, now=now)
        events.append(
            LmResponse(
                id=id,
                time=now,
                provider="p",
                model=None,
                request_event_id=id,
                duration=0.0,
                total_tokens=used,
                cost=cost,
                accounts=tuple(accounts),
            )
        )
    begins = {name: None if window is None else now // window * window for name, window in windows.items()}
    history = History(begins)
    for event in events:
        history.add(event)
    for report in ledger.reports(None, now=now):
        assert (history.spent[report.account], history.unpriced[report.account]) == (report.spent, report.unpriced)
