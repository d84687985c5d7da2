"""What an evaluation keeps in its run's journal: its rows, how far it is, how it ended.

The answers of models are kept by who asks them: the module, which is told where in the run each prediction belongs, and
:mod:`~.runs.recorded_host` for the models that judge.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Final, Literal, cast

from ...runtime.gen_server import GenServer
from ..examples import Example
from ..json_values import as_json
from ..lm.values import Usage
from ..modules.prediction import Prediction, PredictionInfo
from ..runs.messages import FINAL, OVER, Entry, JournalInfo, JournalStatus, RecallAll, Record, RunState
from ..runs.plan import example_from_dict
from ..runs.store import StoredRun
from .report import EvaluationReport
from .work import EvaluationProgress, EvaluationRow, Outcome

TRIAL: Final = "eval"
"""The one trial of an evaluation."""
STATES: Final[dict[Outcome, RunState]] = {
    "completed": "completed",
    "too_many_errors": "stopped_early",
    "cancelled": "cancelled",
    "stopped": "failed",
}
"""The states of a run by the outcomes of an evaluation; one that was stopped goes on when it is begun again."""
OUTCOMES: Final[dict[str, Outcome]] = {state: outcome for outcome, state in STATES.items()}


@dataclass(frozen=True, slots=True)
class Recalled:
    """What the journal has of an evaluation.

    Attributes:
        rows: those that were done, by index.
        ended: how it ended, if that is final.
        paused: whether it was paused.
        elapsed: seconds of work before this start.
    """

    rows: dict[int, EvaluationRow]
    ended: Outcome | None = None
    paused: bool = False
    elapsed: float = 0.0


NOTHING: Final = Recalled({})


class EvaluationJournal:
    """The journal of an evaluation, from the side of its actor.

    Args:
        actor: the evaluation.
        run: the run's id.
    """

    def __init__(self, actor: GenServer, run: str) -> None:
        self._actor = actor
        self._name = f"run-journal/{run}"

    async def recall(self, dataset: Sequence[Example]) -> Recalled:
        """What was done, and how the evaluation ended if it has.

        Raises:
            CallError: there is no journal.
            StoreError: it cannot be read.
        """
        status: JournalStatus = await self._actor.call(self._name, JournalInfo(), timeout=None)
        kept: list[Entry] = await self._actor.call(self._name, RecallAll("row"), timeout=None)
        return Recalled(
            rows_of(kept, dataset),
            OUTCOMES[status.state] if status.state in FINAL else None,
            status.state == "paused",
            status.progress.get("elapsed", 0.0),
        )

    async def keep(self, row: EvaluationRow) -> None:
        """Keep a row.

        Raises:
            RunConflict: another process has taken the run over.
            StoreError: it cannot be written.
        """
        entry = Entry("row", f"{TRIAL}\x1f{row.index}", encode_row(row))
        await self._actor.call(self._name, Record((entry,)), timeout=None)

    async def write(self, progress: Mapping[str, Any], state: RunState | None = None) -> None:
        """Write down how far it is, and its state if that is new. Raises as :meth:`keep`."""
        await self._actor.call(self._name, Record(progress=progress, state=state), timeout=None)

    def tell(self, progress: Mapping[str, Any]) -> None:
        """Write down how far it is; the answer comes as a :class:`~dspex.runtime.messages.Reply`."""
        self._actor.request(self._name, Record(progress=progress), timeout=None, tag=TRIAL)


def progress_of(now: EvaluationProgress, elapsed: float, **more: Any) -> dict[str, Any]:
    """How far an evaluation is, as the file of runs has it of any run."""
    known = {"step": now.done, "steps": now.total, "errors": now.failures, "best_score": now.score}
    return {**known, "elapsed": elapsed, **more}


def rows_of(entries: Sequence[Entry], dataset: Sequence[Example]) -> dict[int, EvaluationRow]:
    """The rows that a journal holds, by index."""
    return {row.index: row for row in (decode_row(entry.value, dataset) for entry in entries)}


def encode_row(row: EvaluationRow) -> str:
    """A row as JSON text, without its example; what is no JSON in a prediction becomes text."""
    fields = {name: getattr(row, name) for name in ("index", "score", "error", "message", "feedback", "duration")}
    prediction = row.prediction
    if prediction is not None:
        info = prediction.info
        fields["predicted"] = {name: as_json(value) for name, value in prediction.items()}
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


def stored_report(run: StoredRun, entries: Sequence[Entry]) -> EvaluationReport:
    """The report of an evaluation as far as its journal goes; of one that goes on too.

    Args:
        run: the run.
        entries: its rows.
    """
    plan, now = run.plan, run.progress
    dataset = [example_from_dict(each) for each in plan["dataset"]]
    rows = rows_of(entries, dataset)
    ended = OUTCOMES.get(run.state, "stopped") if run.state in OVER else None
    return EvaluationReport(
        run_id=run.id,
        module=plan["module"],
        metric=plan["metric_name"],
        rows=tuple(rows[index] for index in sorted(rows)),
        total=len(dataset),
        outcome=ended or cast("Literal['running', 'paused', 'orphaned']", run.state),
        reason=now.get("reason"),
        workers=plan["workers"],
        duration=now.get("elapsed", 0.0),
        correlation_id=now.get("correlation_id"),
        inputs=tuple(plan["inputs"]),
    )
