"""DSPy's own optimizers, resumable: their model calls are kept in the journal of a run.

::

    with dspy_run(app, "qa-mipro-1", provider="local") as lm, dspy.context(lm=lm):
        best = dspy.MIPROv2(metric=metric, auto="light").compile(program, trainset=trainset)

Killed and started again under its id, the same program on the same data finds the answers that were paid for.
"""

from __future__ import annotations

from collections.abc import Generator, Mapping
from contextlib import contextmanager
from functools import partial
from typing import Any, Final

from ...actors.dspy.engine import lm_on
from ...actors.dspy.journaled import JournaledProvider, Ordinals
from ...actors.dspy.line import Journaled, Line
from ...actors.run_journal import RunJournal
from ...actors.run_messages import FINAL, JournalInfo, Record, RunState
from ...actors.run_scope import RunScope
from ...actors.run_store import RunStore
from ...runtime.child_spec import ChildSpec
from ...runtime.errors import StartError
from ..keeper import Declare, Undeclare
from ..supervisor import Supervisor
from . import names
from .blocking import App
from .failure import cause_of, unfold

KIND: Final = "dspy"
_TRIAL: Final = "dspy"


@contextmanager
def dspy_run(
    app: App, run_id: str, /, *, provider: str, model: str | None = None, **options: Any
) -> Generator[Any, None, None]:
    """A ``dspy.LM`` for one run of a DSPy optimizer, in plain code; the run is over with the ``with`` block.

    The run is told of in ``app.runs`` and by ``dspex runs``; ``run/<id>`` is an account that budgets may limit.
    A block that fails, or whose process dies, leaves a run that goes on when it is started again. One that was
    completed is answered from its journal only: a call that is not in there is refused (RunConflict).

    Args:
        app: the application.
        run_id: the run's id; one that exists goes on.
        provider: id of the provider or route; give the same when it goes on.
        model: which model to ask; None takes the provider's default.
        **options: of ``dspy.LM``: temperature, max_tokens, ...

    Yields:
        The LM. Program, data, seed and number of threads must be the same when the run goes on: what was not asked
        before is asked then, and paid for.

    Raises:
        ConfigError: DSPy is not installed.
        RunConflict: another process works on the run, or it is of another kind.
        StoreError: the file of runs cannot be used.
    """
    life = app._life  # pyright: ignore[reportPrivateUsage] - the application's own half
    scope = RunScope(run_id, _TRIAL, "")
    line = Line(life.engine, provider, model=model, journaled=Journaled(f"dspy-run/{run_id}", _placed(scope)))
    lm = lm_on(line, **options)
    try:
        app.call(names.RUN_KEEPER, Declare(_spec(run_id, provider, model, life.plan.runs)), timeout=None)
    except StartError as error:
        cause = cause_of(unfold(error.reason)[1])
        raise (cause if isinstance(cause, Exception) else error) from cause
    outcome: RunState = "failed"
    try:
        yield lm
        outcome = "completed"
    finally:
        journal = f"run-journal/{run_id}"
        if app.call(journal, JournalInfo(), timeout=None).state not in FINAL:
            app.call(journal, Record(state=outcome), timeout=None)
        app.call(names.RUN_KEEPER, Undeclare(f"supervisor/run/{run_id}"), timeout=None)


def _placed(scope: RunScope) -> Any:
    return partial(Ordinals().place, scope=scope)


def _spec(id: str, provider: str, model: str | None, store: RunStore) -> ChildSpec:
    """The supervisor of the run; its journal stands left of who asks, so that a crash does not touch that."""
    plan: Mapping[str, Any] = {"provider": provider, "model": model}
    return Supervisor.child_spec(
        f"run/{id}",
        [
            ChildSpec("journal", RunJournal, (id, KIND, plan, store), name=f"run-journal/{id}"),
            ChildSpec("provider", JournaledProvider, (provider,), name=f"dspy-run/{id}"),
        ],
        strategy="rest_for_one",
        restart="transient",
        name=f"supervisor/run/{id}",
    )
