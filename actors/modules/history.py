"""History: earlier turns of a conversation, as an input of a program."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Self, cast

from ...runtime.errors import SignatureError, did_you_mean
from ..examples import mapping_of
from ..signatures.signature import Signature

_DSPYS: Final = "messages"
"""What DSPy calls them."""


@dataclass(frozen=True, slots=True)
class History:
    """Earlier turns, oldest first. As the value of an input field it becomes earlier messages of the prompt.

    ::

        class Talk(Signature):
            history: History = InputField()
            question: str = InputField()
            answer: str = OutputField()

        past = History().then(question="Capital of France?", answer="Paris")
        talk(history=past, question="And of Norway?")

    Args:
        turns: each a mapping of the other fields' values; fields may be missing.

    Raises:
        SignatureError: a turn is no mapping, or the turns are given otherwise.
    """

    turns: tuple[dict[str, Any], ...] = field(default=(), hash=False)

    def __new__(cls, *unnamed: object, **named: object) -> Self:
        """Refuse other arguments by what they should be."""
        if len(unnamed) > 1:
            raise SignatureError(f"expected one list of turns, got {len(unnamed)} arguments", expected="turns")
        for name in named:
            if name != "turns":
                expected = "History(turns=[...]) or History().then(question=..., answer=...)"
                hint = did_you_mean("turns" if name == _DSPYS else name, ("turns",))
                raise SignatureError(f"expected {expected}, got {name!r}{hint}", expected=expected, got=name)
        return object.__new__(cls)

    def __post_init__(self) -> None:
        given = cast("object", self.turns)
        if not isinstance(given, Iterable) or isinstance(given, str | Mapping):
            got = type(self.turns).__name__
            raise SignatureError(f"expected turns of a conversation, got {got}", expected="turns", got=got)
        object.__setattr__(self, "turns", tuple(self.turns))
        for index, turn in enumerate(self.turns):
            if not isinstance(cast("object", turn), Mapping):
                got = type(turn).__name__
                message = f"expected a mapping of fields, got {got}, at turns[{index}]"
                raise SignatureError(message, expected="a mapping of fields", got=got)
        object.__setattr__(self, "turns", tuple(dict(turn) for turn in self.turns))

    def then(self, fields: Mapping[str, Any] | None = None, /, **more: Any) -> History:
        """The same with a further turn.

        Args:
            fields: values by name, or a prediction; keyword arguments are taken too.
            **more: the same.

        Raises:
            SignatureError: it is no mapping.
        """
        return History((*self.turns, {**mapping_of(fields, "then"), **more}))


def history_fields(signature: Signature) -> tuple[str, ...]:
    """Names of the inputs that are histories."""
    return tuple(each.name for each in signature.inputs if each.type.without_none.cls is History)
