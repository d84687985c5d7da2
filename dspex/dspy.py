"""DSPy on supervised actors: its models ask our providers, its modules are actors, its optimizers resume.

::

    import dspex
    from dspex.dspy import actor_lm, hosted_spec

    with dspex.start("shop.toml") as app:
        app.start_child(hosted_spec("qa", "shop.programs:build", provider="openai"))
        print(app.module("qa")(question="Who wrote Hamlet?").answer)

DSPy itself is imported when something that needs it is used: without the extra ``dspy`` that is a ``ConfigError``,
and the import of this module is none.
"""

from __future__ import annotations

from .actors.dspy.engine import ActorEngine, AsyncActorEngine, actor_lm, check_lm
from .actors.dspy.line import Line
from .supervisors.app.runs.dspy_runs import DspyOptions, aoptimize_dspy, dspy_run, optimize_dspy
from .supervisors.app.tree.hosted import hosted_spec

__all__ = (
    "ActorEngine",
    "AsyncActorEngine",
    "DspyOptions",
    "Line",
    "actor_lm",
    "aoptimize_dspy",
    "check_lm",
    "dspy_run",
    "hosted_spec",
    "optimize_dspy",
)
