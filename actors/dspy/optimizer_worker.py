"""The actor that runs a DSPy optimizer; in a process of its own, so that a kill is one and it computes beside others.

Its model calls go back to the run, ``dspy-run/<id>``, which keeps the answers.
"""

from __future__ import annotations

import inspect
import json
import random
from collections.abc import Callable, Mapping
from functools import partial
from importlib.util import find_spec
from typing import Any, Final, cast

from ...runtime.errors import ConfigError, Error
from ...runtime.gen_server import GenServer, NoReply, call
from ..examples import Example
from ..foreign_code import load
from ..runs.scope import RunScope
from .engine import lm_on
from .journaled import Ordinals
from .library import dspy
from .line import Journaled, Line
from .optimizer_messages import Evaluated, NotOptimized, Optimize, Optimized
from .optimizer_plan import OptimizerPlan
from .program import made, state_of, unfolded

TRIAL: Final = "dspy"
_MODEL: Final = "provider"
"""An option of an optimizer that is a mapping with this key is a model."""


class OptimizerWorker(GenServer):
    """Runs one optimizer.

    Args:
        plan: what to do, as JSON.
    """

    def init(self, plan: Mapping[str, Any]) -> None:
        """Nothing is imported yet."""
        self._plan = OptimizerPlan.from_dict(plan)
        self._ordinals = Ordinals()
        self._scores: set[float] = set()

    @call
    def optimize(self, msg: Optimize) -> NoReply:
        """Run it in a task, on a thread."""
        return self.serve(self._work())

    async def _work(self) -> Optimized | NotOptimized:
        try:
            return await self.run_blocking(self._optimize)
        except Error as error:
            return NotOptimized(error.code, error.message)

    def _optimize(self) -> Optimized:
        plan, library = self._plan, dspy()
        _seed(plan.seed)
        student, optimizer = made(plan.factory), _optimizer(plan.optimizer)
        arguments, compiling = self._arguments(optimizer)
        callbacks = [_Evaluations(self._evaluated)]
        try:
            with library.context(lm=self._lm(plan.provider, plan.model, plan.lm), callbacks=callbacks):
                best: Any = optimizer(**arguments).compile(student, **compiling)
        except Exception as error:  # fault boundary: it is DSPy's code, and the user's
            raise unfolded(error, plan.method) from error
        best.set_lm(None)  # it is ours, and means nothing elsewhere
        return Optimized(state_of(best), json.loads(json.dumps(best.dump_state(), default=str)), self._score_of(best))

    def _evaluated(self, score: float, examples: int) -> None:
        self._scores.add(score)
        self.cast(f"run/{self._plan.run}", Evaluated(score / 100, examples))

    def _score_of(self, best: Any) -> float | None:
        """What the optimizer says of its best program. What ``Evaluate`` said counts to 100; other means to 1."""
        found = getattr(best, "score", None)
        candidates = getattr(best, "candidate_programs", None)
        if found is None and candidates:
            found = candidates[0].get("score")
        if not isinstance(found, int | float):
            return None
        return float(found) / 100 if found in self._scores or found > 1 else float(found)

    def _arguments(self, optimizer: type[Any]) -> tuple[dict[str, Any], dict[str, Any]]:
        """What the optimizer is made with, and what its ``compile`` gets."""
        plan = self._plan
        makes, compiles = (_names(each) for each in (optimizer.__init__, optimizer.compile))
        given: dict[str, Any] = {name: self._value(value) for name, value in plan.options.items()}
        for name in given:
            if name not in makes | compiles and "kwargs" not in makes:
                known = ", ".join(sorted((makes | compiles) - {"self", "student", "trainset", "valset", "metric"}))
                raise ConfigError(f"expected the options {known}, got {name!r}, at options", path=name)
        if plan.metric is not None:
            given["metric"] = load(plan.metric, "metric")
        if "seed" in makes | compiles:
            given.setdefault("seed", plan.seed)
        given |= {"trainset": [_example(each) for each in plan.train]}
        if plan.validation is not None:
            given["valset"] = [_example(each) for each in plan.validation]
        compiling = {name: value for name, value in given.items() if name in compiles}
        return {name: value for name, value in given.items() if name not in compiling or name in makes}, compiling

    def _value(self, value: Any) -> Any:
        if not isinstance(value, Mapping) or _MODEL not in value:
            return value  # pyright: ignore[reportUnknownVariableType] - JSON of any kind
        options = dict(cast("Mapping[str, Any]", value))
        return self._lm(options.pop(_MODEL), options.pop("model", None), options)

    def _lm(self, provider: str, model: str | None, options: Mapping[str, Any]) -> Any:
        run = self._plan.run
        own = None if provider == self._plan.provider else provider
        place = partial(self._ordinals.place, scope=RunScope(run, TRIAL, ""), provider=own)
        line = Line(self.system, provider, model=model, journaled=Journaled(f"dspy-run/{run}", place))
        return lm_on(line, **options)


def _optimizer(path: str) -> Any:
    found = load(path, "optimizer")
    if inspect.isclass(found) and hasattr(found, "compile"):
        return found  # pyright: ignore[reportUnknownVariableType] - of any kind
    expected = "the class of an optimizer of DSPy's"
    raise ConfigError(f"expected {expected}, got {path!r}, at optimizer", path="optimizer", expected=expected, got=path)


class _Evaluations:
    """A callback of DSPy's: tells of each evaluation."""

    def __init__(self, tell: Callable[[float, int], None]) -> None:
        self._tell = tell

    def on_evaluate_end(self, call_id: str, outputs: Any, exception: BaseException | None = None) -> None:
        """A program was evaluated."""
        if exception is None and outputs is not None:
            self._tell(float(outputs.score), len(outputs.results))

    def __getattr__(self, name: str) -> Any:
        """All other callbacks: of no interest."""
        if not name.startswith("on_"):
            raise AttributeError(name)
        return _nothing


def _nothing(**_: object) -> None:
    """What is heard of all other callbacks."""


def _seed(seed: int) -> None:
    # Optimizers have seeds of their own; what draws beside them must not differ from one process to the next.
    random.seed(seed)
    if find_spec("numpy") is not None:
        from numpy.random import seed as numpy_seed  # noqa: PLC0415 - only where it is

        numpy_seed(seed % 2**32)


def _names(function: Any) -> set[str]:
    parameters = inspect.signature(function).parameters.values()
    return {"kwargs" if each.kind is each.VAR_KEYWORD else each.name for each in parameters}


def _example(example: Example) -> Any:
    made = dspy().Example(**example.to_dict())
    return made.with_inputs(*sorted(example.inputs())) if example.has_inputs else made
