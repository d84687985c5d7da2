"""The demonstration (``make demo``): three questions at once, a killed provider, and who knew about it.

python examples/demo.py
"""

import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from local_server import provider_settings
from rich.console import Console
from rich.panel import Panel
from rich.table import Table

import dspex
from dspex.__main__ import event_cells

QUESTIONS = ("Who wrote Hamlet?", "What is the capital of Norway?", "What did Agner Erlang study?")
console = Console(width=max(110, Console().width))


def main() -> None:
    with tempfile.TemporaryDirectory() as folder, provider_settings() as (who, settings):
        console.print(Panel(who, title="provider"))
        config = {"events": {"path": str(Path(folder) / "demo.db")}}
        with dspex.start(config=config) as app:
            app.configure_provider("main", **settings)
            qa = app.start_module("qa", "question -> answer", provider="main")
            ask_all(qa)
            show(app)
            console.rule("kill -9, as Erlang does it: the provider actor ends at once")
            before = app.registry.lookup("provider/main")
            app.kill("provider/main")
            row = app.registry.wait_for("provider/main")
            assert before is not None
            console.print(
                f"provider/main was incarnation {before.incarnation}, is incarnation {row.incarnation} now "
                f"(restarts: {row.restarts}); nobody had to be told"
            )
            ask_all(qa)
            console.print(Panel(app.tree(), title="the tree, after the restart", highlight=False))


def ask_all(qa: "dspex.Module") -> None:
    """Ask all questions at the same time."""
    with ThreadPoolExecutor() as pool:
        answers = list(pool.map(lambda question: qa(question=question), QUESTIONS))
    table = Table("question", "answer", "tokens in/out", "seconds", "correlation id", title="three at once")
    for question, answer in zip(QUESTIONS, answers, strict=True):
        info = answer.info
        tokens = f"{info.usage.input_tokens}/{info.usage.output_tokens}"
        table.add_row(question, str(answer.answer), tokens, f"{info.duration:.3f}", info.correlation_id)
    console.print(table)


def show(app: dspex.App) -> None:
    """What the standard actors know."""
    console.print(Panel(app.tree(), title="supervision tree", highlight=False))
    table = Table("name", "state", "incarnation", "metadata", title="registry")
    for row in app.registry.select():
        table.add_row(row.name, row.state, str(row.incarnation), ", ".join(f"{k}={v}" for k, v in row.metadata.items()))
    console.print(table)
    table = Table("time", "type", "source", "trace", "details", title="last events")
    for event in app.events.query(limit=10).events:
        table.add_row(*event_cells(event))
    console.print(table)
    table = Table("metric", "labels", "value", title="telemetry")
    for sample in app.telemetry.snapshot().samples():
        table.add_row(*sample)
    console.print(table)


if __name__ == "__main__":
    sys.exit(main())
