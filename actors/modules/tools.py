"""Tools that a model may call: functions, and actors that take a message.

::

    "package.module:function"                           a function, plain or async, by import path (or itself)
    {actor = "tool/search", message = "shop:Search"}    an actor, told by a message of this class

Arguments are checked against the function's parameters or the class's fields before anything runs. A parameter without
a type has that of its default, or is text.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, is_dataclass
from typing import Any, Final, cast, get_type_hints

from pydantic import BaseModel, ConfigDict, Field, PydanticUserError, TypeAdapter, ValidationError, create_model
from pydantic.errors import PydanticSchemaGenerationError

from ...runtime.errors import ConfigError, did_you_mean
from ...runtime.gen_server import GenServer
from ..configuration.types import is_table
from ..foreign_code import load

_NAME: Final = re.compile(r"[A-Za-z0-9_-]{1,64}")
_WORD: Final = re.compile(r"(?<=[a-z0-9])(?=[A-Z])")
_PLAIN: Final = (int, float, bool)
_TOLD: Final = 5
LONGEST: Final = 200_000
"""Characters of a tool's arguments; to say what is wrong with more could take seconds."""
_KEYS: Final = ("actor", "message", "name", "description")

Runner = Callable[[GenServer, Any, float], Awaitable[Any]]


class BadArgumentsError(ValueError):
    """Arguments do not fit a tool; what is wrong with them, for the model."""


@dataclass(frozen=True, slots=True)
class Tool:
    """One tool.

    Attributes:
        name: by which the model calls it.
        description: what it is good for.
        parameters: JSON schema of its arguments.
        read: makes the arguments of JSON text.
        run: runs it for an actor, with these arguments, within so many seconds.
    """

    name: str
    description: str
    parameters: Mapping[str, Any]
    read: Callable[[str], Any]
    run: Runner

    @property
    def offer(self) -> dict[str, Any]:
        """What a model is told of it, in OpenAI's form."""
        function = {"name": self.name, "description": self.description, "parameters": self.parameters}
        return {"type": "function", "function": function}

    def arguments(self, text: str) -> Any:
        """The arguments that a model wrote, checked.

        Raises:
            BadArgumentsError: they do not fit.
        """
        if len(text) > LONGEST:
            raise BadArgumentsError(f"arguments: at most {LONGEST} characters, not {len(text)}")
        try:
            return self.read(text.strip() or "{}")
        except ValidationError as error:
            problems = error.errors(include_url=False, include_input=False, include_context=False)
            wrong = [f"{'.'.join(map(str, each['loc'])) or 'arguments'}: {each['msg']}" for each in problems[:_TOLD]]
            more = [f"and {len(problems) - _TOLD} more"] if len(problems) > _TOLD else []
            raise BadArgumentsError("; ".join(wrong + more)) from None


def make_tool(given: object, at: str = "tools") -> Tool:
    """A tool from what a setting says.

    Args:
        given: a function, its import path, or a mapping of ``actor``, ``message``, perhaps ``name``, ``description``.
        at: where it stands, for errors.

    Raises:
        ConfigError: there is no such function or class, or its parameters cannot be described.
    """
    try:
        if is_table(given):
            return _of_actor(given, at)
        found = load(given, at) if isinstance(given, str) else given
        if not inspect.isroutine(found):
            raise _refuse("a function, or a table of actor and message", type(found).__name__, at)
        return _of_function(found, at)
    except ConfigError:
        raise
    except (PydanticSchemaGenerationError, PydanticUserError, NameError, ValueError) as error:
        raise _refuse("parameters of types that JSON can carry", str(error).partition("\n")[0], at) from error


def _of_function(function: Callable[..., Any], at: str) -> Tool:
    name = getattr(function, "__name__", "")
    model = _model_of(function, at)
    asynchronous = inspect.iscoroutinefunction(function)

    def read(text: str) -> dict[str, Any]:
        read = model.model_validate_json(text)
        return {model.model_fields[each].alias or each: getattr(read, each) for each in model.model_fields}

    async def run(actor: GenServer, arguments: dict[str, Any], seconds: float) -> Any:
        if asynchronous:
            return await function(**arguments)
        return await actor.run_blocking(lambda: function(**arguments))

    return _tool(name, inspect.getdoc(function) or "", _schema(TypeAdapter(model)), read, run, at)


def _model_of(function: Callable[..., Any], at: str) -> type[BaseModel]:
    hints = get_type_hints(function, include_extras=True)
    fields: dict[str, Any] = {}
    for number, (name, parameter) in enumerate(inspect.signature(function).parameters.items()):
        if parameter.kind not in (parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY):
            raise _refuse("named parameters", f"{parameter} of {getattr(function, '__name__', function)}", at)
        default = ... if parameter.default is parameter.empty else parameter.default
        unsaid = cast("type[object]", type(default)) if type(default) in _PLAIN else str
        # Under names of our own: a parameter may be called as something that models already have.
        fields[f"p{number}"] = (hints.get(name, unsaid), Field(default, alias=name))
    return create_model("Arguments", __config__=ConfigDict(extra="forbid"), **fields)


def _of_actor(given: Mapping[str, Any], at: str) -> Tool:
    for key in given:
        if key not in _KEYS:
            raise _refuse(f"the keys {', '.join(_KEYS)}", f"{key!r}{did_you_mean(str(key), _KEYS)}", at)
    target, message = given.get("actor"), given.get("message")
    if not isinstance(target, str) or not target:
        raise _refuse("the name of an actor", repr(target), f"{at}.actor")
    found: object = load(message, f"{at}.message") if isinstance(message, str) else message
    if not isinstance(found, type) or not (is_dataclass(found) or issubclass(found, BaseModel)):
        raise _refuse("a dataclass or a pydantic model", str(message), f"{at}.message")
    cls: type[Any] = found
    adapter: TypeAdapter[Any] = TypeAdapter(cls)

    async def run(actor: GenServer, arguments: Any, seconds: float) -> Any:
        return await actor.call(target, arguments, timeout=seconds)

    name = given.get("name") or _WORD.sub("_", cls.__name__).lower()
    description = given.get("description") or inspect.getdoc(cls) or ""
    return _tool(name, description, _schema(adapter), adapter.validate_json, run, at)


def _schema(adapter: TypeAdapter[Any]) -> dict[str, Any]:
    schema = adapter.json_schema()
    for key in ("title", "description"):
        schema.pop(key, None)
    schema.setdefault("properties", {})
    return schema


def _tool(
    name: object, description: object, parameters: dict[str, Any], read: Callable[[str], Any], run: Runner, at: str
) -> Tool:
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise _refuse("a name of letters, digits, _ and -, at most 64", repr(name), at)
    if not isinstance(description, str):
        raise _refuse("text", repr(description), f"{at}.description")
    return Tool(name, description, parameters, read, run)


def _refuse(expected: str, got: str, at: str) -> ConfigError:
    return ConfigError(f"expected {expected}, got {got}, at {at}", path=at, expected=expected, got=got)
