"""What tools do, as events of the log."""

from __future__ import annotations

from typing import Literal

from ..events.kinds import Event, Seconds


class ToolExecution(Event, frozen=True):
    """A model called a tool. Neither arguments nor results, which may hold anything."""

    type: Literal["tool_execution"] = "tool_execution"
    module: str
    tool: str
    duration: Seconds
    success: bool
    error_code: str | None = None
