"""What callers say of a module, as configuration takes it: classes and functions by their import paths."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, cast

from pydantic import ValidationError

from ...actors.configuration.settings import ModuleSettings
from ...actors.configuration.types import is_table
from ...actors.evaluation.scoring import reference_of
from ...actors.foreign_code import load, path_of
from ...actors.modules.program import Module
from ...actors.modules.program_parts import check_program, signature_of
from ...actors.signatures.signature import Signature
from ...runtime.errors import ConfigError, DefinitionError, did_you_mean


def declared_settings(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Settings in which ``signature``, ``program``, ``metric`` and ``tools`` may be the things themselves.

    Raises:
        ConfigError: one of them is not at the top of a module, where it is found again after a restart; or it is
            something else, or stands under a name that no setting has.
    """
    found = dict(settings)
    for name, value in found.items():
        if callable(value) and name not in ModuleSettings.model_fields:
            raise _refuse("a setting of a module", f"{name!r}{did_you_mean(name, ModuleSettings.model_fields)}", name)
    signature = found.get("signature")
    if isinstance(signature, type) and issubclass(signature, Module):
        raise _refuse("a signature", f"the program {signature.__name__}; app.start_program takes it", "signature")
    if isinstance(signature, Signature):
        found["signature"] = signature.text
        if signature.instructions is not None:
            found.setdefault("instructions", signature.instructions)
    if callable(program := found.get("program")):
        found["program"] = path_of(program, "program")
    if callable(metric := found.get("metric")):
        found["metric"] = reference_of(metric) or path_of(metric, "metric")
    tools = found.get("tools")
    if callable(tools) or is_table(tools):
        raise _refuse("a list of tools", "one that is not in a list", "tools")
    if isinstance(tools, Iterable) and not isinstance(tools, str | Mapping):
        each = enumerate(cast("Iterable[object]", tools))
        found["tools"] = [_tool(tool, f"tools[{index}]") for index, tool in each]
    return found


def check_settings(settings: Mapping[str, Any]) -> None:
    """Refuse at once what would be refused when the module's actor starts. May import what the settings name.

    What configuration refuses is left to it, and what only a child process can tell to that.

    Raises:
        ConfigError: a setting is malformed, missing, or of another kind of module.
        SignatureError: a worked example does not fit the signature.
        LMInvalidRequest: a sampling option is out of range.
    """
    from ...actors.modules.plan import ModulePlan  # noqa: PLC0415 - with its libraries, only where it is used

    try:
        told = ModuleSettings.model_validate(settings)
    except ValidationError:
        return
    if settings.get("placement") != "process":
        ModulePlan.configured(told)


def program_settings(program: object, settings: Mapping[str, Any]) -> dict[str, Any]:
    """The settings of a module that is a program.

    Args:
        program: its class, or the import path of that.
        settings: the others; ``signature`` is that of the class if it is not given.

    Raises:
        ConfigError: it is no program, or none that can be imported.
        SignatureError: its signature cannot be told.
    """
    found = load(program, "program") if isinstance(program, str) else program
    try:
        cls = check_program(found)
    except DefinitionError as error:
        raise ConfigError(error.message, path="program") from error
    path = program if isinstance(program, str) else path_of(cls, "program")
    return {"signature": signature_of(cls).text, **declared_settings(settings), "kind": "program", "program": path}


def _tool(tool: object, at: str) -> object:
    if is_table(tool):
        message = tool.get("message")
        if isinstance(message, type):
            return {**tool, "message": path_of(message, f"{at}.message")}
        if callable(message):
            raise _refuse("the class of a message", "a function, which is a tool by itself", f"{at}.message")
        return dict(tool)
    if not callable(tool) and not isinstance(tool, str):
        raise _refuse("a function, its import path, or a table of actor and message", type(tool).__name__, at)
    return path_of(tool, at) if callable(tool) else tool


def _refuse(expected: str, got: str, path: str) -> ConfigError:
    return ConfigError(f"expected {expected}, got {got}, at {path}", path=path, expected=expected, got=got)
