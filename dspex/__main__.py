"""The command line: ``dspex`` or ``python -m dspex``.

``run`` starts an application from a configuration file and keeps it running. ``tree``, ``ps``, ``show``,
``watch``, ``explain`` and ``top`` look at one that runs in another process of the same user; they only read.
``events`` reads the event file of an application that runs or ran, ``runs`` its optimizations; ``check-config`` says
what is wrong with a configuration file.
"""

from __future__ import annotations

import gc
import itertools
import json
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from queue import SimpleQueue
from types import FrameType
from typing import Annotated, Any, Final

import typer
from rich.console import Console
from rich.live import Live
from rich.table import Column, Table
from rich.text import Text

from .actors.configuration.load import check_config as problems_of
from .actors.configuration.load import load_settings
from .actors.events.kinds import Event, event_types
from .actors.events.query import EventQuery
from .actors.events.retention import Retention
from .actors.journals.sqlite import SqliteJournal
from .actors.journals.sqlite_file import default_path
from .runtime.errors import ApplicationDown, CallError, Error, StoreUnavailable, did_you_mean
from .runtime.names import NameEntry
from .runtime.reasons import describe
from .supervisors.app.blocking import App
from .supervisors.app.console.client import ask, find, with_rates
from .supervisors.app.console.explain import Explanation
from .supervisors.app.console.picture import draw
from .supervisors.app.console.sockets import Address
from .supervisors.app.console.view import Sort, chosen, details, live_view, node_from, row_line
from .supervisors.app.names import GATEWAY
from .supervisors.app.runs.command_line import runs_cli
from .supervisors.app.start import start
from .supervisors.gateway.messages import GatewayStatus

cli = typer.Typer(no_args_is_help=True, add_completion=False, help="Supervises language-model programs.")
cli.add_typer(runs_cli, name="runs")
_COLUMNS: Final = ("state", "incarnation", "restarts", "address", "reason")
out: Final = Console()
err: Final = Console(stderr=True)

ConfigFile = Annotated[
    Path | None, typer.Option("--config", "-c", help="TOML file with settings; by default $DSPEX_CONFIG, or none.")
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Which = Annotated[
    str | None, typer.Option("--app", "-a", help="Name or process of a running application; by default the only one.")
]
Name = Annotated[str, typer.Argument(help="Name of an actor, such as module/qa.")]
Count = Annotated[int | None, typer.Option("--count", "-n", min=1, help="Stop after so many looks; else at Ctrl-C.")]
Interval = Annotated[float, typer.Option("--interval", "-i", min=0.05, help="Seconds between two looks.")]


def main() -> None:
    """Run the command line; a dspex error is one line on standard error and exit status 1."""
    # As `python -m dspex` has it: programs, tools and metrics are named by import paths, mostly of the project at hand.
    if (here := str(Path.cwd())) not in sys.path:
        sys.path.insert(0, here)
    try:
        cli()
    except Error as error:
        _say(f"{error.code}: {error}", style="red")
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
        for problem in problems_of(config):
            _say(f"{problem.severity}: {problem}")
        app.on_exit(lambda reason: told.put(None))
        _print(app.tree())
        _tell_gateway(app)
        # What is loaded by now lives as long as the process: the collector need not walk through all of it again and
        # again, for up to 100 ms each time. A command may decide that; a library may not, for its host.
        gc.collect()
        gc.freeze()
        told.get()
        if app.health().status == "stopped":
            _say(f"the application ended: {describe(app.wait())}", style="red")
            raise typer.Exit(1)
        app.stop(drain=drain)


def _tell_gateway(app: App) -> None:
    """Print where the gateway listens, if there is one; port 0 is known only now."""
    if not app.setting("gateway", "enabled"):
        return
    try:
        _print(f"gateway: {app.call(GATEWAY, GatewayStatus()).url}")
    except CallError as error:  # it tries again; the application runs on meanwhile
        _say(f"warning: the gateway does not listen: {error}")


@cli.command()
def tree(config: ConfigFile = None, which: Which = None, as_json: AsJson = False) -> None:
    """Print the supervision tree of a running application; with --config (or if none runs) of one started for it."""
    there = _attached(config, which)
    if there is not None:
        data = ask(there, "tree")
    else:
        with _shown(config) as app:
            data = app.tree_data().to_dict()
    if as_json:
        _print_json(data)
    else:
        _print(draw(node_from(data)))


@cli.command()
def ps(config: ConfigFile = None, which: Which = None, as_json: AsJson = False) -> None:
    """List the actors of a running application; with --config (or if none runs) of one started for it."""
    there = _attached(config, which)
    if there is not None:
        rows = ask(there, "stats")["rows"]
    else:
        with _shown(config) as app:
            rows = [_row(entry) for entry in app.engine.names.entries()]
    if as_json:
        _print_json(rows)
        return
    # Names are what one comes for: in a narrow window (or a pipe, taken for 80 columns) the others make room.
    widest = max((len(row["name"]) for row in rows), default=0)
    table = Table(Column("name", no_wrap=True, min_width=widest), *_COLUMNS)
    for row in rows:
        table.add_row(*(Text(str(row[name])) for name in ("name", *_COLUMNS)))
    out.print(table)


@cli.command()
def show(name: Name, which: Which = None, as_json: AsJson = False) -> None:
    """Print what is known of one actor: its row, statistics, metadata and state, secrets left out."""
    shown = ask(_running(which), "show", name)
    if as_json:
        _print_json(shown)
    else:
        _print(details(shown))


@cli.command()
def explain(name: Name, which: Which = None, as_json: AsJson = False) -> None:
    """Say what an actor waits for, and why."""
    told = ask(_running(which), "explain", name)
    if as_json:
        _print_json(told)
    else:
        _print(str(Explanation(told["name"], told["verdict"], tuple(told["because"]))))


@cli.command()
def watch(
    name: Name, which: Which = None, count: Count = None, interval: Interval = 1.0, as_json: AsJson = False
) -> None:
    """Print a line about one actor again and again."""
    there = _running(which)
    label = ask(there, "show", name)["row"]["name"]  # it may be an address; a name that nobody had is refused

    def line(stats: Mapping[str, Any], rows: list[dict[str, Any]]) -> None:
        for row in rows:
            if row["name"] == label:
                typer.echo(json.dumps(row, ensure_ascii=False) if as_json else row_line(row))

    _looks(there, count, interval, line)


@cli.command()
def top(
    which: Which = None,
    count: Count = None,
    interval: Interval = 1.0,
    sort: Annotated[Sort, typer.Option("--sort", "-s", help="By what; numbers highest first.")] = "tree",
    wanted: Annotated[
        str | None, typer.Option("--filter", "-f", help="Only actors with this text in name, class or state.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """A live view of a running application: tree, states, mailboxes, messages a second, restarts."""
    there = _running(which)
    if as_json:

        def line(stats: Mapping[str, Any], rows: list[dict[str, Any]]) -> None:
            typer.echo(json.dumps({**stats, "rows": chosen(rows, sort, wanted)}, ensure_ascii=False))

        _looks(there, count, interval, line)
        return
    with Live(console=out, auto_refresh=False) as live:

        def drawn(stats: Mapping[str, Any], rows: list[dict[str, Any]]) -> None:
            live.update(live_view(stats, chosen(rows, sort, wanted), indented=sort == "tree"), refresh=True)

        _looks(there, count, interval, drawn)


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
    for kind in type or ():
        if kind not in event_types() and not any(event.type == kind for event in found):
            _say(f"no event of type {kind!r}{did_you_mean(kind, event_types())}")
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
            label = "" if problem.severity == "error" else f"{problem.severity}: "
            out.print(f"{label}{problem}", markup=False, highlight=False, soft_wrap=True)
        if not problems:
            out.print(f"{file}: no problems found", markup=False, highlight=False, soft_wrap=True)
    if any(problem.severity == "error" for problem in problems):
        raise typer.Exit(1)


def _attached(config: Path | None, which: str | None) -> Address | None:

    if config is not None and which is not None:
        raise typer.BadParameter("--config starts an application, --app looks at one that runs: give one of them")
    return None if config is not None else find(which)


def _running(which: str | None) -> Address:

    there = find(which)
    if there is None:
        raise ApplicationDown("no application with a console runs", reason="not running")
    return there


def _looks(
    there: Address,
    count: int | None,
    interval: float,
    show_one: Callable[[Mapping[str, Any], list[dict[str, Any]]], None],
) -> None:
    """Look ``count`` times, or until Ctrl-C, which is a good end."""
    before: Mapping[str, Any] | None = None
    pause = threading.Event()
    try:
        for _ in _numbers(count):
            if before is not None:
                pause.wait(interval)
            stats = ask(there, "stats")
            show_one(stats, with_rates(before, stats))
            before = stats
    except KeyboardInterrupt:
        return


def _numbers(count: int | None) -> Iterator[int]:

    return iter(range(count)) if count is not None else itertools.count()


def _read_events(config: Path | None, query: EventQuery) -> tuple[Event, ...]:

    settings = load_settings(config)
    if settings.events.in_memory:
        raise StoreUnavailable("expected an application that keeps its events in a file, got events.in_memory = true")
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


def _print(text: str) -> None:
    out.print(text, markup=False, highlight=False, soft_wrap=True)


def _say(text: str, style: str | None = None) -> None:
    err.print(f"dspex: {text}", style=style, markup=False, highlight=False, soft_wrap=True)


def _print_json(value: Any) -> None:
    typer.echo(json.dumps(value, indent=2, ensure_ascii=False, default=str))


if __name__ == "__main__":
    main()
