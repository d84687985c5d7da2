"""How to optimize: what ``app.optimize`` takes, checked and made a plan; the plan of a run that was begun before."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from functools import partial
from typing import Any, Final, Required, TypeAlias, TypedDict, TypeVar, cast

from ....actors.configuration.settings import OptimizationSettings
from ....actors.evaluation.scoring import Metric, Scorer
from ....actors.examples import Example
from ....actors.optimizers.bench import Optimizer
from ....actors.runs.budget import RunBudget
from ....actors.runs.fitting import must_fit
from ....actors.runs.messages import KIND
from ....actors.runs.plan import RunPlan, checked_examples, example_from_dict, held_out, options_of
from ....actors.runs.program import models_of, program_of
from ....actors.runs.store import StoredRun
from ....actors.scorers.comparable import must_compare
from ....runtime.errors import ConfigError, RunError, UsageError, did_you_mean
from ..life import Life
from ..views import CALL_TIMEOUT
from .metric import judges_of, must_be_there

T = TypeVar("T")
Examples: TypeAlias = Iterable[Example | Mapping[str, Any]]
_ID: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")


class RunOptions(TypedDict, total=False):
    """How to optimize.

    Keys:
        metric: how good a prediction is: a function of example and prediction, its import path
            ``"package.module:function"``, the word for a shipped one, or the name of an actor. Only by import path,
            word or name can another process go on with the run by itself.
        method: ``labeled_few_shot``, ``bootstrap``, ``random_search``, ``mipro``, ``gepa``, or an optimizer.
        options: of the method, if that is given by its word.
        run_id: the run's id; one that exists goes on where it was, or answers its result. By default a new one.
        valset: examples to choose by; without them half of the training examples are held out, drawn by the seed.
        seed: of the run's randomness.
        budget: what it may spend in all: ``calls``, ``tokens``, ``money`` (US dollars), ``seconds`` of work.
        workers: examples run on at once; never more than the module works on at once.
        patience: steps without a better score after which it stops; 0 never stops it.
        max_steps: steps after which it stops in any case; 0 never stops it.
        fork: id of an older run whose model answers are used again where the very same is asked.
        prompt_provider: id of the provider whose model writes instructions; by default the module's.
        prompt_model: which model of it.
        blocking: whether a plain metric function runs on a daemon thread, because it waits or computes long.
    """

    metric: Required[Metric]
    method: str | Optimizer
    options: Mapping[str, Any]
    run_id: str | None
    valset: Examples | None
    seed: int
    budget: RunBudget | Mapping[str, Any] | None
    workers: int | None
    patience: int | None
    max_steps: int | None
    fork: str | None
    prompt_provider: str | None
    prompt_model: str | None
    blocking: bool


async def plan_of(
    life: Life, module: str, trainset: Examples, how: RunOptions, defaults: OptimizationSettings
) -> RunPlan:
    """What a run is to do, by what its caller says.

    Args:
        life: the application.
        module: id of the module.
        trainset: examples to learn from.
        how: the options.
        defaults: what holds where they say nothing.

    Raises:
        UsageError: an option is unknown.
        ConfigError: an option or an example is malformed.
        CallError: there is no such module.
    """
    from ....actors.optimizers.registry import optimizer  # noqa: PLC0415 - only where it is used

    known = RunOptions.__annotations__
    for name in how:
        if name not in known:
            raise UsageError(f"expected the options {', '.join(known)}, got {name!r}{did_you_mean(name, known)}")
    if "metric" not in how:
        raise ConfigError("expected a metric, got none, at metric", path="metric", expected="a metric", got=None)
    ask = partial(life.call, timeout=CALL_TIMEOUT)
    program = await program_of(ask, module)
    scorer = Scorer(how["metric"], blocking=how.get("blocking", False))
    method = how.get("method", "bootstrap")
    options: object = how.get("options", {})
    if not isinstance(options, Mapping):
        raise ConfigError(
            f"expected a mapping of the method's options, got {type(options).__name__}, at options", path="options"
        )
    if not isinstance(method, str) and options:
        raise UsageError("expected options with the word of a method, got them with an optimizer, which has its own")
    chosen = optimizer(method, **cast("Mapping[str, Any]", options)) if isinstance(method, str) else method
    seed = _whole("seed", how.get("seed", 0))
    valset = how.get("valset")
    train, validation = held_out(
        checked_examples(trainset, "trainset"), None if valset is None else checked_examples(valset, "valset"), seed
    )
    together = valset is None  # one set, of which half is held out
    must_fit(program.fingerprint["signature"], train + validation if together else train, "trainset")
    if not together:
        must_fit(program.fingerprint["signature"], validation, "valset")
    # What is held out is what is scored in any case; of one set it is a part like the other.
    scored = train + validation if together else validation
    must_compare(scorer.metric, program.fingerprint["signature"], program.fingerprint["kind"], scored)
    prompt_provider, prompt_model = how.get("prompt_provider") or program.provider, how.get("prompt_model")
    must_be_there(life, f"provider/{prompt_provider}", "prompt_provider")
    workers = _whole("workers", _or(how.get("workers"), defaults.default_parallel_workers), 1)
    return RunPlan(
        run=checked_id(_or(how.get("run_id"), f"{chosen.method}-{life.engine.ids.sortable()[:16]}")),
        module=module,
        program=program,
        optimizer=chosen,
        options=options_of(chosen),
        scorer=scorer,
        train=train,
        validation=validation,
        seed=seed,
        workers=min(workers, program.concurrency),
        batch=defaults.evaluation_batch_size,
        patience=_whole("patience", _or(how.get("patience"), defaults.early_stopping_patience)),
        max_steps=_whole("max_steps", _or(how.get("max_steps"), defaults.max_optimization_iterations)),
        budget=RunBudget.of(how.get("budget")),
        prompt_provider=prompt_provider,
        prompt_model=prompt_model,
        prompt_models=await models_of(ask, prompt_provider, prompt_model),
        judges=await judges_of(life, scorer),
    )


async def replan(life: Life, stored: StoredRun) -> RunPlan:
    """The plan of a run that another process made.

    Raises:
        RunError: its metric or method has no name by which it can be found, or it is no optimization.
    """
    from ....actors.optimizers.registry import METHODS, optimizer  # noqa: PLC0415 - only where it is used

    kept = stored.plan
    if stored.kind != KIND:
        raise RunError(
            f"expected an optimization, got a run of kind {stored.kind}, at {stored.id}; "
            f"an evaluation goes on by app.runs.evaluate({stored.id!r}), others by what began them",
            run_id=stored.id,
        )
    if kept["metric"] is None or kept["method"] not in METHODS:
        which = "metric" if kept["metric"] is None else "method"
        raise RunError(
            f"expected a {which} that can be found by its name, got one of the program's own, at {stored.id}; "
            f"go on from there: app.optimize(..., run_id={stored.id!r})",
            run_id=stored.id,
        )
    ask = partial(life.call, timeout=CALL_TIMEOUT)
    program, scorer = await program_of(ask, kept["module"]), Scorer(kept["metric"], blocking=kept["blocking"])
    return RunPlan(
        run=stored.id,
        module=kept["module"],
        program=program,
        optimizer=optimizer(kept["method"], **kept["options"]),
        options=kept["options"],
        scorer=scorer,
        train=tuple(example_from_dict(each) for each in kept["train"]),
        validation=tuple(example_from_dict(each) for each in kept["validation"]),
        seed=kept["seed"],
        workers=kept["workers"],
        batch=kept["batch"],
        patience=kept["patience"],
        max_steps=kept["max_steps"],
        budget=RunBudget.of(kept["budget"]),
        prompt_provider=kept["prompt_provider"],
        prompt_model=kept["prompt_model"],
        prompt_models=await models_of(ask, kept["prompt_provider"], kept["prompt_model"]),
        judges=await judges_of(life, scorer),
    )


def checked_id(value: object) -> str:
    """A run's id.

    Raises:
        ConfigError: it is none.
    """
    if isinstance(value, str) and _ID.fullmatch(value):
        return value
    expected = "letters, digits, '.', '_' and '-', at most 100, a letter or digit first"
    raise ConfigError(f"expected {expected}, got {value!r}, at run_id", path="run_id", expected=expected, got=value)


def _whole(path: str, value: object, least: int = 0) -> int:
    if isinstance(value, int) and not isinstance(value, bool) and (value >= least or path == "seed"):
        return value
    expected = "a whole number" if path == "seed" else f"a whole number from {least}"
    raise ConfigError(f"expected {expected}, got {value!r}, at {path}", path=path, expected=expected, got=repr(value))


def _or(value: T | None, default: T) -> T:
    return default if value is None else value
