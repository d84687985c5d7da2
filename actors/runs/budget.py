"""What a run may spend, and its account, ``run/<id>``: what goes beyond is refused where requests are sent."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from decimal import Decimal, InvalidOperation
from typing import Any, Final

from ...runtime.errors import CallError, ConfigError, did_you_mean
from ...runtime.gen_server import GenServer
from ..budgets.messages import Amount, BudgetReport, BudgetStatus, SetBudget
from ..configuration.provider_settings import Budget
from .messages import Paid

BUDGETS: Final = "core/budgets"


@dataclass(frozen=True, slots=True, kw_only=True)
class RunBudget:
    """What a run may spend in all, over every process that works on it. Each part is optional.

    Args:
        calls: model requests.
        tokens: input and output.
        money: US dollars; a request whose price is unknown is refused then.
        seconds: of work.

    Raises:
        ConfigError: a part is no number from 0.
    """

    calls: int | None = None
    tokens: int | None = None
    money: Decimal | None = None
    seconds: float | None = None

    def __post_init__(self) -> None:
        for each in fields(self):
            value = getattr(self, each.name)
            if value is None:
                continue
            whole = each.name in ("calls", "tokens")
            object.__setattr__(self, each.name, _amount(each.name, value, whole=whole))

    @classmethod
    def of(cls, given: RunBudget | Mapping[str, Any] | None) -> RunBudget:
        """A budget from a mapping.

        Raises:
            ConfigError: a part is unknown or malformed.
        """
        if isinstance(given, RunBudget):
            return given
        known = [each.name for each in fields(cls)]
        if given is not None and not isinstance(given, Mapping):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise ConfigError(
                f"expected the parts {', '.join(known)}, got {type(given).__name__}, at budget", path="budget"
            )
        for name in given or {}:
            if name not in known:
                hint = did_you_mean(name, known)
                raise ConfigError(
                    f"expected the parts {', '.join(known)}, got {name!r}{hint}, at budget", path="budget"
                )
        return cls(**(given or {}))

    def to_dict(self) -> dict[str, Any]:
        """As JSON."""
        return asdict(self) | {"money": None if self.money is None else str(self.money)}


async def open_account(actor: GenServer, run: str, budget: RunBudget, paid: Paid) -> None:
    """Let the budget actor refuse what goes beyond; what was paid in other processes counts too.

    Args:
        actor: the run.
        run: its id.
        budget: what it may spend in all.
        paid: what its journal has of that.

    Raises:
        CallError: there is no budget actor.
    """
    if (budget.calls, budget.tokens, budget.money) == (None, None, None):
        return
    account = f"run/{run}"
    whole = Budget(requests=budget.calls, tokens=budget.tokens, money=budget.money)
    await actor.call(BUDGETS, SetBudget(account, whole), timeout=None)
    reports: tuple[BudgetReport, ...] = await actor.call(BUDGETS, BudgetStatus(account), timeout=None)
    spent = reports[0].spent if reports else Amount()
    # The account may know less (its log was in memory) or more (of requests that failed) than the journal.
    left = Budget(
        requests=_left(budget.calls, paid.calls, spent.requests),
        tokens=_left(budget.tokens, paid.tokens, spent.tokens),
        money=_left(budget.money, paid.money, spent.money),
    )
    await actor.call(BUDGETS, SetBudget(account, left), timeout=None)


async def close_account(actor: GenServer, run: str) -> None:
    """Nobody spends on it any more."""
    try:
        await actor.call(BUDGETS, SetBudget(f"run/{run}", None))
    except CallError:
        return  # the application ends, and with it the account


def _left(limit: Any, paid: Any, counted: Any) -> Any:
    """A limit for an account that has counted so much already, such that the run can spend what it has left."""
    if limit is None:
        return None
    return type(limit)(counted + max(limit - paid, type(limit)(0)))


def _amount(name: str, value: Any, *, whole: bool) -> Any:
    expected = "a whole number from 0" if whole else "a number from 0"
    try:
        if isinstance(value, bool) or (whole and not isinstance(value, int)):
            raise ValueError
        number = Decimal(str(value)) if name == "money" else value
        if not (math.isfinite(number) and number >= 0):
            raise ValueError
    except (ValueError, TypeError, InvalidOperation):
        path = f"budget.{name}"
        raise ConfigError(
            f"expected {expected}, got {value!r}, at {path}", path=path, expected=expected, got=repr(value)
        ) from None
    return number
