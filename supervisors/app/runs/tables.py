"""Runs as text: a line for each, and one with its trials and their scores drawn. Pure."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Final

from rich.table import Column, Table
from rich.text import Text

from ....actors.evaluation.plan import KIND as EVALUATION
from ....actors.runs.messages import Entry, Paid
from ....actors.runs.store import StoredRun

COLUMNS: Final = ("run", "state", "kind", "module", "progress", "score", "cost", "seen (UTC)")
_PADDED: Final = (0, 16, 16, 7, 8, 6, 8, 11)
"""Columns are in line as long as their words are not longer: so our own words fit in eighty columns."""
_HEIGHT: Final = 8
_WIDTH: Final = 60


def run_json(run: StoredRun) -> dict[str, Any]:
    """A run as JSON, without its examples."""
    shown = {name: value for name, value in run.plan.items() if name not in ("train", "validation", "dataset", "base")}
    progress = dict(run.progress)
    owner = None if run.owner is None else str(run.owner)
    facts = {"id": run.id, "kind": run.kind, "state": run.state, "owner": owner, "wish": run.wish}
    times = {"created": run.created, "updated": run.updated}
    return {**facts, **times, "paid": run.paid.to_dict(), "progress": progress, "plan": shown}


def run_table(runs: Sequence[StoredRun], width: int) -> Table | Text:
    """The runs, a line for each; where that is too wide, each run's id stands above its line. No id is ever broken.

    Args:
        runs: the runs.
        width: columns of the terminal.
    """
    rows = [run_cells(run) for run in runs]
    widths = [max(map(len, column)) for column in zip(COLUMNS, *rows, strict=True)]
    if sum(widths) + len(widths) - 1 > width:
        return _narrow(rows, widths)
    table = Table(*(Column(name, no_wrap=True) for name in COLUMNS), box=None, padding=(0, 1, 0, 0), pad_edge=False)
    for row in rows:
        table.add_row(*map(Text, row))
    return table


def _narrow(rows: Sequence[tuple[str, ...]], widths: Sequence[int]) -> Text:
    def lines(cells: Sequence[str]) -> str:
        padded = [cell.ljust(min(sizes)) for cell, *sizes in zip(cells, widths, _PADDED, strict=True)]
        return f"{padded[0]}\n  {' '.join(padded[1:])}".rstrip()

    return Text("\n").join([Text(lines(COLUMNS), "bold"), *(Text(lines(row)) for row in rows)])


def run_cells(run: StoredRun) -> tuple[str, ...]:
    """The cells of a run's row."""
    now = run.progress
    seen = datetime.fromtimestamp(run.updated, UTC).strftime("%m-%d %H:%M")
    what = run.plan.get("method", run.kind)
    module, done = str(run.plan.get("module", "")), _progress(run)
    score = "-" if now.get("best_score") is None else _score(now)
    return run.id, run.state, what, module, done, score, _short_cost(run.paid), seen


def facts_of(run: StoredRun) -> Table:
    """What is known of one run, a line each."""
    now, plan, evaluated = run.progress, run.plan, run.kind == EVALUATION
    lines = {
        "run": run.id,
        "state": run.state + (f": {now['reason']}" if now.get("reason") else ""),
        "worked on by": str(run.owner) if run.owner else "nobody",
        "module": plan.get("module"),
        "metric": plan.get("metric") or plan.get("metric_name") or "of its own program",
        **(_evaluation(run) if evaluated else _optimization(run)),
        "model calls": f"{run.paid.calls}, {run.paid.tokens} tokens, {_cost(run.paid)}",
    }
    table = Table(show_header=False, box=None)
    for name, value in lines.items():
        table.add_row(Text(name), Text(str(value)))
    return table


def _optimization(run: StoredRun) -> dict[str, str]:
    now, plan, base = run.progress, run.plan, run.progress.get("base_score")
    return {
        "method": f"{plan.get('method', run.kind)} {json.dumps(plan.get('options', {}))}",
        "examples": f"{len(plan.get('train', ()))} to learn from, {len(plan.get('validation', ()))} to choose by",
        "progress": f"{_progress(run)} steps",
        "score": _score(now) + ("" if base is None else f", {base:.1%} as it was"),
        "work": f"{now.get('trials', 0)} trials, {now.get('rows', 0)} examples, {now.get('errors', 0)} failed, "
        f"{now.get('elapsed', 0.0):.1f} s",
    }


def _evaluation(run: StoredRun) -> dict[str, str]:
    now, plan = run.progress, run.plan
    return {
        "progress": f"{_progress(run)} examples",
        "score": _score(now),
        "work": f"{now.get('errors', 0)} failed, {now.get('elapsed', 0.0):.1f} s with {plan['workers']} workers",
    }


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


def _progress(run: StoredRun) -> str:
    step, steps = run.progress.get("step", 0), run.progress.get("steps")
    if run.kind == EVALUATION:
        steps = len(run.plan["dataset"])
    return str(step) if steps is None else f"{step} of {steps}"


def _score(now: Mapping[str, Any]) -> str:
    best = now.get("best_score")
    return "none yet" if best is None else f"{best:.1%}"


def _short_cost(paid: Paid) -> str:
    """With a plus if there were calls beside whose price nobody knows."""
    return f"${paid.money:.4f}+" if paid.unpriced and paid.money else _cost(paid)


def _cost(paid: Paid) -> str:
    if paid.unpriced and not paid.money:
        return "unknown"
    return f"${paid.money:.4f}" + (f" + {paid.unpriced} unpriced" if paid.unpriced else "")
