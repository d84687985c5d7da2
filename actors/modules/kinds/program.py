"""program: a class of the user, with named predictors and a ``forward`` of its own."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from ....runtime.errors import ConfigError, DefinitionError, SignatureError
from ...foreign_code import guarded, load
from ...signatures.compatible import check_last
from ...signatures.signature import Signature
from ...signatures.values import check_outputs
from ..kind import Answer, LastCall
from ..program import Module, run_forward
from ..program_parts import at_work, check_program, predictors_of

if TYPE_CHECKING:
    from ..model_calls import ModelCalls
    from ..plan import ModulePlan


@dataclass(frozen=True, slots=True)
class ProgramKind:
    """A program.

    Args:
        program: its class below ``dspex.Module``, or the import path of that.

    Raises:
        ConfigError: there is none, or it is no program.
    """

    program: Any
    _class: type[Module] = field(init=False, repr=False, compare=False)
    _predictors: Mapping[str, Signature] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        found = load(self.program, "program") if isinstance(self.program, str) else self.program
        try:
            cls = check_program(found)
        except DefinitionError as error:
            raise ConfigError(error.message, path="program") from error
        object.__setattr__(self, "_class", cls)
        object.__setattr__(self, "_predictors", predictors_of(cls))

    @property
    def name(self) -> str:
        """The word that chooses it."""
        return "program"

    def signature(self, given: Signature) -> Signature:
        """The declared one."""
        return given

    def predictors(self, given: Signature) -> Mapping[str, Signature]:
        """Those that the class declares."""
        return self._predictors

    async def answer(self, calls: ModelCalls, inputs: Mapping[str, Any]) -> Answer:
        """Run ``forward``.

        Raises:
            Error: it raised one of dspex.
            RemoteError: it raised something else.
            SignatureError: its answer has not the outputs of the module's signature.
        """
        work = guarded(f"the program {self._class.__qualname__}", self._run(calls, inputs))
        answer = await work
        try:
            check_answer(answer, calls.plan, f"{self._class.__qualname__}.forward, output")
        except SignatureError as error:
            raise SignatureError(f"{error.message}{self._hint(answer, calls.plan)}", **error.facts) from None
        return answer

    def _hint(self, answer: Answer, plan: ModulePlan) -> str:
        """How outputs are declared, where they were only taken from the last predictor."""
        last, outputs = list(self._predictors.items())[-1], plan.signature.output_names
        if self._class.signature is not None or last[1].output_names != outputs:
            return ""
        given = plan.predictors[answer.predictor].signature.output_names if isinstance(answer, LastCall) else answer
        declared = f"{', '.join(plan.signature.input_names)} -> {', '.join(given)}"
        return (
            f"; its outputs are those of the predictor declared last, {last[0]!r}, as the class has no signature of "
            f"its own: signature = {declared!r}"
        )

    async def _run(self, calls: ModelCalls, inputs: Mapping[str, Any]) -> Answer:
        try:
            return await run_forward(at_work(self._class, calls), inputs)
        finally:
            calls.end()


def check_answer(answer: Answer, plan: ModulePlan, where: str) -> None:
    """Refuse an answer without the outputs that the module declares; it may have more.

    Raises:
        SignatureError: an output is missing or of another type (facts: field, expected, got).
    """
    if plan.checking == "none":
        return
    if isinstance(answer, LastCall):
        check_last(plan.predictors[answer.predictor].signature, plan.signature, f"{where} of {answer.predictor}")
    else:
        check_outputs(plan.signature, answer, where)
