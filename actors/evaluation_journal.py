"""What an evaluation keeps in its run's journal: its rows, and the answers of the models that judge.

The answers of the program's own models are kept by the module, which is told where in the run each prediction belongs.
"""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Sequence
from decimal import Decimal
from typing import Any, Final, TypeVar

from pydantic_core import to_jsonable_python

from ..runtime.errors import CallError
from ..runtime.gen_server import CALL_TIMEOUT, GenServer
from .evaluation import EvaluationProgress, EvaluationRow, Outcome
from .examples import Example
from .lm import LMResponse, Usage
from .prediction import Prediction, PredictionInfo
from .provider_messages import Complete
from .recorded_call import recorded
from .run_messages import Entry, JournalInfo, JournalStatus, RecallAll, Record, RunState
from .run_scope import RunScope

T = TypeVar("T")
TRIAL: Final = "eval"
"""The one trial of an evaluation."""
_STATES: Final[dict[Outcome, RunState]] = {
    "completed": "completed",
    "too_many_errors": "stopped_early",
    "cancelled": "cancelled",
    "stopped": "budget_exhausted",
}
_ENDED: Final[dict[RunState, Outcome]] = {state: outcome for outcome, state in _STATES.items()}


class EvaluationJournal:
    """The journal of an evaluation, from the side of its actor.

    Args:
        actor: the evaluation.
        run: the run's id.
    """

    def __init__(self, actor: GenServer, run: str) -> None:
        self._actor = actor
        self._run = run
        self._name = f"run-journal/{run}"

    async def recall(self, dataset: Sequence[Example]) -> tuple[dict[int, EvaluationRow], Outcome | None]:
        """The rows that were done, and how the evaluation ended if it has.

        Raises:
            CallError: there is no journal.
            StoreError: it cannot be read.
        """
        status: JournalStatus = await self._actor.call(self._name, JournalInfo(), timeout=None)
        kept: list[Entry] = await self._actor.call(self._name, RecallAll("row"), timeout=None)
        rows = [decode_row(entry.value, dataset) for entry in kept]
        return {row.index: row for row in rows}, _ENDED.get(status.state)

    async def keep(self, row: EvaluationRow) -> None:
        """Keep a row. One that failed because an actor was away is not kept: it is done again.

        Raises:
            RunConflict: another process has taken the run over.
            StoreError: it cannot be written.
        """
        if row.error not in _AWAY:
            entry = Entry("row", f"{TRIAL}\x1f{row.index}", encode_row(row))
            await self._actor.call(self._name, Record((entry,)), timeout=None)

    def tell(self, now: EvaluationProgress) -> None:
        """Write down how far it is; the answer comes as a :class:`~dspex.runtime.messages.Reply`."""
        self._actor.request(self._name, Record(progress=_progress(now)), timeout=None, tag=TRIAL)

    async def end(self, now: EvaluationProgress, outcome: Outcome) -> None:
        """Write down how it ended. Raises as :meth:`keep`."""
        record = Record(progress=_progress(now), state=_STATES[outcome])
        await self._actor.call(self._name, record, timeout=None)


class RecordedHost:
    """What a metric may use in a run with a journal: the models that it asks are asked once.

    Args:
        actor: the evaluation.
        scope: where in the run.
    """

    def __init__(self, actor: GenServer, scope: RunScope) -> None:
        self._actor = actor
        self._scope = scope
        self._ordinal = 0

    def call(self, target: str, message: Any, *, timeout: float | None = CALL_TIMEOUT) -> Awaitable[Any]:
        """Ask an actor; a model's answer is taken from the journal, or kept there."""
        if not isinstance(message, Complete):
            return self._actor.call(target, message, timeout=timeout)

        async def send(ask: Complete) -> LMResponse:
            answer: LMResponse = await self._actor.call(target, ask, timeout=timeout)
            return answer

        ordinal, self._ordinal = self._ordinal, self._ordinal + 1
        return recorded(self._actor, self._scope, ordinal, message, send)

    async def run_blocking(self, function: Callable[..., T], *args: Any) -> T:
        """Run what blocks on a daemon thread."""
        return await self._actor.run_blocking(function, *args)


def _progress(now: EvaluationProgress) -> dict[str, Any]:
    return {"step": now.done, "steps": now.total, "errors": now.failures, "best_score": now.score}


def encode_row(row: EvaluationRow) -> str:
    """A row as JSON text, without its example; what is no JSON in a prediction becomes text."""
    fields = {name: getattr(row, name) for name in ("index", "score", "error", "message", "feedback", "duration")}
    prediction = row.prediction
    if prediction is not None:
        info = prediction.info
        fields["predicted"] = to_jsonable_python(prediction.to_dict(), fallback=str, inf_nan_mode="strings")
        fields["info"] = {
            "tokens": [info.usage.input_tokens, info.usage.output_tokens, info.usage.total_tokens],
            "source": info.usage.source,
            "cost": None if info.cost is None else str(info.cost),
            "cache_hit": info.cache_hit,
            "correlation_id": info.correlation_id,
            "span_id": info.span_id,
            "provider": info.provider,
            "model": info.model,
        }
    return json.dumps(fields)


def decode_row(text: str, dataset: Sequence[Example]) -> EvaluationRow:
    """Read what :func:`encode_row` wrote."""
    fields: dict[str, Any] = json.loads(text)
    predicted, info = fields.pop("predicted", None), fields.pop("info", None)
    prediction = None if predicted is None else Prediction(predicted, _info(info))
    index: int = fields.pop("index")
    return EvaluationRow(index, dataset[index], prediction=prediction, **fields)


def _info(kept: dict[str, Any]) -> PredictionInfo:
    given, made, total = kept.pop("tokens")
    cost = kept.pop("cost")
    usage = Usage(given, made, total, source=kept.pop("source"))
    return PredictionInfo(usage=usage, cost=None if cost is None else Decimal(cost), **kept)


def _codes(kind: type[CallError]) -> set[str]:
    return {kind.code}.union(*(_codes(each) for each in kind.__subclasses__()))


_AWAY: Final = frozenset(_codes(CallError))
