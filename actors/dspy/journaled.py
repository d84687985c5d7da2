"""DSPy's calls of a run: answered from the run's journal, or sent and written down before DSPy sees the answer.

DSPy spreads its work over threads, in no order that another process would repeat. So a call is known by what it asks,
and by how often that was asked before in this run: the second time the same is asked it gets the second answer.
"""

from __future__ import annotations

import threading
from collections import Counter
from dataclasses import dataclass

from ...runtime.gen_server import GenServer, NoReply, call
from ..lm.values import LMResponse
from ..providers.messages import Complete
from ..runs.recorded_call import fingerprint, recorded
from ..runs.scope import RunScope

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


class JournaledProvider(GenServer):
    """Stands between DSPy and a provider for one run, ``dspy-run/<id>``; the run's journal stands left of it.

    Args:
        provider: id of the provider.
    """

    def init(self, provider: str) -> None:
        """Remember whom to ask."""
        self._provider = provider

    @call
    def complete(self, msg: RecordedCall) -> NoReply:
        """Serve a call in a task of its own."""
        return self.serve(answered(self, msg, f"provider/{msg.provider or self._provider}"))


async def answered(actor: GenServer, msg: RecordedCall, target: str) -> LMResponse:
    """The answer to a call of a run, asked by ``actor``. Raises as ``recorded`` does."""

    async def send(ask: Complete) -> LMResponse:
        response: LMResponse = await actor.call(target, ask, timeout=None)
        return response

    return await recorded(actor, msg.scope, msg.ordinal, msg.ask, send)
