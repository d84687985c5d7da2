"""Who may spend what, as plain arithmetic: accounts, reservations, windows. Knows no actor and no clock.

What is spent and what is reserved together never exceed a budget, as long as no request uses more than it reserved;
one that does is counted in full, and exceeds the budget by that much.

A window is a fixed piece of wall-clock time, counted from the epoch (one of 86400 seconds is a day of UTC), so that
it is the same one after a restart. Spending counts in the window in which it is settled; what is reserved when a
window ends stays reserved in the next.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Final

from ..configuration.provider_settings import Budget
from .account import NOTHING, Account, Refusal
from .messages import Amount, BudgetReport

RESERVATION_LIFE: Final = 3600.0
"""Seconds after which a reservation that nobody settled stands as spent."""
MAX_ACCOUNTS: Final = 10_000
"""From here on the oldest accounts are forgotten that have no budget and nothing reserved."""

_NO_MONEY: Final = Decimal(0)


@dataclass(frozen=True, slots=True)
class _Reservation:
    accounts: tuple[str, ...]
    amount: Amount
    cost: Decimal | None
    owner: Hashable
    made: float


class BudgetLedger:
    """The accounts. Times are wall-clock seconds. Handed to the actor from outside, it outlives the actor's crash."""

    def __init__(self) -> None:
        self._accounts: dict[str, Account] = {}
        self._open: dict[str, _Reservation] = {}
        self._declared: frozenset[str] = frozenset()
        self._unread: dict[str, None] = {}

    def __contains__(self, id: object) -> bool:
        """Whether a reservation with this id is open."""
        return id in self._open

    def __repr__(self) -> str:
        spent = (f"{name}: {account.spent.requests} requests" for name, account in self._accounts.items())
        return f"<{len(self._open)} open; {', '.join(spent) or 'nothing spent'}>"

    @property
    def owners(self) -> tuple[Hashable, ...]:
        """Whose reservations are open, each once."""
        return tuple(dict.fromkeys(one.owner for one in self._open.values() if one.owner is not None))

    # -- budgets -----------------------------------------------------------------------------------

    def declare(self, budgets: Mapping[str, Budget], now: float) -> None:
        """Give these accounts their budgets, and none to those that were declared before and no longer are."""
        gone = self._declared - budgets.keys()
        self._declared = frozenset(budgets)
        for name in sorted(gone):
            self.set_budget(name, None, now)
        for name, budget in budgets.items():
            self.set_budget(name, budget, now)

    def set_budget(self, name: str, budget: Budget | None, now: float) -> None:
        """Give one account a budget, or none."""
        if self._account(name).give(budget, now):
            self._unread[name] = None
        elif budget is None:
            self._unread.pop(name, None)

    def unread(self, now: float) -> dict[str, float | None]:
        """The accounts whose window is new here, and when it began (None: at the beginning of time).

        What was spent there before is to be looked up, and told with :meth:`restore`. That is remembered here, so
        that a look-up that a crash ended is made again.
        """
        found: dict[str, float | None] = {}
        for name in self._unread:
            account = self._accounts[name]
            account.roll(now)
            found[name] = account.begin
        return found

    def restore(self, name: str, spent: Amount, unpriced: int) -> None:
        """Put what was spent in an account's window, from elsewhere, in the place of what was counted here."""
        account = self._account(name)
        account.spent, account.unpriced = spent, unpriced
        self._unread.pop(name, None)

    def go_on(self) -> None:
        """There is nothing to look up: what was counted here stands."""
        self._unread.clear()

    # -- spending ----------------------------------------------------------------------------------

    def reserve(
        self,
        id: str,
        accounts: Iterable[str],
        tokens: int,
        cost: Decimal | None,
        *,
        now: float,
        owner: Hashable = None,
    ) -> Refusal | None:
        """Keep room in all accounts, or in none; why not, if not. The id must not be open."""
        self._expire(now)
        self._make_room()
        names = tuple(dict.fromkeys(accounts))
        amount, found = Amount(1, tokens, cost or _NO_MONEY), [self._account(name) for name in names]
        for account in found:
            account.roll(now)
            refusal = account.refusal(amount, cost, now)
            if refusal is not None:
                account.refused += 1
                return refusal
        for account in found:
            account.reserved += amount
        self._open[id] = _Reservation(names, amount, cost, owner, now)
        return None

    def settle(self, id: str, tokens: int | None, cost: Decimal | None, *, now: float) -> bool:
        """A request is over; whether its id was open. What is None stands as it was reserved."""
        reservation = self._open.pop(id, None)
        if reservation is None:
            return False
        cost = reservation.cost if cost is None else cost
        actual = Amount(1, reservation.amount.tokens if tokens is None else tokens, cost or _NO_MONEY)
        for name in reservation.accounts:
            account = self._accounts[name]
            account.roll(now)
            account.reserved -= reservation.amount
            account.spent += actual
            account.unpriced += cost is None
        return True

    def cancel(self, id: str) -> bool:
        """Nothing was spent; whether the id was open."""
        reservation = self._open.pop(id, None)
        if reservation is None:
            return False
        for name in reservation.accounts:
            self._accounts[name].reserved -= reservation.amount
        return True

    def owner_ended(self, owner: Hashable, *, now: float) -> None:
        """What it had reserved stands as spent: nobody can say what became of it."""
        for id in [id for id, one in self._open.items() if one.owner == owner]:
            self.settle(id, None, None, now=now)

    def _expire(self, now: float) -> None:
        # They stand in the order in which they were made.
        while self._open:
            oldest = next(iter(self._open))
            if now - self._open[oldest].made <= RESERVATION_LIFE:
                return
            self.settle(oldest, None, None, now=now)

    # -- looking -----------------------------------------------------------------------------------

    def reports(self, name: str | None, *, now: float) -> tuple[BudgetReport, ...]:
        """How one account is, or all of them by name."""
        self._expire(now)
        names = sorted(self._accounts) if name is None else [name] if name in self._accounts else []
        return tuple(self._reports(names, now))

    def _reports(self, names: Iterable[str], now: float) -> Iterator[BudgetReport]:
        for name in names:
            account = self._accounts[name]
            account.roll(now)
            yield account.report(now)

    def _account(self, name: str) -> Account:
        account = self._accounts.get(name)
        if account is None:
            account = self._accounts[name] = Account(name)
        return account

    def _make_room(self) -> None:
        if len(self._accounts) <= MAX_ACCOUNTS:
            return
        idle = [name for name, one in self._accounts.items() if one.budget is None and one.reserved == NOTHING]
        # Many at once, so that this is rare.
        for name in idle[: len(self._accounts) - MAX_ACCOUNTS // 2]:
            del self._accounts[name]
