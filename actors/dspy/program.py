"""A DSPy module and what dspex needs of it: signatures, state, one call. Plain code that blocks; not for the loop."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from ...runtime.errors import ConfigError, Error, ParseError, did_you_mean
from ..foreign_code import foreign_error, load
from ..json_values import json_object
from ..modules.program_state import ONLY, PredictorState, ProgramState
from ..optimizers.bench import PredictorCall
from ..signatures.signature import Signature
from .library import dspy

_SELF: Final = "self"
"""DSPy's name for the predictor of a module that is one."""
_TYPES: Final = {str: "str", int: "int", float: "float", bool: "bool"}


@dataclass(frozen=True, slots=True)
class Answered:
    """What a call of a program gave.

    Attributes:
        outputs: its fields.
        calls: its predictors' calls, in the order in which they ended; only if a trace was asked for.
    """

    outputs: Mapping[str, Any]
    calls: tuple[PredictorCall, ...]


class DspyProgram:
    """A ``dspy.Module`` made by a factory.

    Args:
        module: the module.
        signature: what it takes and gives; None if it has one predictor, whose signature it then is.

    Attributes:
        signature: what it takes and gives.
        predictors: signatures by the predictors' names.

    Raises:
        ConfigError: a predictor has an LM of its own, or the signature must be told.
    """

    def __init__(self, module: Any, signature: str | Signature | None = None) -> None:
        self._module = module
        self.predictors: dict[str, Signature] = {}
        for name, predictor in self._named():
            if getattr(predictor, "lm", None) is not None:
                expected = "predictors without an LM of their own, as calls go through the provider actor"
                raise ConfigError(f"expected {expected}, got one, at {name}", path=name, expected=expected)
            self.predictors[name] = _signature(predictor.signature)
        if signature is None and len(self.predictors) != 1:
            expected = 'a signature, as "question -> answer", of a program that has not just one predictor'
            got = ", ".join(self.predictors) or "none"
            raise ConfigError(f"expected {expected}, got the predictors {got}", path="signature", expected=expected)
        self.signature = Signature(signature) if isinstance(signature, str) else signature or _first(self.predictors)

    @classmethod
    def made_by(
        cls, factory: str, signature: str | None = None, state: str | Mapping[str, Any] | None = None
    ) -> DspyProgram:
        """Make a program.

        Args:
            factory: import path of what gives the module when called without arguments, ``"package.module:build"``.
            signature: as above.
            state: of ``module.save("x.json")``: the file's path, or its content; None leaves it as it is made.

        Raises:
            ConfigError: there is no such factory, it gives no module, or the state is none of it.
            RemoteError: the factory failed.
        """
        module = made(factory)
        if state is not None:
            _load_state(module, state)
        return cls(module, signature)

    # -- its state ---------------------------------------------------------------------------------

    @property
    def state(self) -> ProgramState:
        """What its predictors tell their models."""
        return state_of(self._module)

    def with_state(self, state: ProgramState) -> DspyProgram:
        """A copy in another state; predictors that it does not name keep theirs.

        Raises:
            ConfigError: it names a predictor that is not there.
        """
        module = self._module.deepcopy()
        copy = DspyProgram(module, self.signature)
        named = dict(copy._named())
        for name, each in state.predictors.items():
            if name not in named:
                message = f"expected one of {', '.join(named)}, got {name!r}, at state{did_you_mean(name, named)}"
                raise ConfigError(message, path="state", expected=tuple(named), got=name)
            if each.instructions is not None:
                named[name].signature = named[name].signature.with_instructions(each.instructions)
            named[name].demos = [dspy().Example(**demo) for demo in each.demos]
        return copy

    @property
    def writers(self) -> dict[int, tuple[Signature, frozenset[str]]]:
        """By the predictors' ``id()``: their signatures, and which fields of the program's are theirs to write."""
        last = {field: name for name, signature in self.predictors.items() for field in signature.output_names}
        wanted = self.signature.output_names
        return {
            id(predictor): (self.predictors[name], frozenset(each for each in wanted if last.get(each) == name))
            for name, predictor in self._named()
        }

    # -- a call ------------------------------------------------------------------------------------

    def run(self, inputs: Mapping[str, Any], lm: Any, callbacks: list[Any], *, trace: bool = False) -> Answered:
        """Call it, with this LM for all its predictors.

        Raises:
            Error: an actor of ours refused or failed, below whatever DSPy made of it.
            ParseError: the model's answer does not fit.
            RemoteError: the program raised something else.
        """
        library = dspy()
        traced: list[tuple[Any, Mapping[str, Any], Any]] = []
        try:
            with library.context(lm=lm, callbacks=callbacks, trace=traced if trace else [], disable_history=True):
                answer = self._module(**inputs)
        except Exception as error:  # fault boundary: one call's inputs may not end all others that the actor serves
            raise unfolded(error) from error
        if not isinstance(answer, library.Prediction):
            expected, got = "a dspy.Prediction from the program", type(answer).__name__
            raise ParseError(f"expected {expected}, got {got}", expected=expected, got=got)
        names = {id(predictor): name for name, predictor in self._named()}
        calls = [
            PredictorCall(names[id(predictor)], dict(given), dict(gave.items()))
            for predictor, given, gave in traced
            if id(predictor) in names
        ]
        return Answered(dict(answer.items()), tuple(calls))

    def _named(self) -> list[tuple[str, Any]]:
        return _named(self._module)


def made(factory: str) -> Any:
    """The ``dspy.Module`` that a factory gives. Raises as :meth:`DspyProgram.made_by`."""
    library = dspy()  # the first thing that is missing: the factory's module would fail without a hint
    build = load(factory, "factory")
    if not callable(build):
        raise ConfigError(f"expected a function or class, got {factory!r}, at factory", path="factory", got=factory)
    try:
        module: Any = build()
    except Exception as error:  # fault boundary: it is the user's code
        raise foreign_error(factory, error) from error
    if not isinstance(module, library.Module):
        got = type(module).__name__
        raise ConfigError(f"expected a dspy.Module, got {got}, from {factory}", path="factory", got=got)
    return module


def state_of(module: Any) -> ProgramState:
    """What the predictors of a ``dspy.Module`` tell their models."""
    return ProgramState(
        {
            name: PredictorState(predictor.signature.instructions, tuple(map(_demo, predictor.demos)))
            for name, predictor in _named(module)
        }
    )


def _named(module: Any) -> list[tuple[str, Any]]:
    return [(ONLY if name == _SELF else name, predictor) for name, predictor in module.named_predictors()]


def unfolded(error: Exception, what: str = "the program") -> Error:
    """Our own error below what DSPy made of it; of another one, what it says of code that is called so."""
    below: BaseException | None = error
    while below is not None:
        if isinstance(below, Error):
            return below
        below = below.__cause__ or below.__context__
    if type(error).__name__ == "AdapterParseError":
        return ParseError(f"expected the fields of the signature, got another answer: {str(error)[:300]}")
    return foreign_error(what, error)


def _load_state(module: Any, state: str | Mapping[str, Any]) -> None:
    """Load a state that is JSON; a pickle may run any code, and is refused."""
    if isinstance(state, str) and Path(state).suffix != ".json":
        expected = "a .json file of module.save(...), or its content"
        raise ConfigError(f"expected {expected}, got {state!r}, at state", path="state", expected=expected, got=state)
    try:
        if isinstance(state, str):
            module.load(state)
        else:
            module.load_state({key: value for key, value in state.items() if key != "metadata"})
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        message = f"expected the state of this program, got another ({type(error).__name__}: {error}), at state"
        raise ConfigError(message, path="state", expected="the state of this program") from error


def _signature(found: Any) -> Signature:
    def side(fields: Mapping[str, Any]) -> str:
        kinds = {name: _TYPES.get(field.annotation, "str") for name, field in fields.items()}
        return ", ".join(f"{name}: {kind}" for name, kind in kinds.items())

    return Signature(f"{side(found.input_fields)} -> {side(found.output_fields)}", found.instructions)


def _first(predictors: Mapping[str, Signature]) -> Signature:
    return next(iter(predictors.values()))


def _demo(demo: Any) -> dict[str, Any]:
    return {name: value for name, value in json_object(dict(demo.items())).items() if name != "dspy_uuid"}
