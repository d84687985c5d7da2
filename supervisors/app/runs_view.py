"""Runs as text: a line for each, and one with its trials and their scores drawn. Pure."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Final

from rich.table import Table
from rich.text import Text

from ...actors.run_messages import Entry, Paid
from ...actors.run_store import StoredRun

COLUMNS: Final = ("run", "state", "kind", "module", "progress", "best", "cost", "last seen")
_HEIGHT: Final = 8
_WIDTH: Final = 60


def run_json(run: StoredRun) -> dict[str, Any]:
    """A run as JSON, without its examples."""
    shown = {name: value for name, value in run.plan.items() if name not in ("train", "validation", "base")}
    progress = dict(run.progress)
    owner = None if run.owner is None else str(run.owner)
    facts = {"id": run.id, "kind": run.kind, "state": run.state, "owner": owner, "wish": run.wish}
    times = {"created": run.created, "updated": run.updated}
    return {**facts, **times, "paid": run.paid.to_dict(), "progress": progress, "plan": shown}


def run_table(runs: Sequence[StoredRun]) -> Table:
    """A table of runs."""
    table = Table(*COLUMNS)
    for run in runs:
        table.add_row(*(Text(cell) for cell in run_cells(run)))
    return table


def run_cells(run: StoredRun) -> tuple[str, ...]:
    """The cells of a run's row."""
    now = run.progress
    seen = datetime.fromtimestamp(run.updated, UTC).strftime("%Y-%m-%d %H:%M:%S")
    what = run.plan.get("method", run.kind)
    return run.id, run.state, what, str(run.plan.get("module", "")), _progress(now), _score(now), _cost(run.paid), seen


def facts_of(run: StoredRun) -> Table:
    """What is known of one run, a line each."""
    now, plan = run.progress, run.plan
    base = now.get("base_score")
    lines = {
        "run": run.id,
        "state": run.state + (f": {now['reason']}" if now.get("reason") else ""),
        "worked on by": str(run.owner) if run.owner else "nobody",
        "module": plan.get("module"),
        "method": f"{plan.get('method', run.kind)} {json.dumps(plan.get('options', {}))}",
        "metric": plan.get("metric") or "of its own program",
        "examples": f"{len(plan.get('train', ()))} to learn from, {len(plan.get('validation', ()))} to choose by",
        "progress": _progress(now),
        "score": _score(now) + ("" if base is None else f", {base:.1%} as it was"),
        "work": f"{now.get('trials', 0)} trials, {now.get('rows', 0)} examples, {now.get('errors', 0)} failed, "
        f"{now.get('elapsed', 0.0):.1f} s",
        "model calls": f"{run.paid.calls}, {run.paid.tokens} tokens, {_cost(run.paid)}",
    }
    table = Table(show_header=False, box=None)
    for name, value in lines.items():
        table.add_row(Text(name), Text(str(value)))
    return table


def trials_of(entries: Sequence[Entry]) -> list[dict[str, Any]]:
    """The trials that a journal holds, in order."""
    return [json.loads(entry.value) for entry in entries]


def trial_table(trials: Sequence[Mapping[str, Any]]) -> Table:
    """A table of trials."""
    table = Table("trial", "examples", "failed", "score")
    for trial in trials:
        name, examples, failed = str(trial["name"]), str(trial["examples"]), str(trial["errors"])
        table.add_row(Text(name), examples, failed, f"{trial['score']:.1%}")
    return table


def plot(scores: Sequence[float], *, height: int = _HEIGHT, width: int = _WIDTH) -> str:
    """Scores from 0 to 1 by trial, as text; of more than fit in the width the last are drawn."""
    shown = list(scores)[-width:]
    if not shown:
        return "no trial is done yet"
    first = len(scores) - len(shown) + 1
    rows = [[" "] * len(shown) for _ in range(height)]
    best = 0.0
    for column, score in enumerate(shown):
        better = score > best
        best = max(best, score)
        rows[height - 1 - round(min(max(score, 0.0), 1.0) * (height - 1))][column] = "*" if better else "o"
    lines: list[str] = []
    for number, row in enumerate(rows):
        label = {0: "100%", height - 1: "0%"}.get(number, "")
        lines.append(f"{label:>5} |{''.join(row)}".rstrip())
    lines.append("      +" + "-" * len(shown))
    lines.append(f"       trial {first} to {len(scores)}; * is better than all before")
    return "\n".join(lines)


def _progress(now: Mapping[str, Any]) -> str:
    step, steps = now.get("step", 0), now.get("steps")
    return f"{step} steps" if steps is None else f"{step} of {steps} steps"


def _score(now: Mapping[str, Any]) -> str:
    best = now.get("best_score")
    return "none yet" if best is None else f"{best:.1%}"


def _cost(paid: Paid) -> str:
    unknown = f" + {paid.unpriced} of unknown price" if paid.unpriced else ""
    return f"${paid.money:.4f}{unknown}"
