"""What one predictor works with: its signature, its worked examples, and how it is asked. Pure."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Self

from pydantic import ValidationError

from ...runtime.errors import SignatureError
from ..adapter import Adapter
from ..lm.values import Message
from ..signatures.constraints import checker
from ..signatures.signature import Signature
from ..signatures.values import Checking, check_demo, why
from .history import History, history_fields
from .program_state import PredictorState


@dataclass(frozen=True, slots=True, kw_only=True)
class PredictorPlan:
    """What a predictor works with.

    Attributes:
        declared: its signature, without any state.
        signature: the same with the instructions that it has now.
        demos: worked examples, checked against the signature.
        adapter: how prompts are written and answers read.
        checking: how values are held to their types.
        retry_failed_predictions: whether an answer that does not fit is repaired, once.
    """

    declared: Signature
    signature: Signature
    demos: tuple[Mapping[str, Any], ...]
    adapter: Adapter
    checking: Checking
    retry_failed_predictions: bool
    _shown: tuple[Message, ...] = field(default=(), init=False, repr=False, compare=False)

    def messages(self, inputs: Mapping[str, Any]) -> tuple[Message, ...]:
        """The messages that ask for the outputs; a history becomes earlier turns of the same conversation.

        Raises:
            SignatureError: a value cannot be written as text, or a turn of a history does not fit.
        """
        shown, demos = self.signature, self.demos
        histories = history_fields(shown)
        if demos and not histories:
            return self._after_demos(inputs)
        for name in histories:
            past: History | None = inputs.get(name)
            shown = shown.delete(name)
            inputs = {key: value for key, value in inputs.items() if key != name}
            if past is not None:
                demos = (*demos, *checked_demos(shown, past.turns, name))
        return tuple(self.adapter.format(shown, inputs, demos))

    def _after_demos(self, inputs: Mapping[str, Any]) -> tuple[Message, ...]:
        """As :meth:`messages`; what shows the worked examples is the same for each call, and written once."""
        if not self._shown:
            *shown, question = self.adapter.format(self.signature, inputs, self.demos)
            object.__setattr__(self, "_shown", tuple(shown))
        else:
            question = self.adapter.format(self.signature, inputs)[-1]
        return (*self._shown, question)

    @property
    def state(self) -> PredictorState:
        """What it tells its model, as a value that JSON can carry."""
        instructions = self.signature.instructions
        own = None if instructions == self.declared.instructions else instructions
        return PredictorState(own, tuple(plain_fields(self.signature, demo) for demo in self.demos))

    def with_state(self, state: PredictorState, where: str) -> Self:
        """The same with another state.

        Raises:
            SignatureError: a demo does not fit the signature.
        """
        signature = (
            self.declared if state.instructions is None else self.signature.with_instructions(state.instructions)
        )
        demos = [from_plain(self.declared, demo, f"{where}.demos[{index}]") for index, demo in enumerate(state.demos)]
        return replace(self, signature=signature, demos=checked_demos(self.declared, demos, f"{where}.demos"))


def checked_demos(
    signature: Signature, demos: Iterable[Mapping[str, Any]], where: str = "demos"
) -> tuple[Mapping[str, Any], ...]:
    """Worked examples, checked.

    Raises:
        SignatureError: one does not fit the signature.
    """
    return tuple(check_demo(signature, demo, f"{where}[{index}]") for index, demo in enumerate(demos))


def plain_fields(signature: Signature, values: Mapping[str, Any]) -> dict[str, Any]:
    """Values of a signature's fields as JSON."""
    fields = signature.fields
    return {
        name: checker(fields[name].type).dump_python(value, mode="json", warnings=False) if name in fields else value
        for name, value in values.items()
    }


def from_plain(signature: Signature, values: Mapping[str, Any], where: str) -> dict[str, Any]:
    """What :func:`plain_fields` wrote, with the types of the signature; other fields as they are.

    Raises:
        SignatureError: a value is not of its field's type.
    """
    out: dict[str, Any] = {}
    for name, value in values.items():
        field = signature.fields.get(name)
        if field is None:
            out[name] = value
            continue
        try:
            out[name] = checker(field.type, field.constraints).validate_json(json.dumps(value), strict=True)
        except ValidationError as error:
            message = f"expected {field.label}, got {type(value).__name__}, at {where} {name!r}{why(error)}"
            raise SignatureError(message, field=name, expected=field.label, got=type(value).__name__) from None
    return out
