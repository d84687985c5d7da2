"""The program that a run works on: what its module tells of itself."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Final, TypeAlias

from ...runtime.errors import ConfigError
from ..configuration.messages import NAME as CONFIG
from ..configuration.messages import GetModuleSettings, GetSettings
from ..configuration.settings import ModuleSettings, Settings
from ..configuration.types import is_table
from ..foreign_code import load
from ..lm.values import canonical_json
from ..modules.messages import GetState, ModuleInfo, ModuleStatus
from ..modules.program_parts import check_program, classes_of
from ..modules.program_state import ProgramState
from ..signatures.signature import Signature
from .fingerprint import source_hash

Asking: TypeAlias = Callable[[str, Any], Awaitable[Any]]
"""Sends a message to a named actor and waits for the answer."""
TIMEOUT: Final = 30.0
"""Seconds that a prediction may take where the module has no limit of its own."""
_NO_CODE: Final = {
    "kind",
    "signature",
    "adapter",
    "instructions",
    "demos",
    "state",
    "provider",
    "model",
    "timeout",
    "max_concurrency",
    "budget",
    "workers",
    "placement",
}
"""Settings of a module that its state holds, that stand in the fingerprint anyhow, or that change no answer."""


@dataclass(frozen=True, slots=True)
class Program:
    """A program as a run sees it.

    Attributes:
        predictors: its predictors by name, with the signatures that they have without any state.
        base: the state that it has now.
        inputs: names of its inputs.
        fingerprint: what it is made of, and not its state: a word or a hash for each part of its code and settings.
        provider: id of the provider that it asks.
        timeout: seconds that a prediction may take.
        concurrency: predictions that it works on at once.
    """

    predictors: Mapping[str, Signature]
    base: ProgramState
    inputs: tuple[str, ...]
    fingerprint: Mapping[str, str]
    provider: str
    timeout: float
    concurrency: int

    def with_base(self, base: ProgramState) -> Program:
        """The same, begun with another state."""
        return replace(self, base=base)


async def program_of(ask: Asking, module: str) -> Program:
    """Ask a module what it is.

    Args:
        ask: asks actors.
        module: its id.

    Raises:
        CallError: there is no such module, or it does not answer.
    """
    status: ModuleStatus = await ask(f"module/{module}", ModuleInfo())
    state: ProgramState = await ask(f"module/{module}", GetState())
    # A program's instructions stand in its code; those of other modules are settings, and so part of the state.
    code = status.kind == "program"
    predictors = {name: _declared(each, instructions=code) for name, each in status.predictors.items()}
    return Program(
        predictors=status.predictors,
        base=state,
        inputs=Signature(status.signature).input_names,
        fingerprint={
            "kind": status.kind,
            "signature": status.signature,
            "predictors": canonical_json(predictors),
            "adapter": status.adapter,
            "model": await models_of(ask, status.provider, status.options.model),
            **await _settings(ask, module),
        },
        provider=status.provider,
        timeout=status.options.timeout or TIMEOUT,
        concurrency=status.max_concurrency,
    )


def _declared(signature: Signature, *, instructions: bool) -> str:
    """What a predictor is without any state; its classes, if it has some, as a hash."""
    classes = dict.fromkeys(cls for field in signature.fields.values() for cls in field.type.classes)
    sources = f" {source_hash(*classes)}" if classes else ""
    told = f" {signature.instructions}" if instructions and signature.instructions else ""
    return f"{signature.text}{told}{sources}"


async def models_of(ask: Asking, provider: str, model: str | None) -> str:
    """Which models answer at a provider, or at a route's targets: ``provider/model``, one after the other.

    Args:
        ask: asks actors.
        provider: id of the provider or route.
        model: the model that is asked for; None takes the provider's own.
    """
    settings: Settings = await ask(CONFIG, GetSettings())
    route = settings.ai.routes.get(provider)
    targets = [(provider, model)] if route is None else [(each.provider, each.model or model) for each in route.targets]
    known = settings.ai.providers
    models = [named or (known[id].default_model if id in known else None) for id, named in targets]
    return ", ".join(f"{id}/{named or 'default'}" for (id, _), named in zip(targets, models, strict=True))


async def _settings(ask: Asking, module: str) -> dict[str, str]:
    """The settings that make up a module's code, and the source of what they name."""
    try:
        settings: ModuleSettings = await ask(CONFIG, GetModuleSettings(module))
    except ConfigError:
        return {}  # started without configuration
    told = {"settings": canonical_json(settings.model_dump(mode="json", exclude=_NO_CODE, exclude_none=True))}
    code = _code(settings)
    return told | {"code": source_hash(*code)} if code else told


def _code(settings: ModuleSettings) -> list[object]:
    """The classes of a program and its parts; functions and messages that are tools, or choose among answers."""
    tools = [tool.get("message") if is_table(tool) else tool for tool in settings.tools or ()]
    given = [("metric", settings.metric), *(("tools", tool) for tool in tools)]
    code = [load(path, at) for at, path in given if isinstance(path, str) and ":" in path]
    if settings.program is not None:
        code += classes_of(check_program(load(settings.program, "program")))
    return code
