"""What a module works with: everything that its settings say, checked and ready to use."""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Final, Self

from ..runtime.errors import ConfigError, did_you_mean
from .adapter import Adapter
from .adapters import adapter_named
from .module_messages import PredictOptions, check_timeout
from .settings import ModuleSettings
from .signature import Signature
from .signature_values import Checking, check_demo

TIMEOUT: Final = 30.0
CONCURRENCY: Final = 16
QUEUE: Final = 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class ModulePlan:
    """What predictions are made with; one ends with the plan it began with.

    Attributes:
        signature: what the module takes and gives, its instructions included.
        provider: id of the provider to ask.
        demos: worked examples, checked against the signature.
        adapter: how prompts are written and answers read.
        options: the module's own options; the timeout is set.
        checking: how values are held to their types.
        retry_failed_predictions: whether an answer that does not fit is repaired, once.
        max_concurrency: predictions in work at once.
        max_queue: predictions that may wait.
    """

    signature: Signature
    provider: str
    demos: tuple[Mapping[str, Any], ...]
    adapter: Adapter
    options: PredictOptions
    checking: Checking
    retry_failed_predictions: bool
    max_concurrency: int
    max_queue: int

    @classmethod
    def of(cls, settings: Mapping[str, Any]) -> Self:
        """As :func:`make_plan`, from a mapping.

        Raises:
            ConfigError: a setting is unknown or missing; and what :func:`make_plan` raises.
        """
        for key in settings:
            if key not in _SETTINGS:
                hint = did_you_mean(str(key), _SETTINGS)
                expected = f"the settings {', '.join(_SETTINGS)}"
                raise ConfigError(f"expected {expected}, got {key!r}{hint}", path=key, expected=expected, got=key)
        for key in ("signature", "provider"):
            if key not in settings:
                raise ConfigError(f"expected a {key}, got nothing, at {key}", path=key, expected=f"a {key}", got=None)
        return cls(**make_plan(**settings))

    @classmethod
    def configured(cls, settings: ModuleSettings) -> Self:
        """As :func:`make_plan`, from a module's configuration; what is None there takes the default."""
        return cls.of({key: value for key in _SETTINGS if (value := getattr(settings, key, None)) is not None})

    def with_instructions(self, instructions: str | None) -> Self:
        """The same with other instructions."""
        return replace(self, signature=self.signature.with_instructions(instructions))

    def with_demos(self, demos: Iterable[Mapping[str, Any]]) -> Self:
        """The same with other worked examples.

        Raises:
            SignatureError: one does not fit the signature.
        """
        return replace(self, demos=_checked(self.signature, demos))


def make_plan(
    *,
    signature: str | Signature,
    provider: str,
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
) -> dict[str, Any]:
    """The fields of a :class:`ModulePlan`, checked. The arguments are the settings of a module.

    Args:
        signature: what the module takes and gives.
        provider: id of the provider to ask.
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

    Raises:
        SignatureError: the signature is malformed, or a demo does not fit it.
        ConfigError: another setting is malformed.
        LMInvalidRequest: a sampling option is out of range.
    """
    parsed = Signature(signature, instructions)
    return {
        "signature": parsed,
        "provider": _provider_id(provider),
        "demos": _checked(parsed, demos),
        "adapter": adapter_named(adapter),
        "options": PredictOptions(
            model=model, temperature=temperature, max_tokens=max_tokens, timeout=check_timeout(timeout)
        ),
        "checking": _checking(
            _flag("validation_enabled", validation_enabled), _flag("strict_field_checking", strict_field_checking)
        ),
        "retry_failed_predictions": _flag("retry_failed_predictions", retry_failed_predictions),
        "max_concurrency": _whole("max_concurrency", max_concurrency, 1),
        "max_queue": _whole("max_queue", max_queue, 0),
    }


_SETTINGS: Final[tuple[str, ...]] = tuple(inspect.signature(make_plan).parameters)


def _checked(signature: Signature, demos: Iterable[Mapping[str, Any]]) -> tuple[Mapping[str, Any], ...]:
    return tuple(check_demo(signature, demo, f"demos[{index}]") for index, demo in enumerate(demos))


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
