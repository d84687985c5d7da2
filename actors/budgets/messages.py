"""What the budget actor is asked and told. Money is in US dollars; what is not known is ``None``, never zero."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from typing import cast

from thespian.actors import ActorAddress

from ...runtime.errors import UsageError
from ..configuration.provider_settings import Budget


@dataclass(frozen=True, slots=True)
class Reserve:
    """Call: keep room for one request in all of these accounts, or in none. Answers :class:`Reserved`.

    Fails with LMBudgetExceeded (facts: account, part, limit, used, asked, resets_in) if one has no room, or has a
    budget of money and the price is unknown; with UsageError if the id is in use.

    Args:
        id: chosen by the caller, unique; settle or cancel with it, whatever this call's end was.
        accounts: ``provider/<id>``, ``module/<id>``, ``run/<id>``...; one without a budget counts and never refuses.
        tokens: estimated, input and output.
        cost: estimated, or None if the price is unknown.
        owner: the actor at whose end the reservation stands as spent; by default the one that calls.

    Raises:
        UsageError: made with accounts that are no tuple, or with less than nothing.
    """

    id: str
    accounts: tuple[str, ...]
    tokens: int
    cost: Decimal | None
    owner: ActorAddress | None = None

    def __post_init__(self) -> None:
        if not isinstance(cast("object", self.accounts), tuple):
            raise UsageError(f"expected a tuple of accounts, got {self.accounts!r}, at Reserve")
        if self.tokens < 0 or (self.cost is not None and not (self.cost.is_finite() and self.cost >= 0)):
            raise UsageError(f"expected tokens and cost from 0, got {self.tokens!r} and {self.cost!r}, at Reserve")


@dataclass(frozen=True, slots=True)
class Reserved:
    """The answer: there is room, and it is kept."""

    id: str


@dataclass(frozen=True, slots=True)
class SettleBudget:
    """Cast: the request is over, and this is what it used; what is None stands as it was reserved.

    Unknown ids are ignored. More than was reserved counts too, so one request may exceed a budget by that much.
    """

    id: str
    tokens: int | None = None
    cost: Decimal | None = None


@dataclass(frozen=True, slots=True)
class CancelReservation:
    """Cast: nothing was spent. Unknown ids are ignored."""

    id: str


@dataclass(frozen=True, slots=True)
class SetBudget:
    """Call: give an account a budget, or none; what was spent in its window counts from the first.

    Fails with ConfigError for an account of a provider or module: theirs is configured.

    Raises:
        UsageError: made of something else.
    """

    account: str
    budget: Budget | None

    def __post_init__(self) -> None:
        account, budget = cast("tuple[object, object]", (self.account, self.budget))
        if not isinstance(account, str) or not isinstance(budget, Budget | None):
            got = f"{type(account).__name__} and {type(budget).__name__}"
            raise UsageError(f"expected an account's name and a Budget or None, got {got}, at SetBudget")


@dataclass(frozen=True, slots=True)
class BudgetStatus:
    """Call: answers a tuple of :class:`BudgetReport`: of one account (empty if it is unknown), or of all by name."""

    account: str | None = None


@dataclass(frozen=True, slots=True)
class Amount:
    """Requests, tokens and US dollars."""

    requests: int = 0
    tokens: int = 0
    money: Decimal = Decimal(0)

    # What costs nothing is not added: the first sum of a task makes a decimal context for it.

    def __add__(self, other: Amount) -> Amount:
        money = self.money + other.money if other.money else self.money
        return Amount(self.requests + other.requests, self.tokens + other.tokens, money)

    def __sub__(self, other: Amount) -> Amount:
        money = self.money - other.money if other.money else self.money
        return Amount(self.requests - other.requests, self.tokens - other.tokens, money)


@dataclass(frozen=True, slots=True, kw_only=True)
class BudgetReport:
    """How an account is.

    Attributes:
        account: its name.
        budget: what it may spend, or None.
        spent: in the present window; without a window, or without a budget, since the count began.
        reserved: by requests that are not over yet.
        requests_left, tokens_left, money_left: what another reservation may take; None where there is no limit.
        resets_in: seconds until the window ends, or None if there is none.
        unpriced: requests among those spent whose cost nobody knows.
        refused: reservations refused, since the account was first heard of.
    """

    account: str
    budget: Budget | None
    spent: Amount
    reserved: Amount
    requests_left: int | None
    tokens_left: int | None
    money_left: Decimal | None
    resets_in: float | None
    unpriced: int
    refused: int
