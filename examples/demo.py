"""The demonstration (``make demo``): three questions at once, a killed provider, and who knew about it.

python examples/demo.py
"""

import tempfile
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from local_server import provider_settings
from rich.console import Console
from rich.panel import Panel
from rich.table import Table

import dspex

QUESTIONS = ("Who wrote Hamlet?", "What is the capital of Norway?", "What did Agner Erlang study?")
TOLD = ("prompt_tokens", "input_tokens", "output_tokens", "duration", "success", "name", "child", "reason")
console = Console(width=max(110, Console().width))


def main() -> None:
    with tempfile.TemporaryDirectory() as folder, provider_settings() as (who, settings):
        console.print(Panel(who, title="provider"))
        # Each question is to be sent, the second time too: no answers from the cache.
        config = {"events": {"path": str(Path(folder) / "demo.db")}, "ai": {"caching": {"enabled": False}}}
        with dspex.start(config=config) as app:
            app.configure_provider("main", **settings)
            qa = app.start_module("qa", "question -> answer", provider="main")
            console.print(Panel(app.tree(), title="the supervision tree", highlight=False))
            ask_all(qa)
            show_all(app)
            console.rule("kill -9, as Erlang does it: the provider actor ends at once")
            app.kill("provider/main")
            row = app.registry.wait_for("provider/main")
            console.print(f"{row.name} is {row.state} again, incarnation {row.incarnation}; nobody had to be told")
            ask_all(qa)
            console.print(Panel(app.tree(), title="the tree, after the restart", highlight=False))


def ask_all(qa: Callable[..., dspex.Prediction]) -> None:
    def ask(question: str) -> tuple[str, ...]:
        answer = qa(question=question)
        info, usage = answer.info, answer.info.usage
        tokens = f"{usage.input_tokens}/{usage.output_tokens}"
        return question, answer.answer, tokens, f"{info.duration:.3f}", f"{info.correlation_id:.8}"

    with ThreadPoolExecutor() as pool:
        show("three at once", "question, answer, tokens in/out, seconds, correlation id", pool.map(ask, QUESTIONS))


def show_all(app: dspex.App) -> None:
    rows = (*app.registry.select(kind="provider"), *app.registry.select(kind="module"))
    named = ((row.name, row.state, str(row.incarnation), str(row.metadata.get("signature", ""))) for row in rows)
    show("registry: providers and modules", "name, state, incarnation, signature", named)
    events = map(told, app.events.query(limit=10).events)
    show("event store: the last ten", "time, type, source, trace, details", events)
    samples = (each for each in app.telemetry.snapshot().samples() if each[2] != "0" and "supervisor" not in each[0])
    show("telemetry: what is not zero", "metric, labels, value", samples)


def show(title: str, columns: str, rows: Iterable[tuple[str, ...]]) -> None:
    table = Table(*columns.split(", "), title=title)
    for row in rows:
        table.add_row(*row)
    console.print(table)


def told(event: Any) -> tuple[str, ...]:
    """An event as a row: when, what, who, for which piece of work, and a few of its facts."""
    facts = {name: value for name, value in event.model_dump().items() if name in TOLD and value is not None}
    details = ", ".join(f"{k}={v:.3f}" if isinstance(v, float) else f"{k}={v}" for k, v in facts.items())
    moment = datetime.fromtimestamp(event.time, UTC).strftime("%H:%M:%S.%f")[:-3]
    return moment, event.type, event.source, f"{event.trace_id or '':.8}", details


if __name__ == "__main__":
    main()
