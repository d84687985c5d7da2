"""One account: its budget, what is spent in its window and what is reserved. Plain arithmetic."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from typing import Final, Literal, TypeAlias

from ..configuration.provider_settings import Budget
from .messages import Amount, BudgetReport

Part: TypeAlias = Literal["requests", "tokens", "money"]

NOTHING: Final = Amount()
_PARTS: Final[tuple[Part, ...]] = ("requests", "tokens", "money")


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why a reservation was refused: which account, which part of its budget, and the numbers.

    Attributes:
        account: its name.
        part: what there is too little of.
        limit: how much there may be in a window.
        used: what is spent and reserved of it.
        asked: what was asked for; None is an unknown price.
        resets_in: seconds until the window ends, or None if there is none.
    """

    account: str
    part: Part
    limit: int | Decimal
    used: int | Decimal
    asked: int | Decimal | None
    resets_in: float | None


@dataclass(slots=True)
class Account:
    """The state of one account; times are wall-clock seconds.

    Attributes:
        name: its name.
        budget: what it may spend, or None.
        window: number of the present window, counted from the epoch, or None if there is none.
        spent: in that window.
        reserved: now.
        unpriced: requests among those spent whose cost nobody knows.
        refused: reservations refused.
    """

    name: str
    budget: Budget | None = None
    window: int | None = None
    spent: Amount = NOTHING
    reserved: Amount = NOTHING
    unpriced: int = 0
    refused: int = 0

    def give(self, budget: Budget | None, now: float) -> bool:
        """Change the budget; whether its window is new, so that what was spent before is unknown."""
        old, self.budget = self.budget, budget
        if budget is not None and old is not None and old.window == budget.window:
            return False
        self.window = self._number(now)
        return budget is not None

    def roll(self, now: float) -> None:
        """Begin a new window if the present one is over."""
        if self.budget is None and self.window is None:
            return
        window = self._number(now)
        if window is not None and self.window is not None and window > self.window:
            self.spent, self.unpriced = NOTHING, 0
        # If the clock was put back, the count goes on: rather too much than too little.
        self.window = window

    @property
    def begin(self) -> float | None:
        """When the present window began, or None if there is none."""
        if self.budget is None or self.budget.window is None or self.window is None:
            return None
        return self.window * self.budget.window

    def resets_in(self, now: float) -> float | None:
        """Seconds until the window ends, or None if there is none."""
        if self.budget is None or self.budget.window is None or self.window is None:
            return None
        return max(0.0, (self.window + 1) * self.budget.window - now)

    def refusal(self, amount: Amount, cost: Decimal | None, now: float) -> Refusal | None:
        """Why there is no room for this amount, or None if there is; ``cost`` is None if nobody knows it."""
        if self.budget is None:
            return None
        used = self.spent + self.reserved
        for part in _PARTS:
            limit: int | Decimal | None = getattr(self.budget, part)
            if limit is None:
                continue
            asked: int | Decimal | None = cost if part == "money" else getattr(amount, part)
            held: int | Decimal = getattr(used, part)
            # A limit of zero lets nothing through, not even what costs nothing.
            if limit == 0 or asked is None or held + asked > limit:
                return Refusal(self.name, part, limit, held, asked, self.resets_in(now))
        return None

    def report(self, now: float) -> BudgetReport:
        """How it is."""
        used = self.spent + self.reserved
        budget = self.budget or Budget()
        return BudgetReport(
            account=self.name,
            budget=self.budget,
            spent=self.spent,
            reserved=self.reserved,
            requests_left=None if budget.requests is None else max(0, budget.requests - used.requests),
            tokens_left=None if budget.tokens is None else max(0, budget.tokens - used.tokens),
            money_left=None if budget.money is None else max(Decimal(0), budget.money - used.money),
            resets_in=self.resets_in(now),
            unpriced=self.unpriced,
            refused=self.refused,
        )

    def _number(self, now: float) -> int | None:
        return None if self.budget is None or self.budget.window is None else int(now // self.budget.window)
