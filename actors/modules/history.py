"""History: earlier turns of a conversation, as an input of a program."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, cast

from ...runtime.errors import SignatureError
from ..signatures.signature import Signature


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
        SignatureError: a turn is no mapping.
    """

    turns: tuple[dict[str, Any], ...] = field(default=(), hash=False)

    def __post_init__(self) -> None:
        if not isinstance(cast("object", self.turns), Iterable):
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
        """
        return History((*self.turns, {**dict(fields or {}), **more}))


def history_fields(signature: Signature) -> tuple[str, ...]:
    """Names of the inputs that are histories."""
    return tuple(each.name for each in signature.inputs if each.type.without_none.cls is History)
