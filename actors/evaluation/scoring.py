"""Metrics: how good a prediction is. A function, the name of an actor, or one of those shipped in ``scorers/``.

A metric is given an :class:`~.examples.Example` and a :class:`~.modules.prediction.Prediction`, and says 0 to 1:

- a function of the two, plain or async, that returns a number, a truth value, ``(score, feedback)`` or a
  :class:`MetricResult`;
- the same by import path, ``"package.module:function"``, so that another process finds it again;
- the word for a shipped one: ``exact_match``, ``contains``, ``f1``;
- the name of an actor, ``"metric/mine"``, that answers :class:`Score` with what a function may return;
- an object with ``async def judge(example, prediction, host)``, which may ask actors through ``host``:
  :class:`~.scorers.llm_judge.LMJudge` is one.

A plain function runs where the evaluation does, between two messages of other actors: it must be quick. One that
waits or computes long is ``async``, or runs on a daemon thread (``blocking=True``).
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from functools import partial
from importlib import import_module
from typing import Any, Final, Protocol, SupportsFloat, TypeAlias, TypeVar, cast, runtime_checkable

from ...runtime.errors import CallError, ConfigError, LMError, ParseError, RunError, did_you_mean
from ..examples import Example
from ..modules.prediction import Prediction

T = TypeVar("T")

SHIPPED: Final[Mapping[str, str]] = {
    "exact_match": "dspex.actors.scorers.texts:exact_match",
    "contains": "dspex.actors.scorers.texts:contains",
    "f1": "dspex.actors.scorers.texts:f1",
}
"""Words for the metrics that come with dspex, and where they are."""
FAILED: Final = "metric_failed"
"""Code of a prediction that could not be scored."""
BROKEN: Final = "metric_broken"
"""The same where the metric made a mistake that it makes whatever was predicted, as far as one can tell."""
_MISTAKES: Final = (AttributeError, ImportError, NameError, TypeError, RunError)
ACTOR_TIMEOUT: Final = 60.0
"""Seconds that a metric which is an actor may take for one prediction."""


@dataclass(frozen=True, slots=True)
class MetricResult:
    """What a metric says.

    Args:
        score: from 0 (useless) to 1 (perfect).
        feedback: why, in words; reflective optimizers read it.
    """

    score: float
    feedback: str = ""


@dataclass(frozen=True, slots=True)
class Score:
    """Asks an actor that is a metric; it answers what a metric function may return."""

    example: Example
    prediction: Prediction


class Host(Protocol):
    """What a metric may use; every GenServer has it."""

    def call(self, target: str, message: Any, *, timeout: float | None = ...) -> Awaitable[Any]:
        """Ask an actor."""
        ...

    async def run_blocking(self, function: Callable[..., T], *args: Any) -> T:
        """Run what blocks on a daemon thread."""
        ...


@runtime_checkable
class Judge(Protocol):
    """A metric that asks others."""

    async def judge(self, example: Example, prediction: Prediction, host: Host) -> object:
        """What a metric function may return."""
        ...


Metric: TypeAlias = str | Judge | Callable[[Example, Prediction], Any]


@dataclass(frozen=True, slots=True)
class ActorMetric:
    """A metric that is an actor.

    Args:
        name: its registered name.
        timeout: seconds for one prediction.
    """

    name: str
    timeout: float = ACTOR_TIMEOUT

    async def judge(self, example: Example, prediction: Prediction, host: Host) -> object:
        """Ask it."""
        return await host.call(self.name, Score(example, prediction), timeout=self.timeout)


def failure_code(error: Exception) -> str:
    """What a metric's failure is called: a model that judges may fail as that of a program; all else is its own."""
    if isinstance(error, LMError | CallError | ParseError):
        return error.code
    return BROKEN if isinstance(error, _MISTAKES) else FAILED


class Scorer:
    """A metric, found and checked, ready to score.

    Args:
        metric: see the module's docstring.
        blocking: whether a plain function is run on a daemon thread.

    Attributes:
        metric: the metric itself.
        name: what reports call it.
        reference: text by which another process finds it again (:func:`reference_of`), or None.

    Raises:
        ConfigError: there is no such metric, or it does not take an example and a prediction.
    """

    def __init__(self, metric: Metric, *, blocking: bool = False) -> None:
        self.metric = find_metric(metric)
        # Once: to ask a protocol takes long.
        self._judge = self.metric if isinstance(self.metric, Judge) else None
        self._function = cast("Callable[[Example, Prediction], Any]", self.metric)
        self.blocking = blocking
        self.reference = metric if isinstance(metric, str) else reference_of(self.metric)
        self.name = self.reference or _shown(self.metric)

    async def score(self, example: Example, prediction: Prediction, host: Host) -> MetricResult:
        """Score one prediction.

        Raises:
            RunError: the metric returned what is no score.
            Exception: whatever the metric raised.
        """
        found: object
        if self._judge is not None:
            found = await self._judge.judge(example, prediction, host)
        elif self.blocking:
            found = await host.run_blocking(self._function, example, prediction)
        else:
            found = self._function(example, prediction)
        if inspect.isawaitable(found):
            found = await found
        return read_score(found, self.name)


def find_metric(metric: Metric) -> Judge | Callable[[Example, Prediction], Any]:
    """The metric itself.

    Raises:
        ConfigError: there is no such metric, or it does not take an example and a prediction.
    """
    found: object = _by_text(metric) if isinstance(metric, str) else metric
    if isinstance(found, Judge) and not isinstance(found, type):
        return found
    if isinstance(found, type):  # it can be called, but what that gives is no score
        got = f"the class {found.__qualname__}; give {found.__name__}()"
        raise _refuse("a function of an example and a prediction", got)
    if not callable(found):
        raise _refuse("a function of an example and a prediction", type(found).__name__)
    try:
        inspect.signature(found).bind(None, None)
    except TypeError as error:
        raise _refuse("a function of an example and a prediction", f"{_shown(found)} ({error})") from None
    except ValueError:
        pass  # one written in C that does not say what it takes
    return found


def reference_of(metric: object) -> str | None:
    """The import path by which a metric is found again, or the shipped word for it; None if there is none."""
    for word, path in SHIPPED.items():
        shipped = _imported(path)
        if type(metric) is type(shipped) and metric == shipped:
            return word
    if isinstance(metric, ActorMetric):
        return metric.name if metric == ActorMetric(metric.name) else None
    module, name = getattr(metric, "__module__", None), getattr(metric, "__qualname__", None)
    if not isinstance(module, str) or not isinstance(name, str) or module == "__main__":
        return None
    path = f"{module}:{name}"
    try:
        return path if _imported(path) is metric else None
    except ConfigError:
        return None  # made inside a function


def read_score(found: object, metric: str) -> MetricResult:
    """What a metric returned, checked.

    Raises:
        RunError: it is no score from 0 to 1 (facts: metric, expected, got).
    """
    if isinstance(found, MetricResult):
        found = (found.score, found.feedback)
    score, feedback = found, ""
    if isinstance(found, tuple):
        pair = cast("tuple[object, ...]", found)
        if len(pair) != 2 or not isinstance(pair[1], str):
            raise _no_score("a score, or (score, feedback)", pair, metric)
        score, feedback = pair[0], pair[1]
    try:
        # Most are numbers, and to ask a protocol takes long.
        number = float(score) if isinstance(score, int | float | SupportsFloat) else math.nan
    except (TypeError, ValueError, OverflowError):
        number = math.nan
    if not 0 <= number <= 1:
        raise _no_score("a score from 0 to 1", score, metric)
    return MetricResult(number, feedback)


def _by_text(text: str) -> object:
    if text in SHIPPED:
        return _imported(SHIPPED[text])
    if ":" in text:
        return _imported(text)
    if "/" in text:
        return ActorMetric(text)
    expected = f"one of {', '.join(SHIPPED)}, 'package.module:function' or the name of an actor"
    raise _refuse(expected, f"{text!r}{did_you_mean(text, SHIPPED)}")


def _imported(path: str) -> object:
    module, _, name = path.partition(":")
    try:
        found: object = import_module(module)
    except (ImportError, ValueError) as error:
        raise _refuse("'package.module:function' that can be imported", f"{path!r} ({error})") from error
    for part in name.split("."):
        try:
            found = getattr(found, part)
        except AttributeError:
            raise _refuse(f"a name that {module} has", f"{path!r}{did_you_mean(part, dir(found))}") from None
    return found


def _shown(metric: object) -> str:
    """A name that is the same in each process: no address in memory."""
    if isinstance(metric, partial):
        return f"partial({_shown(metric.func)})"
    name = getattr(metric, "__qualname__", None)
    if isinstance(name, str):
        return name
    kind = type(metric)
    says = kind.__str__ is not object.__str__ or kind.__repr__ is not object.__repr__
    return str(metric) if says else kind.__qualname__


def _refuse(expected: str, got: str) -> ConfigError:
    return ConfigError(f"expected {expected}, got {got}, at metric", path="metric", expected=expected, got=got)


def _no_score(expected: str, got: object, metric: str) -> RunError:
    shown = repr(got) if isinstance(got, int | float | None) else type(got).__name__
    return RunError(
        f"expected {expected}, got {shown}, from the metric {metric}", metric=metric, expected=expected, got=shown
    )
