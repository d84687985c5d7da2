"""Prediction: what a program answers, and what is known about how the answer came."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import TYPE_CHECKING, Any, NoReturn

from ...runtime.errors import did_you_mean
from ..lm.values import UNKNOWN_USAGE, Attempt, Usage

if TYPE_CHECKING:
    from ..optimizers.bench import PredictorCall


@dataclass(frozen=True, slots=True, kw_only=True)
class PredictionInfo:
    """How an answer came.

    Attributes:
        usage: tokens; unknown ones are None, never zero.
        cost: US dollars, or None if nobody knows.
        correlation_id: the trace id; finds every event of the call.
        span_id: this execution's span in that trace.
        attempts: each try on the wire, in order.
        provider: id of the provider that answered.
        model: the model that answered, as the provider names it.
        finish_reason: ``stop``, ``length``..., or None if it was not said.
        cache_hit: the answer came from our cache; usage and cost are zero.
        time_to_first_chunk: seconds until a stream's first chunk, or None.
        duration: seconds from the call's arrival at the module to the answer.
        text: the model's answer as it came.
        repairs: answers that did not fit and were asked for again; usage, cost and attempts are those of all.
        calls: the calls of its predictors, in the order in which they ended; only if a trace was asked for.
    """

    usage: Usage = UNKNOWN_USAGE
    cost: Decimal | None = None
    correlation_id: str | None = None
    span_id: str | None = None
    attempts: tuple[Attempt, ...] = ()
    provider: str | None = None
    model: str | None = None
    finish_reason: str | None = None
    cache_hit: bool = False
    time_to_first_chunk: float | None = None
    duration: float | None = None
    text: str = ""
    repairs: int = 0
    calls: tuple[PredictorCall, ...] = ()


_NOTHING_KNOWN = PredictionInfo()


class Prediction(Mapping[str, Any]):
    """A frozen mapping of the output fields, also readable as attributes.

    ``p["answer"]`` always works. ``p.answer`` does too, unless the field has the name of something a prediction
    already has (``info``, ``keys``, ``items``, ``values``, ``get``, ``to_dict``): those keep their meaning, and the
    field is read as an item. Two predictions are equal if their fields are, however they came.

    Args:
        fields: the outputs by name.
        info: how they came.
    """

    __slots__ = ("_fields", "_info")

    _fields: dict[str, Any]
    _info: PredictionInfo

    def __init__(self, fields: Mapping[str, Any], info: PredictionInfo = _NOTHING_KNOWN) -> None:
        object.__setattr__(self, "_fields", dict(fields))
        object.__setattr__(self, "_info", info)

    @property
    def info(self) -> PredictionInfo:
        """How the answer came: usage, cost, attempts, ids."""
        return self._info

    def to_dict(self) -> dict[str, Any]:
        """The fields as a new dict."""
        return dict(self._fields)

    def __getitem__(self, name: str) -> Any:
        try:
            return self._fields[name]
        except KeyError:
            raise KeyError(f"expected one of {self._known()}, got {name!r}{self._hint(name)}") from None

    def __getattr__(self, name: str) -> Any:
        # Underscored names are never fields; copying and pickling ask for them on half-made objects.
        if not name.startswith("_") and name in self._fields:
            return self._fields[name]
        hint = "" if name.startswith("_") else f"; it has {self._known()}{self._hint(name)}"
        raise AttributeError(f"this prediction has no field {name!r}{hint}", name=name, obj=self)

    def __contains__(self, name: object) -> bool:
        return name in self._fields

    def __iter__(self) -> Iterator[str]:
        return iter(self._fields)

    def __len__(self) -> int:
        return len(self._fields)

    def __dir__(self) -> list[str]:
        return [*super().__dir__(), *self._fields]

    def __eq__(self, other: object) -> bool:
        return self._fields == other._fields if isinstance(other, Prediction) else NotImplemented

    __hash__ = None  # type: ignore[assignment]  # its values may be lists

    def __repr__(self) -> str:
        return f"Prediction({', '.join(f'{name}={value!r}' for name, value in self._fields.items())})"

    def __setattr__(self, name: str, value: Any) -> NoReturn:
        raise AttributeError(f"a prediction is frozen: {name!r} cannot be set", name=name, obj=self)

    def __delattr__(self, name: str) -> NoReturn:
        raise AttributeError(f"a prediction is frozen: {name!r} cannot be deleted", name=name, obj=self)

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self._fields, self._info)

    def _known(self) -> str:
        return ", ".join(self._fields) or "no fields"

    def _hint(self, name: object) -> str:
        return did_you_mean(str(name), self._fields)
