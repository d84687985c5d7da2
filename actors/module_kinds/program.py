"""program: a class of the user, with named predictors and a ``forward`` of its own."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from ...runtime.errors import ConfigError, DefinitionError
from ..foreign_code import guarded, load
from ..module_kind import Answer
from ..program import Module, check_program, predictors_of, run_program
from ..signature import Signature

if TYPE_CHECKING:
    from ..model_calls import ModelCalls


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

    def __post_init__(self) -> None:
        found = load(self.program, "program") if isinstance(self.program, str) else self.program
        try:
            object.__setattr__(self, "_class", check_program(found))
        except DefinitionError as error:
            raise ConfigError(error.message, path="program") from error

    @property
    def name(self) -> str:
        """The word that chooses it."""
        return "program"

    def signature(self, given: Signature) -> Signature:
        """The declared one."""
        return given

    def predictors(self, given: Signature) -> Mapping[str, Signature]:
        """Those that the class declares."""
        return predictors_of(self._class)

    async def answer(self, calls: ModelCalls, inputs: Mapping[str, Any]) -> Answer:
        """Run ``forward``.

        Raises:
            Error: it raised one of dspex.
            RemoteError: it raised something else.
        """
        return await guarded(f"the program {self._class.__qualname__}", run_program(self._class, calls, inputs))
