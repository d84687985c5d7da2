"""The budget actor, ``core/budgets``: who may spend what, over all providers, modules and runs.

A request reserves room in all its accounts before anything is sent, by estimate, and settles when it is over. What
was spent outlives both the actor and the process: a ledger that is handed in survives the actor's crash, and without
one the sums are read back from the event log. Requests wait meanwhile.
"""

from __future__ import annotations

from typing import Final

from thespian.actors import ActorAddress

from ...runtime.calls import Call
from ...runtime.errors import ConfigError, NoProcess, UsageError
from ...runtime.gen_server import Continue, Fail, call, cast, info
from ...runtime.log import get_logger
from ...runtime.messages import Down
from ..configuration.follower import SettingsFollower
from ..configuration.provider_settings import Budget
from ..configuration.settings import Settings
from ..events.query import EventPage, EventQuery
from ..events.store import NAME as EVENTS
from ..events.store import AppendAcked, Query
from ..lm.failures import lm_error
from .account import Refusal
from .history import History
from .ledger import BudgetLedger
from .messages import (
    BudgetReport,
    BudgetStatus,
    CancelReservation,
    Reserve,
    Reserved,
    SetBudget,
    SettleBudget,
)

NAME: Final = "core/budgets"
"""The name under which everybody finds the budget actor."""
REFUSED: Final = ("dspex", "budget", "refused")
"""Telemetry: a reservation was refused. Measurements: ``count``; metadata: ``account``, ``part``."""
MAX_EVENTS: Final = 200_000
"""Events read back at most, the newest; what older ones spent is then missing, and a warning says so."""

_PAGE: Final = 1000
_CONFIGURED: Final = ("provider/", "module/")


class BudgetActor(SettingsFollower):
    """The actor ``core/budgets``.

    Args:
        settings: the settings, for use without a configuration actor.
        ledger: what is spent and reserved survives a crash of the actor if it is handed in.
    """

    # A settlement that is refused would stand as reserved; and whoever asks is a request that exists already.
    mailbox_limit = None

    async def init(self, settings: Settings | None = None, *, ledger: BudgetLedger | None = None) -> Continue:
        """Read the settings, and be told when they change."""
        self._ledger = BudgetLedger() if ledger is None else ledger
        self._log = get_logger("dspex.budgets")
        self._watched: dict[ActorAddress, int] = {}
        for owner in self._ledger.owners:
            assert isinstance(owner, ActorAddress)
            self._watch(owner)
        if settings is None:
            settings = await self.follow_settings(("ai", "providers"), ("modules",))
        # Reading the log may take its time: nobody above is to wait for it, only those who want to spend.
        return Continue(settings)

    async def handle_continue(self, value: Settings) -> None:
        """Read back what was spent before."""
        await self._adopt(value)

    # -- spending ----------------------------------------------------------------------------------

    @call
    def reserve(self, msg: Reserve) -> Reserved | Fail:
        """Keep room for a request."""
        if msg.id in self._ledger:
            return Fail(UsageError(f"expected the id of a new reservation, got {msg.id!r}, which is open, at {NAME}"))
        owner = msg.owner or _maker(self.caller)
        refusal = self._ledger.reserve(msg.id, msg.accounts, msg.tokens, msg.cost, now=self.clock.time(), owner=owner)
        if refusal is not None:
            facts = {"account": refusal.account, "part": refusal.part}
            self.system.telemetry.execute(REFUSED, {"count": 1}, facts)
            return Fail(_exceeded(refusal))
        if owner is not None:
            self._watch(owner)
        return Reserved(msg.id)

    @cast
    def settle(self, msg: SettleBudget) -> None:
        """Count what a request used."""
        self._ledger.settle(msg.id, msg.tokens, msg.cost, now=self.clock.time())

    @cast
    def cancel(self, msg: CancelReservation) -> None:
        """Give back what was reserved."""
        self._ledger.cancel(msg.id)

    @info
    def down(self, msg: Down) -> None:
        """Whoever had reserved has died."""
        owner = msg.address
        if owner is not None and self._watched.pop(owner, None) is not None:
            self._ledger.owner_ended(owner, now=self.clock.time())

    def _watch(self, owner: ActorAddress) -> None:
        if owner not in self._watched:
            self._watched[owner] = self.monitor(owner)

    # -- budgets -----------------------------------------------------------------------------------

    @call
    def status(self, msg: BudgetStatus) -> tuple[BudgetReport, ...]:
        """How the accounts are."""
        return self._ledger.reports(msg.account, now=self.clock.time())

    @call
    async def set_budget(self, msg: SetBudget) -> Fail | None:
        """Give an account a budget of its own."""
        if msg.account.startswith(_CONFIGURED):
            return Fail(
                ConfigError(
                    f"expected an account whose budget is not configured, got {msg.account!r}, at SetBudget; "
                    "change ai.providers.<id>.budget or modules.<id>.budget",
                    path=msg.account,
                    expected="an account whose budget is not configured",
                    got=msg.account,
                )
            )
        self._ledger.set_budget(msg.account, msg.budget, self.clock.time())
        await self._read_back()
        return None

    async def use_settings(self, settings: Settings) -> None:
        """Go on with the new budgets; what was spent stays spent."""
        await self._adopt(settings)

    async def _adopt(self, settings: Settings) -> None:
        self._ledger.declare(configured_budgets(settings), self.clock.time())
        await self._read_back()

    async def _read_back(self) -> None:
        """Read from the event log what was spent in windows that are new here. Without a log, the count goes on."""
        since = self._ledger.unread(self.clock.time())
        if not since:
            return
        history = History(since, self._ledger)
        read = 0
        cursor: int | None = None
        more = True
        try:
            # Answered once everything before it is stored: what was settled just now is in the log too.
            await self.call(EVENTS, AppendAcked(()), timeout=None)
            while more and read < MAX_EVENTS:
                query = EventQuery(types=("lm_response", "lm_error"), since=history.begin, limit=_PAGE, cursor=cursor)
                page: EventPage = await self.call(EVENTS, Query(query), timeout=None)
                for event in page.events:
                    history.add(event)
                read, cursor, more = read + len(page.events), page.cursor, page.more
        except NoProcess:
            self._ledger.go_on()
            return
        if more:
            self._log.warning("budgets start from the newest events only", events=read, accounts=sorted(since))
        for account, spent in history.spent.items():
            self._ledger.restore(account, spent, history.unpriced[account])


def configured_budgets(settings: Settings) -> dict[str, Budget]:
    """The accounts that have a budget by configuration: ``provider/<id>`` and ``module/<id>``."""
    declared = {f"provider/{name}": provider.budget for name, provider in settings.ai.providers.items()}
    declared |= {f"module/{name}": module.budget for name, module in settings.modules.items()}
    return {account: budget for account, budget in declared.items() if budget is not None}


def _maker(served: Call) -> ActorAddress | None:
    """The actor that made a call, in a handler or in a task that serves another call; None if there is none."""
    cell = served.holder or (None if served.parent is None else served.parent.to)
    return None if cell is None else cell.address


def _exceeded(refusal: Refusal) -> Exception:
    unit = {"money": " US dollars", "tokens": " tokens", "requests": " requests"}[refusal.part]
    window = "" if refusal.resets_in is None else f"; it begins anew in {refusal.resets_in:.0f} s"
    # What is asked for is the longest answer there may be, which is often far more than is spent in the end.
    bounded = refusal.part != "requests" and refusal.asked is not None
    hint = "; a request reserves what its longest answer would use, which max_tokens bounds" if bounded else ""
    asked = "a request of unknown price" if refusal.asked is None else f"{refusal.asked} more"
    return lm_error(
        "budget",
        f"expected room in the budget of {refusal.account} ({refusal.limit}{unit}), "
        f"got {asked} where {refusal.used} are spent or reserved{window}{hint}",
        account=refusal.account,
        part=refusal.part,
        limit=refusal.limit,
        used=refusal.used,
        asked=refusal.asked,
        resets_in=refusal.resets_in,
    )
