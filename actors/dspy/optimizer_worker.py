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
from .callbacks import Callback
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
        self._best = (0, -1.0)

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
        return _optimized(best, self._score_of(best))

    def _evaluated(self, program: Any, score: float, examples: int) -> None:
        """Tell of an evaluation. The best is one of those on the most examples: others were on parts of the data."""
        self._scores.add(score)
        best = None
        if (examples, score) > self._best and isinstance(program, dspy().Module):
            self._best, best = (examples, score), _optimized(program, score / 100)
        self.cast(f"run/{self._plan.run}", Evaluated(score / 100, examples, best))

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


def _optimized(program: Any, score: float | None) -> Optimized:
    program = program.deepcopy()
    program.set_lm(None)  # it is ours, and means nothing elsewhere
    return Optimized(state_of(program), json.loads(json.dumps(program.dump_state(), default=str)), score)


def _optimizer(path: str) -> Any:
    found = load(path, "optimizer")
    if inspect.isclass(found) and hasattr(found, "compile"):
        return found  # pyright: ignore[reportUnknownVariableType] - of any kind
    expected = "the class of an optimizer of DSPy's"
    raise ConfigError(f"expected {expected}, got {path!r}, at optimizer", path="optimizer", expected=expected, got=path)


class _Evaluations(Callback):
    """Tells of each evaluation."""

    def __init__(self, tell: Callable[[Any, float, int], None]) -> None:
        self._tell = tell
        self._programs: dict[str, Any] = {}

    def on_evaluate_start(self, call_id: str, instance: Any, inputs: Mapping[str, Any]) -> None:
        """A program is to be evaluated."""
        self._programs[call_id] = inputs["program"]

    def on_evaluate_end(self, call_id: str, outputs: Any, exception: BaseException | None = None) -> None:
        """It was."""
        program = self._programs.pop(call_id)
        if exception is None and outputs is not None:
            self._tell(program, float(outputs.score), len(outputs.results))


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
