"""The kinds of values a setting may have: seconds, secrets, names, frozen tables.

Each kind refuses a wrong value with one sentence of the form "Input should be ...", which the loader turns into
``expected ...``. Numbers, texts and flags are strict: ``"5"`` is no integer and ``1`` is no flag.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from decimal import Decimal, InvalidOperation
from typing import Annotated, Any, Final, Literal, LiteralString, NoReturn, TypeAlias, TypeGuard, TypeVar
from urllib.parse import urlsplit

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainSerializer,
    PlainValidator,
    Strict,
    StringConstraints,
    ValidationError,
)
from pydantic_core import PydanticCustomError

from ...runtime.secret import MASK, LostSecret, Secret, SecretRef, SecretValue

K = TypeVar("K")
V = TypeVar("V")

UNITS: Final[Mapping[str, float]] = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
"""Units a duration may carry in configuration, in seconds."""

LONGEST_BARE: Final = 3600.0
"""A plain number above this is taken for milliseconds by mistake, and refused."""

_DURATION: Final = re.compile(r"(\d+(?:\.\d+)?|\.\d+)\s*([a-z]+)?")
_VARIABLE: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_HEADER_NAME: Final = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+")


class SettingsModel(BaseModel):
    """A table of settings: frozen, unknown keys refused, values never echoed by pydantic itself."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True, validate_default=False)

    def __init__(self, /, **settings: Any) -> None:
        """Make one by hand.

        Raises:
            ConfigError: a setting is unknown, of the wrong type or out of range (facts: path, expected, got).
        """
        try:
            super().__init__(**settings)
            return
        except ValidationError as error:
            found = error
        from .problems import by_hand  # noqa: PLC0415 - what to say of a mistake takes all the models

        raise by_hand(type(self), found)

    # Pydantic's mark for "as my own": sections that are read within others do not pass here, their paths stay whole.
    __init__.__pydantic_base_init__ = True  # type: ignore[attr-defined]


def key(default: Any, description: str, **constraints: Any) -> Any:
    """Declare one setting: its default and what it does.

    Args:
        default: the value when nobody sets it.
        description: one sentence for the table of all keys.
        **constraints: pydantic's ``ge``, ``gt``, ``le``, ``min_length`` ...
    """
    return Field(default, description=description, **constraints)


def refuse(expected: str, kind: LiteralString = "setting") -> NoReturn:
    """Refuse the value under validation with "Input should be <expected>"."""
    # Braces are pydantic's template marks: the text goes in as a parameter.
    raise PydanticCustomError(kind, "Input should be {expected}", {"expected": expected})


class FrozenDict(dict[K, V]):
    """A dict that cannot be changed, so that one settings value may be shared by all actors."""

    def _refuse_change(self, *_: object, **__: object) -> NoReturn:
        raise TypeError("settings cannot be changed in place; send UpdateSetting to core/config")

    _refused: Any = _refuse_change
    __setitem__ = __delitem__ = __ior__ = _refused
    clear = pop = popitem = setdefault = update = _refused

    def __hash__(self) -> int:  # type: ignore[override]
        return hash(frozenset(self.items()))

    def __reduce__(self) -> tuple[Any, ...]:
        return FrozenDict, (dict(self),)

    def __copy__(self) -> FrozenDict[K, V]:
        return self


def is_table(value: object) -> TypeGuard[Mapping[str, Any]]:
    """Whether the value is a table (of whatever keys; the models check them)."""
    return isinstance(value, Mapping)


def frozen_table(value: Mapping[K, V]) -> Mapping[K, V]:
    """Freeze a validated mapping."""
    return FrozenDict(value)


def seconds(value: object) -> float:
    """Read a duration: seconds as a number up to 3600, a text with a unit (``"30s"``), or a timedelta.

    Returns:
        Seconds, finite and not negative.
    """
    if isinstance(value, timedelta):
        return _not_negative(value.total_seconds())
    if isinstance(value, str):
        return _from_text(value)
    if isinstance(value, bool) or not isinstance(value, int | float):
        refuse('a duration: seconds as a number, or a text with a unit such as "30s" or "500ms"')
    return _bare(_as_float(value))


def seconds_in_name(value: object) -> float:
    """As :func:`seconds`, for a key whose name holds the unit: a plain number may exceed 3600."""
    if isinstance(value, int | float) and not isinstance(value, bool):
        return _not_negative(_as_float(value))
    return seconds(value)


def positive_seconds(value: object) -> float:
    """As :func:`seconds`, and more than nothing: deadlines and windows."""
    answer = seconds(value)
    if answer <= 0:
        refuse("a duration above 0")
    return answer


def _bare(value: float) -> float:
    if value > LONGEST_BARE:
        refuse(
            'a duration of at most 3600 without a unit (seconds, not ms? write "2h" or "5000ms" if that is meant)',
            "duration_without_unit",
        )
    return _not_negative(value)


def _as_float(value: float) -> float:
    try:
        return float(value)
    except OverflowError:  # a whole number of more than 1024 bits
        return math.inf


def _not_negative(value: float) -> float:
    if not math.isfinite(value) or value < 0:
        refuse("a duration that is finite and not negative")
    return value


def _from_text(text: str) -> float:
    match = _DURATION.fullmatch(text.strip().lower())
    if match is None:
        refuse('a duration such as "30s", "500ms", "2m" or "1h"')
    number, unit = float(match[1]), match[2]
    if unit is None:
        return _bare(number)
    if unit not in UNITS:
        refuse(f"a duration in one of the units {', '.join(UNITS)}")
    return _not_negative(number * UNITS[unit])


def secret(value: object) -> SecretValue:
    """Read a secret: ``{system = "NAME"}``, a literal text, or a secret value made before."""
    if isinstance(value, Secret | SecretRef | LostSecret):
        return value
    if isinstance(value, str) and value.strip():
        return Secret(value)
    if is_table(value):
        name = value.get("system")
        if set(value) == {"system"} and isinstance(name, str) and _VARIABLE.fullmatch(name):
            return SecretRef(name)
    refuse('a secret: {system = "NAME_OF_AN_ENVIRONMENT_VARIABLE"}, or the text itself')


def public_secret(value: SecretValue) -> Any:
    """What may be shown of a secret: the reference, or a mask."""
    return {"system": value.system} if isinstance(value, SecretRef) else MASK


def base_url(value: str) -> str:
    """Check an address of a server: http or https, no credentials, no query; a last slash is dropped."""
    try:
        parts = urlsplit(value)
        host, user, _ = parts.hostname, parts.username, parts.port
        value.encode()  # half of a surrogate pair can be sent to nobody
    except ValueError:
        refuse("an http or https address")
    if parts.scheme not in ("http", "https") or not host or any(mark.isspace() for mark in value):
        refuse("an http or https address")
    if user is not None or parts.query or parts.fragment:
        refuse("an address without credentials, query or fragment (a key belongs in api_key)")
    return value.rstrip("/")


def header_name(value: str) -> str:
    """Check the name of an HTTP header (RFC 9110, 5.1)."""
    if not _HEADER_NAME.fullmatch(value):
        refuse("a header name of ASCII letters, digits and -")
    return value


def money(value: object) -> Decimal:
    """Read an amount of money: a number or a text such as ``"0.15"``; exact, never rounded by binary fractions."""
    if isinstance(value, int | float | str | Decimal) and not isinstance(value, bool):
        try:
            answer = Decimal(str(value))
        except InvalidOperation:
            refuse("an amount of US dollars")
        if answer.is_finite():
            return answer
    refuse("an amount of US dollars")


def _workers(value: object) -> int | Literal["auto"]:
    if value == "auto":
        return "auto"
    if isinstance(value, int) and not isinstance(value, bool) and value >= 1:
        return value
    refuse('an integer of at least 1, or "auto"')


def _none(value: object) -> object:
    # TOML and the environment have no null.
    return None if value == "none" else value


def as_tuple(value: object) -> object:
    """A list, as TOML gives it, as a tuple; anything else as it is."""
    return tuple(value) if isinstance(value, list) else value  # pyright: ignore[reportUnknownVariableType, reportUnknownArgumentType]


@dataclass(frozen=True, slots=True)
class Kind:
    """What people are told about a kind of value.

    Attributes:
        name: the kind, as the table of keys shows it.
        unit: the unit of a plain number, or empty.
        text: whether a text from the environment is taken as it stands, never read as a number.
        entries: keys of each table of a list.
    """

    name: str
    unit: str = ""
    text: bool = False
    entries: tuple[str, ...] = ()


SECONDS: Final = Kind("duration", "seconds")

Flag: TypeAlias = Annotated[bool, Strict(), Kind("boolean")]
Whole: TypeAlias = Annotated[int, Strict(), Kind("integer")]
Limit: TypeAlias = Annotated[
    Annotated[int, Strict(), Field(ge=0)] | None, BeforeValidator(_none), Kind('integer or "none"')
]
PositiveLimit: TypeAlias = Annotated[
    Annotated[int, Strict(), Field(ge=1)] | None, BeforeValidator(_none), Kind('integer or "none"')
]
Number: TypeAlias = Annotated[float, Strict(), Field(allow_inf_nan=False), Kind("number")]
Text: TypeAlias = Annotated[str, Strict(), StringConstraints(min_length=1), Kind("text", text=True)]
Seconds: TypeAlias = Annotated[float, PlainValidator(seconds), SECONDS]
PositiveSeconds: TypeAlias = Annotated[float, PlainValidator(positive_seconds), SECONDS]
NamedSeconds: TypeAlias = Annotated[float, PlainValidator(seconds_in_name), SECONDS]
Hidden: TypeAlias = Annotated[SecretValue, PlainValidator(secret), PlainSerializer(public_secret), Kind("secret")]
Url: TypeAlias = Annotated[str, Strict(), AfterValidator(base_url), Kind("address", text=True)]
Workers: TypeAlias = Annotated[int | Literal["auto"], PlainValidator(_workers), Kind("integer or auto")]
Name: TypeAlias = Annotated[
    str, Strict(), StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]{0,99}$"), Kind("name", text=True)
]
"""A provider's or module's name: it is one segment of a path and of a registered name."""

Table: TypeAlias = Annotated[Mapping[Name, V], AfterValidator(frozen_table)]
Headers: TypeAlias = Annotated[
    Mapping[Annotated[Text, AfterValidator(header_name)], Hidden],
    AfterValidator(frozen_table),
    Kind("table of secrets"),
]
ToolList: TypeAlias = Annotated[
    tuple[Text | Annotated[Mapping[str, Text], AfterValidator(frozen_table)], ...],
    BeforeValidator(as_tuple),
    Kind("list of texts or tables"),
]
Examples: TypeAlias = Annotated[
    tuple[Annotated[Mapping[str, Any], AfterValidator(frozen_table)], ...],
    BeforeValidator(as_tuple),
    Kind("list of tables"),
]
