"""Who is told of the progress of an evaluation: a function, a bar on the terminal, or nobody."""

from __future__ import annotations

import sys
from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager, nullcontext
from typing import Any, Literal, TypeAlias, cast

from ....actors.configuration.settings import EvaluationSettings
from ....actors.evaluation.news import PROGRESS
from ....actors.evaluation.plan import EvaluationPlan
from ....actors.evaluation.report import EvaluationReport
from ....actors.evaluation.work import EvaluationProgress
from ....runtime.engine import Engine
from ....runtime.errors import UsageError

Watching: TypeAlias = Callable[[EvaluationProgress], object]
Progress: TypeAlias = bool | Watching | None
Teller: TypeAlias = Watching | Literal["bar"] | None


def teller(progress: object, settings: EvaluationSettings) -> Teller:
    """Who is to be told.

    Args:
        progress: a function; True, a bar; False, nobody; None, a bar if stderr is a terminal.
        settings: whether a bar is wanted at all, if nobody says.

    Raises:
        UsageError: it is something else.
    """
    if callable(progress):
        return cast("Watching", progress)
    if progress is None:
        return "bar" if settings.progress_reporting and sys.stderr.isatty() else None
    if isinstance(progress, bool):
        return "bar" if progress else None
    raise UsageError(f"expected True, False, None or a function, got {type(progress).__name__}, at progress")


@contextmanager
def told(engine: Engine, plan: EvaluationPlan, who: Teller) -> Generator[None, None, None]:
    """Have somebody told of the progress of an evaluation; one that raises is told no more."""
    if who is None:
        yield
        return
    with _bar(plan) if who == "bar" else nullcontext(who) as tell:

        def on_progress(event: object, measured: object, facts: Mapping[str, Any], config: object) -> None:
            if facts["run_id"] == plan.run_id:
                tell(facts["progress"])

        handler = ("dspex-evaluation-progress", plan.run_id, engine.ids.span_id())
        engine.telemetry.attach(handler, PROGRESS, on_progress)
        try:
            yield
        finally:
            engine.telemetry.detach(handler)


def leave_behind(report: EvaluationReport, who: Teller) -> None:
    """Below a bar that is gone, say why the score says nothing, if it does not."""
    if who == "bar" and report.warning is not None:
        from rich.console import Console  # noqa: PLC0415 - only where something is shown

        line = f"evaluate {report.module}: {report.warning}"
        Console(stderr=True).print(line, style="yellow", markup=False, highlight=False)


@contextmanager
def _bar(plan: EvaluationPlan) -> Generator[Watching, None, None]:
    """A progress bar on stderr; it goes away at the end. What is no terminal gets its last state as a line."""
    from rich import progress as bars  # noqa: PLC0415 - only where something is shown
    from rich.console import Console  # noqa: PLC0415 - likewise

    columns = (
        bars.TextColumn("{task.description}"),
        bars.BarColumn(),
        bars.MofNCompleteColumn(),
        bars.TextColumn("score {task.fields[score]}, {task.fields[failures]} failed"),
        bars.TimeRemainingColumn(),
    )
    console = Console(stderr=True)
    with bars.Progress(*columns, console=console, transient=console.is_terminal) as shown:
        task = shown.add_task(f"evaluate {plan.module}", total=len(plan.dataset), score="-", failures=0)

        def tell(now: EvaluationProgress) -> None:
            score = "-" if now.score is None else f"{now.score:.1%}"
            shown.update(task, completed=now.done, score=score, failures=now.failures)

        yield tell
