"""react: the model calls tools, sees what they say, and goes on until it answers (native tool calls)."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from pydantic_core import PydanticSerializationError, to_json

from ....runtime.errors import ConfigError, Error, did_you_mean
from ...events.kinds import stamp
from ...foreign_code import text_of
from ...lm.values import Message, ToolCall
from ...signatures.signature import Signature
from ..prediction import Prediction
from ..program_state import ONLY
from ..tool_events import ToolExecution
from ..tools import BadArgumentsError, Tool, make_tool

if TYPE_CHECKING:
    from ..model_calls import ModelCalls

LONGEST: Final = 20_000
"""Characters of a tool's result that the model is shown."""
ENOUGH: Final = "No more tools may be called. Answer now, in the form that was asked for."
TRAJECTORY: Final = "trajectory"


@dataclass(frozen=True, slots=True)
class ReAct:
    """Tools are run as tasks of the call: they end with it. What they fail with is told to the model.

    The prediction has one field more, ``trajectory``: a list of steps, each with step, thought, tool, arguments (as the
    model wrote them), observation and error (whether it failed).

    Args:
        tools: see ``tools.py``.
        max_steps: rounds of tool calls at most; then the model has to answer.
        tool_timeout: seconds that one tool may take.

    Raises:
        ConfigError: one of them is malformed, or two tools have the same name.
    """

    tools: Sequence[Any] = field(hash=False)
    max_steps: int = 10
    tool_timeout: float = 30.0
    _tools: Mapping[str, Tool] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        made = [make_tool(each, f"tools[{index}]") for index, each in enumerate(self.tools)]
        names = [tool.name for tool in made]
        if not made or len(set(names)) != len(names):
            raise _refuse("tools", "tools of different names, one at least", ", ".join(names) or "none")
        if type(self.max_steps) is not int or self.max_steps < 1:
            raise _refuse("max_steps", "a whole number from 1", self.max_steps)
        if not 0 < self.tool_timeout < math.inf:
            raise _refuse("tool_timeout", "seconds above 0", self.tool_timeout)
        object.__setattr__(self, "_tools", {tool.name: tool for tool in made})

    @property
    def name(self) -> str:
        """The word that chooses it."""
        return "react"

    def signature(self, given: Signature) -> Signature:
        """The declared one.

        Raises:
            ConfigError: it has a field of the name of the prediction's further one.
        """
        if TRAJECTORY in given.fields:
            raise _refuse("signature", f"a signature without a field {TRAJECTORY!r}, which react adds", str(given))
        return given

    def predictors(self, given: Signature) -> Mapping[str, Signature]:
        """The only one."""
        return {ONLY: given}

    async def answer(self, calls: ModelCalls, inputs: Mapping[str, Any]) -> Prediction:
        """Go on until the model answers.

        Raises:
            ParseError: its answer does not fit, nor does a second one.
            LMError, CallError: the model failed, or the time is over.
        """
        turn = calls.turn(ONLY, inputs)
        offers = tuple(tool.offer for tool in self._tools.values())
        messages = turn.messages
        trajectory: list[dict[str, Any]] = []
        for step in range(self.max_steps):
            response = await turn.ask(messages, tools=offers)
            if not response.tool_calls:
                break
            async with asyncio.TaskGroup() as group:
                work = [group.create_task(self._run(calls, step, each)) for each in response.tool_calls]
            rows = [task.result() for task in work]
            trajectory += [{"thought": response.text, **row} for row in rows]
            said = [
                Message("tool", row["observation"], tool_call_id=each.id)
                for each, row in zip(response.tool_calls, rows, strict=True)
            ]
            messages = (*messages, Message("assistant", response.text or None, response.tool_calls), *said)
        else:
            messages = (*messages, Message("user", ENOUGH))
            response = await turn.ask(messages, tools=offers, tool_choice="none")
        prediction = await turn.read(messages, response, tools=offers)
        return Prediction({**prediction, TRAJECTORY: trajectory}, prediction.info)

    async def _run(self, calls: ModelCalls, step: int, wanted: ToolCall) -> dict[str, Any]:
        """Run one tool; its row of the trajectory."""
        actor = calls.actor
        began = actor.clock.monotonic()
        observation, code = await self._observe(calls, wanted)
        event = stamp(
            actor,
            ToolExecution,
            module=calls.id,
            tool=wanted.name[:100],
            duration=max(actor.clock.monotonic() - began, 0.0),
            success=code is None,
            error_code=code,
        )
        calls.outbox.emit(event)
        return {
            "step": step,
            "tool": wanted.name,
            "arguments": wanted.arguments,
            "observation": observation,
            "error": code is not None,
        }

    async def _observe(self, calls: ModelCalls, wanted: ToolCall) -> tuple[str, str | None]:
        """What the model is told, and the code of a failure."""
        tool = self._tools.get(wanted.name)
        if tool is None:
            known = ", ".join(self._tools)
            hint = did_you_mean(wanted.name, self._tools)
            return _failed(f"there is no tool {wanted.name[:100]!r}{hint}; there are {known}"), "unknown_tool"
        try:
            arguments = tool.arguments(wanted.arguments)
        except BadArgumentsError as error:
            return _failed(f"bad arguments: {error}"), "bad_arguments"
        try:
            async with asyncio.timeout(self.tool_timeout):
                return _text(await tool.run(calls.actor, arguments, self.tool_timeout)), None
        except TimeoutError:
            return _failed(f"{tool.name} did not end within {self.tool_timeout:g} s"), "timeout"
        except asyncio.CancelledError:
            if (task := asyncio.current_task()) is None or task.cancelling():
                raise
            return _failed(f"{tool.name} cancelled itself"), "cancelled"
        except Error as error:
            return _failed(error.message), error.code
        except (Exception, SystemExit) as error:  # fault boundary: a tool's failure is for the model
            return _failed(f"{type(error).__name__}: {text_of(error)}"), "tool_failed"


def _failed(why: str) -> str:
    return _cut(f"Error: {why}")


def _text(result: object) -> str:
    if isinstance(result, str):
        text = result
    else:
        try:
            text = to_json(result).decode()
        except PydanticSerializationError:
            text = repr(result)
    return _cut(text)


def _cut(text: str) -> str:
    return text if len(text) <= LONGEST else f"{text[:LONGEST]}..."


def _refuse(path: str, expected: str, got: object) -> ConfigError:
    return ConfigError(f"expected {expected}, got {got!r}, at {path}", path=path, expected=expected, got=got)
