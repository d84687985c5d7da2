"""What a module works with: everything that its settings say, checked and ready to use."""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Final, Self

from ...runtime.errors import ConfigError, did_you_mean
from ..adapter import Adapter
from ..adapters import adapter_named
from ..configuration.settings import ModuleSettings
from ..signatures.signature import Signature
from ..signatures.values import Checking
from .kind import ModuleKind
from .kinds import KINDS, OPTIONS, make_kind, options_of
from .messages import PredictOptions, check_timeout
from .predictor_plan import PredictorPlan, checked_demos
from .program_state import ONLY, ProgramState

TIMEOUT: Final = 30.0
CONCURRENCY: Final = 16
QUEUE: Final = 1000
KIND: Final = "predict"
_NONE: Final[Mapping[str, Any]] = {}


@dataclass(frozen=True, slots=True, kw_only=True)
class ModulePlan:
    """What predictions are made with; one ends with the plan it began with.

    Attributes:
        kind: what it does with a call.
        signature: what the module takes and gives.
        predictors: what it asks models with, by name.
        provider: id of the provider to ask.
        adapter: how prompts are written and answers read.
        options: the module's own options; the timeout is set.
        checking: how values are held to their types.
        retry_failed_predictions: whether an answer that does not fit is repaired, once.
        max_concurrency: predictions in work at once.
        max_queue: predictions that may wait.
    """

    kind: ModuleKind
    signature: Signature
    predictors: Mapping[str, PredictorPlan]
    provider: str
    adapter: Adapter
    options: PredictOptions
    checking: Checking
    retry_failed_predictions: bool
    max_concurrency: int
    max_queue: int

    @classmethod
    def of(cls, settings: Mapping[str, Any]) -> Self:
        """As :func:`make_plan`, from a mapping that may also have a ``state`` and the options of its kind.

        Raises:
            ConfigError: a setting is unknown or missing; and what :func:`make_plan` raises.
        """
        options = options_of(settings.get("kind", KIND))
        known = (*_SETTINGS, "state", *options)
        for key in settings:
            if key not in known:
                hint = _of_others(key) or did_you_mean(str(key), known)
                expected = f"the settings {', '.join(known)}"
                raise ConfigError(f"expected {expected}, got {key!r}{hint}", path=key, expected=expected, got=key)
        for key in ("signature", "provider"):
            if key not in settings:
                raise ConfigError(f"expected a {key}, got nothing, at {key}", path=key, expected=f"a {key}", got=None)
        chosen = {key: value for key, value in settings.items() if key in options}
        plan = cls(**make_plan(**{key: value for key, value in settings.items() if key in _SETTINGS}, options=chosen))
        state = settings.get("state")
        if state is None:
            return plan
        return plan.with_state(state if isinstance(state, ProgramState) else ProgramState.from_dict(state))

    @classmethod
    def configured(cls, settings: ModuleSettings) -> Self:
        """As :func:`make_plan`, from a module's configuration; what is None there takes the default."""
        return cls.of(
            {
                key: value
                for key in (*_SETTINGS, "state", *OPTIONS)
                if (value := getattr(settings, key, None)) is not None
            }
        )

    def with_instructions(self, instructions: str | None) -> Self:
        """The same with other instructions of its only predictor.

        Raises:
            ConfigError: it has several.
        """
        predictor = self._only("instructions")
        return self._with(predictor, replace(predictor, signature=predictor.signature.with_instructions(instructions)))

    def with_demos(self, demos: Iterable[Mapping[str, Any]]) -> Self:
        """The same with other worked examples of its only predictor.

        Raises:
            SignatureError: one does not fit the signature.
            ConfigError: it has several.
        """
        predictor = self._only("demos")
        return self._with(predictor, replace(predictor, demos=checked_demos(predictor.signature, demos)))

    def with_state(self, state: ProgramState) -> Self:
        """The same with another state of the predictors that ``state`` names.

        Raises:
            SignatureError: a demo does not fit its signature.
            ConfigError: there is no predictor of a name.
        """
        predictors = dict(self.predictors)
        for name, each in state.predictors.items():
            if name not in predictors:
                known = ", ".join(predictors)
                message = (
                    f"expected one of the predictors {known}, got {name!r}, at state{did_you_mean(name, predictors)}"
                )
                raise ConfigError(message, path="state", expected=known, got=name)
            predictors[name] = predictors[name].with_state(each, name)
        return replace(self, predictors=predictors)

    @property
    def state(self) -> ProgramState:
        """What its predictors tell their models."""
        return ProgramState({name: each.state for name, each in self.predictors.items()})

    @property
    def instructions(self) -> str | None:
        """What its only predictor tells the model; None if it has several."""
        return next(iter(self.predictors.values())).signature.instructions if len(self.predictors) == 1 else None

    def _only(self, path: str) -> PredictorPlan:
        if len(self.predictors) == 1:
            return next(iter(self.predictors.values()))
        expected, got = "a state that names the predictors", f"{path} for all of {', '.join(self.predictors)}"
        raise ConfigError(f"expected {expected}, got {got}, at {path}", path=path, expected=expected, got=got)

    def _with(self, old: PredictorPlan, new: PredictorPlan) -> Self:
        return replace(self, predictors={name: new if each is old else each for name, each in self.predictors.items()})


def make_plan(
    *,
    signature: str | Signature,
    provider: str,
    kind: str = KIND,
    instructions: str | None = None,
    demos: Iterable[Mapping[str, Any]] = (),
    adapter: str = "chat",
    model: str | None = None,
    temperature: float | None = None,
    max_tokens: int | None = None,
    timeout: float = TIMEOUT,
    validation_enabled: bool = True,
    strict_field_checking: bool = False,
    retry_failed_predictions: bool = True,
    max_concurrency: int = CONCURRENCY,
    max_queue: int = QUEUE,
    options: Mapping[str, Any] = _NONE,
) -> dict[str, Any]:
    """The fields of a :class:`ModulePlan`, checked. The arguments are the settings of a module.

    Args:
        signature: what the module takes and gives.
        provider: id of the provider to ask.
        kind: what it does with a call.
        instructions: what the model is to do, in the place of the signature's own.
        demos: worked examples to show.
        adapter: name of the adapter that writes prompts and reads answers.
        model: which model; None takes the provider's default.
        temperature: sampling; sent only if set.
        max_tokens: bound on the answer's tokens; sent only if set.
        timeout: seconds a prediction may take, waiting for its turn included; at most 3600.
        validation_enabled: whether values are checked against the signature; if not, outputs are given as text or
            JSON, as they came.
        strict_field_checking: whether an output of a convertible type (``"42"`` for a number) is refused.
        retry_failed_predictions: whether an answer that does not fit the signature is asked for once more.
        max_concurrency: predictions in work at once.
        max_queue: predictions that may wait; more are refused.
        options: of the kind.

    Raises:
        SignatureError: the signature is malformed, or a demo does not fit it.
        ConfigError: another setting is malformed.
        LMInvalidRequest: a sampling option is out of range.
    """
    parsed = Signature(signature, instructions)
    way = make_kind(kind, options)
    checking = _checking(
        _flag("validation_enabled", validation_enabled), _flag("strict_field_checking", strict_field_checking)
    )
    repaired = _flag("retry_failed_predictions", retry_failed_predictions)
    predictors = {
        name: PredictorPlan(
            declared=each,
            signature=each,
            demos=checked_demos(each, demos) if name == ONLY else (),
            adapter=adapter_named(adapter),
            checking=checking,
            retry_failed_predictions=repaired,
        )
        for name, each in way.predictors(parsed).items()
    }
    return {
        "kind": way,
        "signature": way.signature(parsed),
        "predictors": predictors,
        "provider": _provider_id(provider),
        "adapter": adapter_named(adapter),
        "options": PredictOptions(
            model=model, temperature=temperature, max_tokens=max_tokens, timeout=check_timeout(timeout)
        ),
        "checking": checking,
        "retry_failed_predictions": repaired,
        "max_concurrency": _whole("max_concurrency", max_concurrency, 1),
        "max_queue": _whole("max_queue", max_queue, 0),
    }


_SETTINGS: Final[tuple[str, ...]] = tuple(name for name in inspect.signature(make_plan).parameters if name != "options")


def _of_others(option: str) -> str:
    kinds = [kind for kind in KINDS if option in options_of(kind)]
    return f"; that is an option of {' and '.join(kinds)}" if kinds else ""


def _provider_id(provider: object) -> str:
    if isinstance(provider, str) and provider and "/" not in provider:
        return provider
    expected = "the id of a provider, without 'provider/'"
    raise ConfigError(
        f"expected {expected}, got {provider!r}, at provider", path="provider", expected=expected, got=provider
    )


def _checking(enabled: bool, strict: bool) -> Checking:
    if not enabled:
        return "none"
    return "strict" if strict else "lenient"


def _flag(path: str, value: object) -> bool:
    if isinstance(value, bool):
        return value
    expected = "True or False"
    raise ConfigError(f"expected {expected}, got {value!r}, at {path}", path=path, expected=expected, got=repr(value))


def _whole(path: str, value: object, least: int) -> int:
    if isinstance(value, int) and not isinstance(value, bool) and value >= least:
        return value
    expected = f"a whole number >= {least}"
    raise ConfigError(f"expected {expected}, got {value!r}, at {path}", path=path, expected=expected, got=value)
