"""The command line: ``dspex`` or ``python -m dspex``.

``run`` starts an application from a configuration file and keeps it running; ``tree`` and ``ps`` start
it, show it and stop it; ``events`` reads the event file of an application that runs or ran;
``check-config`` says what is wrong with a configuration file.
"""

from __future__ import annotations

import json
import signal
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from queue import SimpleQueue
from types import FrameType
from typing import Annotated, Any, Final

import typer
from rich.console import Console
from rich.table import Column, Table

from .actors.event_query import EventQuery
from .actors.events import Event
from .actors.journals.sqlite import SqliteJournal
from .actors.journals.sqlite_file import default_path
from .actors.retention import Retention
from .actors.settings_load import check_config as problems_of
from .actors.settings_load import load_settings
from .runtime.errors import Error, StoreUnavailable
from .runtime.names import NameEntry
from .runtime.reasons import describe
from .supervisors.app.blocking import App
from .supervisors.app.start import start

cli = typer.Typer(no_args_is_help=True, add_completion=False, help="Supervises language-model programs.")
out: Final = Console()
err: Final = Console(stderr=True)

ConfigFile = Annotated[
    Path | None, typer.Option("--config", "-c", help="TOML file with settings; by default $DSPEX_CONFIG, or none.")
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]


def main() -> None:
    """Run the command line; a dspex error is one line on standard error and exit status 1."""
    try:
        cli()
    except Error as error:
        err.print(f"dspex: {error.code}: {error}", style="red", markup=False, highlight=False, soft_wrap=True)
        raise SystemExit(1) from None


@cli.command()
def run(
    config: ConfigFile = None,
    drain: Annotated[
        float, typer.Option(min=0.0, help="Seconds that calls in progress get when it is told to stop.")
    ] = 5.0,
) -> None:
    """Start the application and keep it running until Ctrl-C or SIGTERM."""
    # Not an Event: a signal handler may interrupt the very thread that waits, and this queue allows for that.
    told: SimpleQueue[None] = SimpleQueue()

    def tell(number: int, frame: FrameType | None) -> None:
        told.put(None)

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, tell)
    with start(config) as app:
        app.on_exit(lambda reason: told.put(None))
        out.print(app.tree(), markup=False, highlight=False, soft_wrap=True)
        told.get()
        if app.health().status == "stopped":
            err.print(
                f"dspex: the application ended: {describe(app.wait())}", style="red", markup=False, soft_wrap=True
            )
            raise typer.Exit(1)
        app.stop(drain=drain)


@cli.command()
def tree(config: ConfigFile = None, as_json: AsJson = False) -> None:
    """Start the application of a configuration, print its supervision tree, stop it. Its event file is not touched."""
    with _shown(config) as app:
        if as_json:
            _print_json(app.tree_data().to_dict())
        else:
            out.print(app.tree(), markup=False, highlight=False, soft_wrap=True)


@cli.command()
def ps(config: ConfigFile = None, as_json: AsJson = False) -> None:
    """Start the application of a configuration, list its named actors, stop it. Its event file is not touched."""
    with _shown(config) as app:
        rows = [_row(entry) for entry in app.engine.names.entries()]
    if as_json:
        _print_json(rows)
        return
    # Names are what one comes for: in a narrow window (or a pipe, taken for 80 columns) the others make room.
    widest = max(len(entry["name"]) for entry in rows)
    name = Column("name", no_wrap=True, min_width=widest)
    table = Table(name, "state", "incarnation", "restarts", "address", "reason")
    for row in rows:
        table.add_row(*(str(value) for value in row.values()))
    out.print(table)


@cli.command()
def events(
    config: ConfigFile = None,
    limit: Annotated[int, typer.Option("--limit", "-n", help="How many.")] = 20,
    type: Annotated[list[str] | None, typer.Option("--type", "-t", help="Only of this type; may be repeated.")] = None,
    trace: Annotated[str | None, typer.Option(help="Only of this trace (correlation id).")] = None,
    as_json: AsJson = False,
) -> None:
    """Print the newest events of the application's event file; the application need not run."""
    kinds = {"types": tuple(type)} if type else {}
    found = _read_events(config, EventQuery.of(trace_id=trace, limit=limit, **kinds))
    if as_json:
        for event in found:
            typer.echo(event.model_dump_json())
        return
    table = Table("time", "type", "source", "trace", "details")
    for event in found:
        table.add_row(*_cells(event))
    out.print(table)


@cli.command("check-config")
def check_config(
    file: Annotated[Path, typer.Argument(help="TOML file with settings.")], as_json: AsJson = False
) -> None:
    """Say everything that is wrong with a configuration file; exit status 1 if it cannot start."""
    problems = problems_of(file)
    if as_json:
        _print_json([asdict(problem) for problem in problems])
    else:
        for problem in problems:
            out.print(str(problem), markup=False, highlight=False, soft_wrap=True)
        if not problems:
            out.print(f"{file}: no problems found", markup=False, highlight=False, soft_wrap=True)
    if any(problem.severity == "error" for problem in problems):
        raise typer.Exit(1)


def _read_events(config: Path | None, query: EventQuery) -> tuple[Event, ...]:

    settings = load_settings(config)
    path = Path(settings.events.path or default_path(settings.app.name))
    if not path.exists():
        raise StoreUnavailable(
            f"expected an event file at {path}, got none: no application has written there", path=str(path)
        )
    journal = SqliteJournal(path, retention=Retention())
    try:
        return journal.query(query).events
    finally:
        journal.close()


def _shown(config: Path | None) -> App:

    # Only to be looked at: what happens meanwhile is no part of the application's history.
    return start(config, config={"events": {"in_memory": True, "durable": False}})


def _row(entry: NameEntry) -> dict[str, Any]:

    return {
        "name": entry.name,
        "state": entry.state,
        "incarnation": entry.incarnation,
        "restarts": entry.restarts,
        "address": repr(entry.address),
        "reason": "" if entry.reason is None else describe(entry.reason),
    }


def _cells(event: Event) -> tuple[str, str, str, str, str]:
    """An event as the cells of one table row."""
    common = ("id", "type", "version", "time", "trace_id", "span_id", "parent_id", "user", "source")
    details = {
        name: value for name, value in event.model_dump(mode="json").items() if name not in common and value is not None
    }
    moment = datetime.fromtimestamp(event.time, UTC).strftime("%H:%M:%S.%f")[:-3]
    shown = json.dumps(details, ensure_ascii=False)
    return (
        moment,
        event.type,
        event.source or "",
        (event.trace_id or "")[:8],
        shown if len(shown) <= 160 else shown[:157] + "...",
    )


def _print_json(value: Any) -> None:
    typer.echo(json.dumps(value, indent=2, ensure_ascii=False, default=str))


if __name__ == "__main__":
    main()
