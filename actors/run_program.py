"""The program that a run works on: what its module tells of itself."""

from __future__ import annotations

import hashlib
import inspect
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Final

from ..runtime.errors import ConfigError
from .config_messages import NAME as CONFIG
from .config_messages import GetModuleSettings
from .foreign_code import load
from .lm import canonical_json
from .module_messages import GetState, ModuleInfo, ModuleStatus
from .program_state import ProgramState
from .settings import ModuleSettings
from .signature import Signature

TIMEOUT: Final = 30.0
"""Seconds that a prediction may take where the module has no limit of its own."""
_NO_CODE: Final = {"instructions", "demos", "provider", "model", "timeout", "max_concurrency", "budget"}
"""Settings of a module that its state holds, that stand in the fingerprint anyhow, or that change no answer."""


@dataclass(frozen=True, slots=True)
class Program:
    """A program as a run sees it.

    Attributes:
        predictors: its predictors by name, with the signatures that they have without any state.
        base: the state that it has now.
        inputs: names of its inputs.
        code: what it is made of, in words: kind and signatures.
        provider: id of the provider that it asks.
        model: the model that it asks for, or None.
        timeout: seconds that a prediction may take.
        concurrency: predictions that it works on at once.
    """

    predictors: Mapping[str, Signature]
    base: ProgramState
    inputs: tuple[str, ...]
    code: str
    provider: str
    model: str | None
    timeout: float
    concurrency: int

    @property
    def fingerprint(self) -> str:
        """Changes with the code and its settings, and not with the state."""
        facts = [self.code, self.provider, self.model, {name: str(each) for name, each in self.predictors.items()}]
        return hashlib.sha256(canonical_json(facts).encode("ascii")).hexdigest()

    def with_base(self, base: ProgramState) -> Program:
        """The same, begun with another state."""
        return replace(self, base=base)


async def program_of(ask: Callable[[str, Any], Awaitable[Any]], module: str) -> Program:
    """Ask a module what it is.

    Args:
        ask: sends a message to a named actor and waits for the answer.
        module: its id.

    Raises:
        CallError: there is no such module, or it does not answer.
    """
    status: ModuleStatus = await ask(f"module/{module}", ModuleInfo())
    state: ProgramState = await ask(f"module/{module}", GetState())
    return Program(
        predictors=status.predictors,
        base=state,
        inputs=Signature(status.signature).input_names,
        code=f"{status.kind} {status.signature} {status.adapter} {await _settings(ask, module)}",
        provider=status.provider,
        model=status.options.model,
        timeout=status.options.timeout or TIMEOUT,
        concurrency=status.max_concurrency,
    )


async def _settings(ask: Callable[[str, Any], Awaitable[Any]], module: str) -> str:
    """The settings that make up a module's code, and the source of its class if it has one."""
    try:
        settings: ModuleSettings = await ask(CONFIG, GetModuleSettings(module))
    except ConfigError:
        return ""  # started without configuration
    told = canonical_json(settings.model_dump(mode="json", exclude=_NO_CODE, exclude_none=True))
    return told if settings.program is None else f"{told} {source_hash(load(settings.program, 'program'))}"


def source_hash(code: object) -> str:
    """Changes with the source of a function or class; empty if there is none: written in C, or at a prompt."""
    try:
        source = inspect.getsource(code)  # type: ignore[arg-type]
    except (OSError, TypeError):
        return ""
    return hashlib.sha256(source.encode()).hexdigest()[:16]
