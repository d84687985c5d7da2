"""The program that a run works on: what its module tells of itself."""

from __future__ import annotations

import hashlib
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Final

from .lm import canonical_json
from .module_messages import ModuleInfo, ModuleStatus
from .program_state import ONLY, PredictorState, ProgramState
from .signature import Signature

PATIENCE: Final = 5.0
"""Seconds that a module may take to tell of itself."""


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
    signature = Signature(status.signature)
    return Program(
        predictors={ONLY: signature},
        base=ProgramState({ONLY: PredictorState(status.instructions)}),
        inputs=signature.input_names,
        code=f"{status.kind} {status.signature} {status.adapter}",
        provider=status.provider,
        model=status.options.model,
        timeout=status.options.timeout or PATIENCE,
        concurrency=status.max_concurrency,
    )
