"""Programs: a class with named predictors and an ``async def forward``; one instance serves one call.

::

    class Chain(dspex.Module):
        draft = dspex.Predict("question -> draft")
        check = dspex.ChainOfThought("question, draft -> answer")

        async def forward(self, question: str):
            first = await self.draft(question=question)
            return self.check.last(question=question, draft=first.draft)

How its predictors are found and named stands in ``program_parts.py``.
"""

from __future__ import annotations

import copy
import inspect
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Never

from ...runtime.errors import DefinitionError, SignatureError
from ..configuration.types import is_table
from ..signatures.signature import Signature
from ..signatures.values import check_inputs, refuse_unnamed
from .kind import Answer, LastCall
from .prediction import Prediction
from .reasoning import with_reasoning

if TYPE_CHECKING:
    from .model_calls import ModelCalls


class Predict:
    """A predictor of a program; declared as an attribute, called in ``forward``: ``await self.draft(question=...)``.

    Args:
        signature: what it takes and gives.
        instructions: what its model is to do, in the place of the signature's own.

    Raises:
        SignatureError: the signature is malformed.
    """

    def __init__(self, signature: str | Signature | type[Signature], instructions: str | None = None) -> None:
        self.signature = Signature(signature, instructions)
        self._at_work: tuple[ModelCalls, str] | None = None

    def at_work(self, calls: ModelCalls, name: str) -> Predict:
        """The same for one call of the program, in which it has this name."""
        bound = copy.copy(self)
        bound._at_work = (calls, name)
        return bound

    async def __call__(self, /, *unnamed: Never, **inputs: Any) -> Prediction:
        """Ask it, in a span of its own below the program's.

        Raises:
            SignatureError: an input is missing, unknown, of the wrong type or without a name.
            ParseError, LMError, CallError: there is no answer.
            DefinitionError: this is not within the program's ``forward``.
        """
        calls, name = self._working()
        refuse_unnamed(unnamed, self.signature.input_names, name)
        return await calls.predict_within(name, inputs)

    def last(self, /, *unnamed: Never, **inputs: Any) -> LastCall:
        """To be returned by ``forward``: its answer is the program's, and is streamed if that was asked for.

        Raises:
            SignatureError: an input is missing, unknown, of the wrong type or without a name.
            DefinitionError: this is not within the program's ``forward``.
        """
        _, name = self._working()
        refuse_unnamed(unnamed, self.signature.input_names, name)
        return LastCall(name, check_inputs(self.signature, inputs))

    def _working(self) -> tuple[ModelCalls, str]:
        if self._at_work is None:
            raise _not_at_work(f"the predictor {str(self.signature)!r}")
        return self._at_work


class ChainOfThought(Predict):
    """A predictor whose model writes its ``reasoning`` before its answer."""

    def __init__(self, signature: str | Signature | type[Signature], instructions: str | None = None) -> None:
        super().__init__(signature, instructions)
        self.signature = with_reasoning(self.signature)


class Module:
    """Base of programs. The class is called without arguments, once for each call that the module serves.

    A program may have others as parts: ``await self.part(question=...)``.

    Attributes:
        signature: what the program takes and gives, as text or value; if it is not given, the parameters of ``forward``
            that have no default, and the outputs of the predictor that was declared last.
    """

    signature: ClassVar[str | Signature | None] = None
    dspex_calls: ModelCalls | None = None

    async def forward(self, *args: Any, **inputs: Any) -> Prediction | LastCall | Mapping[str, Any]:
        """To be overridden: a prediction, a mapping of its fields, or ``self.<predictor>.last(...)``."""
        raise DefinitionError(f"expected 'async def forward' in {type(self).__qualname__}, got none")

    async def __call__(self, /, *unnamed: Never, **inputs: Any) -> Prediction:
        """Run this program as a part of another one.

        Raises:
            Exception: whatever its ``forward`` raises.
            SignatureError: that returned no fields, or an input has no name.
        """
        if unnamed:
            refuse_unnamed(unnamed, inspect.signature(self.forward).parameters, type(self).__qualname__)
        answer = await run_forward(self, inputs)
        if isinstance(answer, Prediction):
            return answer
        return await self._working().predict_within(answer.predictor, answer.inputs)

    async def call_module(self, id: str, /, *unnamed: Never, **inputs: Any) -> Prediction:
        """Ask another module, ``module/<id>``; what it uses counts here too.

        Raises:
            Error: as a call of that module.
        """
        refuse_unnamed(unnamed, (), f"module/{id}")
        return await self._working().module(id, inputs)

    async def call(self, name: str, message: Any, *, timeout: float | None = None) -> Any:
        """Ask any actor.

        Args:
            name: its registered name.
            message: what to ask.
            timeout: seconds; never longer than what is left of the call that is served.

        Raises:
            CallError: there is no answer, or the error the actor failed with.
        """
        return await self._working().ask(name, message, timeout=timeout)

    def _working(self) -> ModelCalls:
        if self.dspex_calls is None:
            raise _not_at_work(f"the program {type(self).__qualname__}")
        return self.dspex_calls


async def run_forward(work: Module, inputs: Mapping[str, Any]) -> Answer:
    """Run ``forward`` of an instance that is at work.

    Raises:
        Exception: whatever it raised.
        SignatureError: it returned no fields.
    """
    found: object = await work.forward(**inputs)
    if isinstance(found, Prediction | LastCall):
        return found
    if is_table(found):
        return Prediction(found)
    expected = "a prediction, a mapping of fields or the last call of a predictor"
    got, where = type(found).__name__, f"{type(work).__qualname__}.forward"
    raise SignatureError(f"expected {expected}, got {got}, from {where}", expected=expected, got=got)


def _not_at_work(what: str) -> DefinitionError:
    return DefinitionError(
        f"expected {what} to be called by the forward of a running program, whose attribute it is (start that with "
        "app.start_program), got a call from elsewhere"
    )
