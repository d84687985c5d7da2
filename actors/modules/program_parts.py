"""What a program is made of: its predictors, found by their places and named by them.

========================================= ===========================
attribute of the class or of the instance name of the predictor
========================================= ===========================
``draft = Predict(...)``                  ``draft``
``hops = [Predict(...), Predict(...)]``   ``hops[0]``, ``hops[1]``
``by = {"en": Predict(...)}``             ``by['en']``
``part = Other()``, a program             ``part.draft``
========================================= ===========================

A thing that stands in two places has the name of the first one; but what a class declares is each instance's own. Of a
list, tuple or dict the first entry tells whether it holds parts.
"""

from __future__ import annotations

import copy
import inspect
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, TypeAlias, TypeGuard, cast

from ...runtime.errors import DefinitionError, SignatureError
from ..signatures.class_form import type_of
from ..signatures.field import Field
from ..signatures.signature import Signature
from ..signatures.types import STR
from .program import Module, Predict

if TYPE_CHECKING:
    from .model_calls import ModelCalls

Part: TypeAlias = Predict | Module


def at_work(program: type[Module], calls: ModelCalls) -> Module:
    """An instance of a program for one call, whose predictors ask with ``calls``."""
    return _Walk(lambda found, name: found.at_work(calls, name), calls).whole(program())


def predictors_of(program: type[Module]) -> dict[str, Signature]:
    """The predictors of a program by name: those of the class first, of base classes before it, in their order.

    Raises:
        DefinitionError: the class cannot be called without arguments, or a part has no ``async def forward``.
    """
    found: dict[str, Signature] = {}

    def note(each: Predict, name: str) -> Predict:
        found[name] = each.signature
        return each

    try:
        work = program()
    except Exception as error:  # fault boundary: the class is the user's; what it raises is told as what it is
        message = f"expected a class that can be called without arguments, got {type(error).__name__}: {error}"
        raise DefinitionError(f"{message}, at {program.__qualname__}") from error
    _Walk(note).whole(work)
    return found


def classes_of(program: type[Module]) -> list[type[Module]]:
    """The class of a program, and those of the programs that are its parts."""
    walk = _Walk(lambda found, name: found)
    walk.whole(program())
    return list(dict.fromkeys(type(each) for each in walk.made.values() if isinstance(each, Module)))


class _Walk:
    """One walk through the parts of an instance; each is replaced by what the walk makes of it.

    Args:
        visit: what is made of a predictor with this name.
        calls: what programs work with from then on.

    Attributes:
        made: the parts, by whose each is (0 or the id of an instance) and what it was made of; all outlive the walk.
    """

    def __init__(self, visit: Callable[[Predict, str], Predict], calls: ModelCalls | None = None) -> None:
        self._visit, self._calls = visit, calls
        self.made: dict[tuple[int, int], object] = {}

    def whole(self, given: Module) -> Module:
        """The program itself."""
        made = self.made[0, id(given)] = self._copy(given, "")
        return self._fill(made, given, "")

    def _copy(self, given: Module, name: str) -> Module:
        """A shallow copy, so that no two calls share an attribute."""
        if not _has_forward(type(given)):
            raise DefinitionError(f"expected 'async def forward' in {type(given).__qualname__}, got none, at {name}")
        made = copy.copy(given)
        made.dspex_calls = self._calls
        return made

    def _fill(self, made: Module, given: Module, name: str) -> Module:
        own = vars(given)
        for key, value in _attributes(given):
            whose = 0 if key in own else id(given)
            setattr(made, key, self._part(value, f"{name}.{key}" if name else key, whose))
        return made

    def _part(self, given: object, name: str, whose: int) -> object:
        if isinstance(given, Part):
            return self._one(given, name, whose)
        if isinstance(given, dict):
            entries = cast("dict[object, object]", given)
            return {key: self._entry(each, f"{name}[{key!r}]", whose) for key, each in entries.items()}
        several = enumerate(cast("list[object] | tuple[object, ...]", given))
        made = [self._entry(each, f"{name}[{index}]", whose) for index, each in several]
        return made if isinstance(given, list) else tuple(made)

    def _entry(self, given: object, name: str, whose: int) -> object:
        return self._one(given, name, whose) if isinstance(given, Part) else given

    def _one(self, given: Part, name: str, whose: int) -> object:
        key = whose, id(given)
        if key in self.made:
            return self.made[key]
        if isinstance(given, Predict):
            self.made[key] = self._visit(given, name)
        else:
            self.made[key] = made = self._copy(given, name)
            self._fill(made, given, name)
        return self.made[key]


def _attributes(work: Module) -> Iterator[tuple[str, object]]:
    """The attributes that are parts or hold such, as an instance sees them."""
    seen: dict[str, object] = {}
    for cls in reversed(type(work).__mro__):
        if cls not in {Module, object}:
            seen.update(vars(cls))
    seen.update(vars(work))
    return ((name, value) for name, value in seen.items() if _holds_parts(value))


def _holds_parts(value: object) -> bool:
    if isinstance(value, Part):
        return True
    if type(value) in (list, tuple):
        several = cast("list[object] | tuple[object, ...]", value)
        return bool(several) and isinstance(several[0], Part)
    if type(value) is dict:
        entries = cast("dict[object, object]", value)
        return isinstance(next(iter(entries.values()), None), Part)
    return False


def check_program(program: object, at: str = "program") -> type[Module]:
    """A program's class, checked.

    Raises:
        DefinitionError: it is no subclass of :class:`Module`, cannot be called without arguments, has no predictor, or
            no ``async def forward``.
    """
    if not _is_program(program):
        kind = type(program)
        got = f"an instance of {kind.__qualname__}" if isinstance(program, Module) else kind.__name__
        got = program.__qualname__ if isinstance(program, type) else got
        raise DefinitionError(f"expected a class below dspex.Module, got {got}, at {at}")
    if not _has_forward(program):
        raise DefinitionError(f"expected 'async def forward' in {program.__qualname__}, got none, at {at}")
    try:
        found = predictors_of(program)
    except DefinitionError as error:
        raise DefinitionError(f"{error.message}, at {at}") from error.__cause__
    if not found:
        raise DefinitionError(f"expected a predictor in {program.__qualname__}, got none, at {at}")
    return program


def _is_program(thing: object) -> TypeGuard[type[Module]]:
    return isinstance(thing, type) and issubclass(thing, Module) and thing is not Module


def _has_forward(program: type[Module]) -> bool:
    return program.forward is not Module.forward and inspect.iscoroutinefunction(program.forward)


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
