"""DSPy's calls of a run: answered from the run's journal, or sent and written down before DSPy sees the answer.

DSPy spreads its work over threads, in no order that another process would repeat. So a call is known by what it asks,
and by how often that was asked before in this run: the second time the same is asked it gets the second answer.
"""

from __future__ import annotations

import threading
from collections import Counter
from dataclasses import dataclass

from ...runtime.errors import LMBudgetExceeded
from ...runtime.gen_server import GenServer, NoReply, call
from ...runtime.reasons import Reason, is_normal
from ..lm.values import LMResponse
from ..providers.messages import Complete
from ..runs.budget import RunBudget, close_account, open_account
from ..runs.messages import JournalInfo, JournalStatus, Outcome
from ..runs.recorded_call import fingerprint, recorded
from ..runs.scope import RunScope
from ..runs.spending import Spending
from ..runs.tries import HOPELESS, tried
from .optimizer_messages import CannotGoOn

_DIGITS = 32


class Ordinals:
    """Counts how often each thing was asked. For any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._asked: Counter[str] = Counter()

    def place(self, ask: Complete, scope: RunScope, provider: str | None = None) -> RecordedCall:
        """Where in the run a call belongs; ``provider`` is another one than the run's."""
        scope = scope.within(fingerprint(ask)[:_DIGITS])
        if provider is not None:
            scope = scope.within(provider)
        with self._lock:
            ordinal = self._asked[scope.part]
            self._asked[scope.part] += 1
        return RecordedCall(ask, scope, ordinal, provider)


@dataclass(frozen=True, slots=True)
class RecordedCall:
    """Call: answers the :class:`~dspex.actors.lm.values.LMResponse` of the run's journal, or the provider's.

    Args:
        ask: what is asked.
        scope: where in the run.
        ordinal: the how-manieth call at that place.
        provider: who is asked, if not the run's provider.
    """

    ask: Complete
    scope: RunScope
    ordinal: int
    provider: str | None = None


@dataclass(frozen=True, slots=True)
class AskEnd:
    """Call: answers the :class:`CannotGoOn` of a run whose model calls cannot go on, or None."""


class JournaledProvider(GenServer):
    """Stands between DSPy and a provider for one run, ``dspy-run/<id>``; the run's journal stands left of it.

    DSPy scores a failed call 0 and goes on. So what the next call would meet too, such as a key that is refused or a
    spent budget, is told to the run (if it is an actor), which ends then.

    Args:
        run: the run's id.
        provider: id of the provider.
        budget: what the run may spend.
    """

    trap_exit = True  # so that terminate runs

    async def init(self, run: str, provider: str, budget: RunBudget) -> None:
        """Open the run's account, before there is any call."""
        self._run = run
        self._provider = provider
        self._spending = Spending()
        self._end: CannotGoOn | None = None
        journal: JournalStatus = await self.call(f"run-journal/{run}", JournalInfo(), timeout=None)
        await open_account(self, run, budget, journal.paid)

    @call
    def complete(self, msg: RecordedCall) -> NoReply:
        """Serve a call in a task of its own."""
        return self.serve(self._complete(msg))

    @call
    def end(self, msg: AskEnd) -> CannotGoOn | None:
        """Why nothing more can be had, if so."""
        return self._end

    async def _complete(self, msg: RecordedCall) -> LMResponse:
        target = f"provider/{msg.provider or self._provider}"
        try:
            return await self._spending.do(lambda: tried(lambda: answered(self, msg, target)))
        except LMBudgetExceeded as error:
            self._cannot_go_on("budget_exhausted", error.message)
            raise
        except HOPELESS as error:
            self._cannot_go_on("failed", f"{error.code}: {error.message}")
            raise

    def _cannot_go_on(self, outcome: Outcome, why: str) -> None:
        self._end = CannotGoOn(outcome, why)
        if self.system.names.get(f"run/{self._run}") is not None:
            self.cast(f"run/{self._run}", self._end)

    async def terminate(self, reason: Reason) -> None:
        """Nobody spends on the account any more."""
        if is_normal(reason):
            await close_account(self, self._run)


async def answered(actor: GenServer, msg: RecordedCall, target: str) -> LMResponse:
    """The answer to a call of a run, asked by ``actor``. Raises as ``recorded`` does."""

    async def send(ask: Complete) -> LMResponse:
        response: LMResponse = await actor.call(target, ask, timeout=None)
        return response

    return await recorded(actor, msg.scope, msg.ordinal, msg.ask, send)
