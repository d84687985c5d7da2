"""Handlers: the ``@call``, ``@cast`` and ``@info`` decorators, and the table a class makes of them.

The message class is the annotation of a handler's first argument, read when the actor class is
defined; a mistake is a :class:`~.errors.DefinitionError` at import, never silence at run time.
"""

from __future__ import annotations

import inspect
import sys
import types
import typing
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar, Union

from thespian.actors import ActorExitRequest
from thespian.system.messages.status import Thespian_StatusReq

from .errors import DefinitionError
from .messages import SystemMessage

F = TypeVar("F", bound=Callable[..., Any])

KINDS = ("call", "cast", "info")
FOR_THE_ENGINE = (SystemMessage, ActorExitRequest, Thespian_StatusReq)
"""What the engine answers itself, for every actor."""


def call(handler: F) -> F:
    """Mark a handler whose return value is the reply. Special returns: NoReply, Stop, Continue, Fail."""
    return _mark(handler, "call")


def cast(handler: F) -> F:
    """Mark a handler that answers nothing. May return None, Stop or Continue."""
    return _mark(handler, "cast")


def info(handler: F) -> F:
    """Mark a handler for plain sends, timers, ``Down``, ``ExitSignal``, ``Reply`` and task results."""
    return _mark(handler, "info")


def _mark(handler: F, kind: str) -> F:
    handler.__dspex_kind__ = kind  # type: ignore[attr-defined]
    return handler


@dataclass(frozen=True, slots=True)
class Handler:
    """One handler of one class: the plain function, and whether it is a coroutine function."""

    function: Callable[..., Any]
    is_async: bool


class HandlerTable(dict[type, Handler | None]):
    """Message class to handler. A subclass of a handled class is found once, then remembered."""

    def __missing__(self, message_type: type) -> Handler | None:
        found: Handler | None = None
        if not issubclass(message_type, FOR_THE_ENGINE):  # not even for a handler of ``object``
            found = next((handler for base in message_type.__mro__[1:] if (handler := self.get(base))), None)
        self[message_type] = found
        return found


def build_tables(cls: type) -> dict[str, HandlerTable]:
    """Collect the handlers of ``cls`` and its bases, the nearest definition winning.

    Raises:
        DefinitionError: a handler is unannotated, its annotation does not resolve, it takes other
            than one message, or two handlers of one kind take the same message class.
    """
    tables = {kind: HandlerTable() for kind in KINDS}
    for base in reversed(cls.__mro__):
        own: dict[tuple[str, type], str] = {}
        for attribute, function in vars(base).items():
            kind = getattr(function, "__dspex_kind__", None)
            if kind is None:
                continue
            effective = inspect.getattr_static(cls, attribute)
            handler = Handler(effective, inspect.iscoroutinefunction(effective))
            for message_type in message_types(base, function):
                if (kind, message_type) in own:
                    raise DefinitionError(
                        f"{base.__qualname__}: both {own[kind, message_type]} and {attribute} are @{kind} handlers "
                        f"of {message_type.__qualname__}; expected one",
                        actor=base.__qualname__,
                        message_type=message_type.__qualname__,
                    )
                own[kind, message_type] = attribute
                tables[kind][message_type] = handler
    return tables


def message_types(owner: type, function: Callable[..., Any]) -> tuple[type, ...]:
    """The classes that the first argument's annotation names (a union names several)."""
    where = f"{owner.__qualname__}.{function.__name__}"
    parameters = list(inspect.signature(function).parameters.values())[1:]
    required = [p for p in parameters if p.default is p.empty and p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)]
    if not parameters or len(required) > 1:
        raise DefinitionError(f"{where}: a handler takes exactly one message, got {len(required)} parameters")
    if parameters[0].annotation is inspect.Parameter.empty:
        raise DefinitionError(f"{where}: expected the message class as annotation of {parameters[0].name!r}, got none")
    annotation = _resolve(where, owner, function, parameters[0].annotation)
    if typing.get_origin(annotation) in (Union, types.UnionType):
        return tuple(_as_class(where, part) for part in typing.get_args(annotation))
    return (_as_class(where, annotation),)


def _resolve(where: str, owner: type, function: Callable[..., Any], annotation: Any) -> Any:
    scope = {**vars(sys.modules[function.__module__]), owner.__name__: owner}
    scope.update(_enclosing_locals(function))
    try:
        while isinstance(
            annotation, str
        ):  # twice, where a quoted name stands below `from __future__ import annotations`
            annotation = eval(annotation, scope)  # noqa: S307 - the annotation is the class author's own source text
        return annotation
    except (NameError, AttributeError, SyntaxError, TypeError) as error:
        raise DefinitionError(f"{where}: the annotation {annotation!r} does not resolve: {error}") from error


def _enclosing_locals(function: Callable[..., Any]) -> dict[str, Any]:
    # Classes defined inside a function (tests, notebooks) name message classes of that function's
    # frame; it is still on the stack while the class statement runs.
    found: dict[str, Any] = {}
    outer = function.__qualname__.split(".<locals>")[0].rsplit(".", 1)[-1]
    if "<locals>" not in function.__qualname__:
        return found
    frame = inspect.currentframe()
    while frame is not None:
        if frame.f_globals.get("__name__") == function.__module__:
            found = {**frame.f_locals, **found}
            if frame.f_code.co_name == outer:
                break
        frame = frame.f_back
    return found


def _as_class(where: str, annotation: Any) -> type:
    cls = typing.get_origin(annotation) or annotation
    if not isinstance(cls, type):
        raise DefinitionError(f"{where}: expected a message class as annotation, got {annotation!r}")
    return cls


def check_start_timeout(seconds: object) -> None:
    """Refuse what is no time for a start, before anything is started.

    Raises:
        DefinitionError: neither seconds from 0, nor None.
    """
    if seconds is not None and (not isinstance(seconds, int | float) or isinstance(seconds, bool) or not seconds >= 0):
        raise DefinitionError(f"start_timeout: expected seconds from 0, or None, got {seconds!r}")


def check_limit(where: str, limit: object) -> None:
    """Refuse what is no mailbox limit.

    Raises:
        DefinitionError: neither a number from 1, nor -1, nor None.
    """
    if limit is not None and (not isinstance(limit, int) or isinstance(limit, bool) or limit < -1 or limit == 0):
        raise DefinitionError(f"{where}: expected messages from 1, or -1, or None, got {limit!r}")
