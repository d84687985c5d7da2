"""Examples: what programs are taught with and measured by."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Never, NoReturn, cast

from ..runtime.errors import SignatureError, did_you_mean
from .lm.values import canonical_json


class Example(Mapping[str, Any]):
    """A frozen mapping of field values, some of which are inputs and the others what a good answer has.

    ::

        Example(question="Capital of Norway?", answer="Oslo").with_inputs("question")

    Args:
        fields: values by name; keyword arguments are taken too.

    Raises:
        SignatureError: it is no mapping, a field is given twice, or a name is no text.
    """

    __slots__ = ("_fields", "_inputs", "_key")

    _fields: dict[str, Any]
    _inputs: frozenset[str] | None
    _key: str

    def __init__(self, fields: Mapping[str, Any] | None = None, /, *unnamed: Never, **more: Any) -> None:
        if unnamed:
            expected, got = "fields by name", f"{1 + len(unnamed)} without a name"
            raise SignatureError(f"expected {expected}, got {got}, at Example", expected=expected, got=got)
        given = mapping_of(fields, "Example")
        for name in given:
            if not isinstance(name, str):  # pyright: ignore[reportUnnecessaryIsInstance]
                raise SignatureError(f"expected field names as text, got {name!r}", expected="text", got=name)
            if name in more:
                raise SignatureError(f"expected each field once, got {name!r} twice", field=name, expected="once")
        object.__setattr__(self, "_fields", given | more)
        object.__setattr__(self, "_inputs", getattr(fields, "_inputs", None))
        object.__setattr__(self, "_key", "")

    def with_inputs(self, *names: str) -> Example:
        """The same, with these fields as its inputs.

        Raises:
            SignatureError: there is no such field.
        """
        for name in names:
            if not isinstance(cast("object", name), str):
                expected, got = "names of fields", type(name).__name__
                raise SignatureError(f"expected {expected}, got {got}, at with_inputs", expected=expected, got=got)
            if name not in self._fields:
                known = ", ".join(self._fields)
                hint = did_you_mean(name, self._fields)
                raise SignatureError(f"expected one of the fields {known}, got {name!r}{hint}", field=name)
        example = Example(self)
        object.__setattr__(example, "_inputs", frozenset(names))
        return example

    @property
    def has_inputs(self) -> bool:
        """Whether it says which of its fields are inputs."""
        return self._inputs is not None

    def inputs(self, names: Iterable[str] | None = None) -> dict[str, Any]:
        """Its inputs: those it names itself, else those of ``names``, the inputs of the program's signature."""
        chosen = self._inputs if self._inputs is not None else frozenset(names or ())
        return {name: value for name, value in self._fields.items() if name in chosen}

    def labels(self, names: Iterable[str] | None = None) -> dict[str, Any]:
        """What a good answer has: all that is no input."""
        inputs = self.inputs(names)
        return {name: value for name, value in self._fields.items() if name not in inputs}

    def to_dict(self) -> dict[str, Any]:
        """The fields as a new dict."""
        return dict(self._fields)

    @property
    def key(self) -> str:
        """SHA-256 of its fields and of which are inputs: by this a run knows it again.

        Raises:
            TypeError: a value is not JSON.
        """
        if not self._key:  # a run asks for it with each trial
            inputs = None if self._inputs is None else sorted(self._inputs)
            text = canonical_json({"fields": self._fields, "inputs": inputs})
            object.__setattr__(self, "_key", hashlib.sha256(text.encode("ascii")).hexdigest())
        return self._key

    def __getitem__(self, name: str) -> Any:
        return self._fields[name]

    def __getattr__(self, name: str) -> Any:
        if not name.startswith("_") and name in self._fields:
            return self._fields[name]
        hint = "" if name.startswith("_") else did_you_mean(name, self._fields)
        raise AttributeError(f"this example has no field {name!r}{hint}", name=name, obj=self)

    def __iter__(self) -> Iterator[str]:
        return iter(self._fields)

    def __len__(self) -> int:
        return len(self._fields)

    def __eq__(self, other: object) -> bool:
        return (
            (self._fields, self._inputs) == (other._fields, other._inputs)
            if isinstance(other, Example)
            else NotImplemented
        )

    __hash__ = None  # type: ignore[assignment]  # its values may be lists

    def __repr__(self) -> str:
        fields = ", ".join(f"{name}={value!r}" for name, value in self._fields.items())
        inputs = "" if self._inputs is None else f", inputs={sorted(self._inputs)}"
        return f"Example({fields}{inputs})"

    def __setattr__(self, name: str, value: Any) -> NoReturn:
        raise AttributeError(f"an example is frozen: {name!r} cannot be set", name=name, obj=self)

    def __reduce__(self) -> tuple[Any, ...]:
        return _rebuild, (self._fields, self._inputs)


def mapping_of(fields: Mapping[str, Any] | None, where: str) -> dict[str, Any]:
    """What was given as fields, as a new dict.

    Raises:
        SignatureError: it is no mapping.
    """
    try:
        return dict(fields or {})
    except (TypeError, ValueError):
        expected, got = "a mapping of fields, or fields by name", type(fields).__name__
        raise SignatureError(f"expected {expected}, got {got}, at {where}", expected=expected, got=got) from None


def _rebuild(fields: dict[str, Any], inputs: frozenset[str] | None) -> Example:
    example = Example(fields)
    return example if inputs is None else example.with_inputs(*inputs)
