"""The state of a module: read, changed for good, saved as JSON and loaded."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterable, Mapping
from typing import Any

from ...actors.configuration.messages import GetSetting, UpdateSetting
from ...actors.modules.messages import KEEP, GetState, Keep, UpdateModule
from ...actors.modules.program_state import ProgramState
from . import names
from .life import Life
from .views import CALL_TIMEOUT


async def state_of(life: Life, id: str) -> ProgramState:
    """What a module's predictors tell their models now."""
    state: ProgramState = await life.call(f"module/{id}", GetState(), timeout=CALL_TIMEOUT)
    return state


async def update_state(
    life: Life,
    id: str,
    state: ProgramState | None,
    instructions: str | Keep | None = KEEP,
    demos: Iterable[Mapping[str, Any]] | Keep = KEEP,
) -> ProgramState:
    """Change what a module tells; it is refused or applied whole, and part of its configuration from then on."""
    change = UpdateModule(state=state, instructions=instructions, demos=demos)
    await life.call(f"module/{id}", change, timeout=CALL_TIMEOUT)
    whole = await state_of(life, id)
    kept = ProgramState(whole.predictors, {} if state is None else state.provenance)
    configured: Mapping[str, Any] = await life.call(names.CONFIG, GetSetting(("modules",)), timeout=CALL_TIMEOUT)
    if id in configured:  # one that was started by a spec of its own is made anew by that
        # By configuration it outlives the actor, and the next change of another setting.
        await life.call(names.CONFIG, UpdateSetting(("modules", id, "state"), kept.to_dict()), timeout=CALL_TIMEOUT)
    return kept


async def save_state(life: Life, id: str, path: str | os.PathLike[str]) -> None:
    """Write a module's state to a file: the whole of it, or nothing."""
    state = await state_of(life, id)
    await asyncio.to_thread(state.save, path)


async def load_state(life: Life, id: str, path: str | os.PathLike[str]) -> ProgramState:
    """Give a module the state in a file."""
    return await update_state(life, id, await asyncio.to_thread(ProgramState.load, path))
