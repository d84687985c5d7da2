"""Programs: a class with named predictors and an ``async def forward``; one instance serves one call.

::

    class Chain(dspex.Module):
        draft = dspex.Predict("question -> draft")
        check = dspex.ChainOfThought("question, draft -> answer")

        async def forward(self, question: str):
            first = await self.draft(question=question)
            return self.check.last(question=question, draft=first.draft)
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar, TypeGuard, overload

from ..runtime.errors import DefinitionError, SignatureError
from .module_kind import Answer, LastCall
from .prediction import Prediction
from .reasoning import with_reasoning
from .settings_types import is_table
from .signature import Signature
from .signature_class import type_of
from .signature_field import Field
from .signature_types import STR
from .signature_values import check_inputs

if TYPE_CHECKING:
    from .model_calls import ModelCalls


class Predict:
    """Declares a predictor of a program.

    Args:
        signature: what it takes and gives.
        instructions: what its model is to do, in the place of the signature's own.

    Raises:
        SignatureError: the signature is malformed.
    """

    def __init__(self, signature: str | Signature | type[Signature], instructions: str | None = None) -> None:
        self.signature = Signature(signature, instructions)
        self.name = ""

    def __set_name__(self, owner: type, name: str) -> None:
        self.name = name

    @overload
    def __get__(self, program: None, owner: type | None = None) -> Predict: ...

    @overload
    def __get__(self, program: Module, owner: type | None = None) -> Predictor: ...

    def __get__(self, program: Module | None, owner: type | None = None) -> Predict | Predictor:
        """On the class the declaration, on an instance what is called."""
        return self if program is None else Predictor(program, self)


class ChainOfThought(Predict):
    """Declares a predictor whose model writes its ``reasoning`` before its answer."""

    def __init__(self, signature: str | Signature | type[Signature], instructions: str | None = None) -> None:
        super().__init__(signature, instructions)
        self.signature = with_reasoning(self.signature)


class Predictor:
    """A predictor of a program that is at work: ``await self.draft(question=...)``."""

    def __init__(self, program: Module, declared: Predict) -> None:
        self._program, self._declared = program, declared

    async def __call__(self, /, **inputs: Any) -> Prediction:
        """Ask it, in a span of its own below the program's.

        Raises:
            SignatureError: an input is missing, unknown or of the wrong type.
            ParseError, LMError, CallError: there is no answer.
        """
        return await self._program.dspex_calls.predict_within(self._declared.name, inputs)

    def last(self, /, **inputs: Any) -> LastCall:
        """To be returned by ``forward``: its answer is the program's, and is streamed if that was asked for.

        Raises:
            SignatureError: an input is missing, unknown or of the wrong type.
        """
        return LastCall(self._declared.name, check_inputs(self._declared.signature, inputs))


class Module:
    """Base of programs. The class is called without arguments, once for each call that the module serves.

    Attributes:
        signature: what the program takes and gives, as text or value; if it is not given, the parameters of ``forward``
            that have no default, and the outputs of the predictor that was declared last.
    """

    signature: ClassVar[str | Signature | None] = None
    dspex_calls: ModelCalls

    async def forward(self, *args: Any, **inputs: Any) -> Prediction | LastCall | Mapping[str, Any]:
        """To be overridden: a prediction, a mapping of its fields, or ``self.<predictor>.last(...)``."""
        raise DefinitionError(f"expected 'async def forward' in {type(self).__qualname__}, got none")

    async def call_module(self, id: str, /, **inputs: Any) -> Prediction:
        """Ask another module, ``module/<id>``; what it uses counts here too.

        Raises:
            Error: as a call of that module.
        """
        return await self.dspex_calls.module(id, inputs)

    async def call(self, name: str, message: Any, *, timeout: float | None = None) -> Any:
        """Ask any actor.

        Args:
            name: its registered name.
            message: what to ask.
            timeout: seconds; never longer than what is left of the call that is served.

        Raises:
            CallError: there is no answer, or the error the actor failed with.
        """
        return await self.dspex_calls.actor.call(name, message, timeout=timeout)


def predictors_of(program: type[Module]) -> dict[str, Signature]:
    """The predictors of a program by name, in the order of their declaration, those of base classes first."""
    found: dict[str, Signature] = {}
    for cls in reversed(program.__mro__):
        found.update({name: each.signature for name, each in vars(cls).items() if isinstance(each, Predict)})
    return found


def check_program(program: object, at: str = "program") -> type[Module]:
    """A program's class, checked.

    Raises:
        DefinitionError: it is no subclass of :class:`Module`, has no predictor, or no ``async def forward``.
    """
    if not _is_program(program):
        got = getattr(program, "__qualname__", type(program).__name__)
        raise DefinitionError(f"expected a class below dspex.Module, got {got}, at {at}")
    forward = program.forward
    if forward is Module.forward or not inspect.iscoroutinefunction(forward):
        raise DefinitionError(f"expected 'async def forward' in {program.__qualname__}, got none, at {at}")
    if not predictors_of(program):
        raise DefinitionError(f"expected a predictor in {program.__qualname__}, got none, at {at}")
    return program


def _is_program(thing: object) -> TypeGuard[type[Module]]:
    return isinstance(thing, type) and issubclass(thing, Module) and thing is not Module


def signature_of(program: type[Module]) -> Signature:
    """What a program takes and gives.

    Raises:
        SignatureError: it is malformed, or cannot be told from ``forward``.
    """
    if program.signature is not None:
        return Signature(program.signature)
    inputs: list[Field] = []
    for name, parameter in list(inspect.signature(program.forward, eval_str=True).parameters.items())[1:]:
        if parameter.kind in (parameter.VAR_KEYWORD, parameter.VAR_POSITIONAL):
            expected = "a signature, as forward takes more than named parameters"
            where = f"{program.__qualname__}.forward, parameter {name!r}"
            raise SignatureError(f"expected {expected}, got none, at {where}", expected=expected, got=None, field=name)
        if parameter.default is parameter.empty:
            untyped = parameter.annotation is parameter.empty
            inputs.append(Field(name, STR if untyped else type_of(parameter.annotation)))
    last = list(predictors_of(program).values())[-1]
    return Signature.of(inputs, last.outputs)


async def run_program(program: type[Module], calls: ModelCalls, inputs: Mapping[str, Any]) -> Answer:
    """Run ``forward`` on an instance of its own.

    Raises:
        Exception: whatever it raised.
        SignatureError: it returned no fields.
    """
    work = program()
    work.dspex_calls = calls
    found: object = await work.forward(**inputs)
    if isinstance(found, Prediction | LastCall):
        return found
    if is_table(found):
        return Prediction(found)
    expected = "a prediction, a mapping of fields or the last call of a predictor"
    got = type(found).__name__
    raise SignatureError(f"expected {expected}, got {got}, from {program.__qualname__}.forward", expected=expected)
