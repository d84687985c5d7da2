"""``dspex runs``: the runs of an application, whether or not it runs now."""

from __future__ import annotations

import json
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, Final

import typer
from rich.console import Console

from ....actors.configuration.load import load_settings
from ....actors.evaluation.journal import stored_report
from ....actors.evaluation.plan import KIND as EVALUATION
from ....actors.runs.messages import Entry, RunStatus
from ....actors.runs.store import RunStore, StoredRun
from ....runtime.errors import CallTimeout, StoreUnavailable
from ..blocking import App
from ..start import start
from ..tree.standard import Plan
from .tables import facts_of, plot, run_json, run_table, trial_table, trials_of

runs_cli: Final = typer.Typer(help="The runs of an application: what they found, what they cost.")
out: Final = Console()
_LOOK_EVERY: Final = 1.0

Config = Annotated[Path | None, typer.Option("--config", "-c", help="TOML file with settings.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]
RunId = Annotated[str, typer.Argument(help="Id of a run.")]


@runs_cli.callback(invoke_without_command=True)
def runs(context: typer.Context, config: Config = None, as_json: AsJson = False) -> None:
    """List the runs: running, paused, orphaned (their process is dead) and over."""
    if context.invoked_subcommand is not None:
        return
    with _store(config) as store:
        found = store.runs()
    if as_json:
        _json([run_json(run) for run in found])
    else:
        out.print(run_table(found, out.width) if found else "no runs")


@runs_cli.command()
def show(run: RunId, config: Config = None, as_json: AsJson = False) -> None:
    """Print what is known of a run: an optimization's trials, their scores drawn; an evaluation's rows."""
    with _store(config) as store:
        found = store.get(run)
        evaluated = found.kind == EVALUATION
        entries = store.entries(run, "row" if evaluated else "trial")
    if evaluated:
        _show_evaluation(found, entries, as_json=as_json)
    else:
        _show_trials(found, trials_of(entries), as_json=as_json)


def _show_evaluation(run: StoredRun, rows: list[Entry], *, as_json: bool) -> None:
    report = stored_report(run, rows)
    # The file hears of progress now and then, of each row at once.
    exact = {"step": len(report.rows), "errors": report.failures, "best_score": report.score if report.rows else None}
    run = replace(run, progress={**run.progress, **exact})
    if as_json:
        _json({**run_json(run), "report": report.to_dict()})
        return
    out.print(facts_of(run))
    if report.rows:
        out.print(report.table())


def _show_trials(run: StoredRun, trials: list[dict[str, Any]], *, as_json: bool) -> None:
    if as_json:
        _json({**run_json(run), "trial_list": trials})
        return
    out.print(facts_of(run))
    if trials:
        out.print(trial_table(trials))
        measured = [trial["score"] for trial in trials if not trial["traced"]]
        out.print(plot(measured), markup=False, highlight=False)


@runs_cli.command()
def resume(run: RunId, config: Config = None, as_json: AsJson = False) -> None:
    """Go on with a run, until it is over, in an application started for it; Ctrl-C leaves it to be resumed again.

    One that a living process has paused goes on there.
    """
    with _store(config) as store:
        found = store.get(run)  # an unknown id needs no application
        if found.state == "paused" and found.owner is not None:
            store.wish(run, "resume")
            out.print(f"{run}: {found.owner} was asked to go on", highlight=False)
            return
    with start(config, config={"app": {"console": False}}) as app:
        if found.kind == EVALUATION:
            report = app.runs.evaluate(run)
            if as_json:
                _json(report.to_dict())
            else:
                out.print(report.table())
        else:
            _finish(app, run, as_json=as_json)


def _finish(app: App, run: str, *, as_json: bool) -> None:
    going = app.runs.resume(run)
    while True:
        try:
            result = going.result(_LOOK_EVERY)
        except CallTimeout:
            if not as_json:
                out.print(_line(going.status()), highlight=False)
        else:
            break
    if as_json:
        _json({"run": run, "outcome": result.outcome, "score": result.score, "state": result.state.to_dict()})
        return
    out.print(_line(result.status), highlight=False)


@runs_cli.command()
def cancel(run: RunId, config: Config = None) -> None:
    """End a run; one at work in another process hears of it within seconds."""
    with _store(config) as store:
        found = store.wish(run, "cancel")
    waits = found.wish is not None
    out.print(f"{run}: {f'{found.owner} was asked to cancel it' if waits else found.state}", highlight=False)


def _store(config: Path | None) -> closing[RunStore]:
    store = Plan(load_settings(config)).runs
    if store.path is None or not store.path.exists():
        where = "memory only" if store.path is None else str(store.path)
        raise StoreUnavailable(f"expected a file of runs, got none, at {where}: no run was ever begun", path=where)
    return closing(store)


def _line(status: RunStatus) -> str:
    best = "none yet" if status.best_score is None else f"{status.best_score:.1%}"
    steps = "" if status.steps is None else f" of {status.steps}"
    return (
        f"{status.run}: {status.state}, {status.step}{steps} steps, best {best}, "
        f"{status.paid.calls} model calls, {status.recalled} found in the journal"
    )


def _json(value: Any) -> None:
    typer.echo(json.dumps(value, indent=2, ensure_ascii=False, default=str))
