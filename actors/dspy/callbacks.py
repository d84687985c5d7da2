"""What DSPy does, as our events: modules, tools and answers that could not be read. Names and times, never values.

Its model calls need none: the provider actor tells of each.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any, Final

from ...runtime.context import Context
from ...runtime.engine import Engine
from ..events.kinds import CustomEvent

_MODULE: Final = "dspy_module"
_TOOL: Final = "dspy_tool"
_PARSE_FAILED: Final = "dspy_parse_failed"


class Callback:
    """A callback of DSPy, ``dspy.utils.callback.BaseCallback``, that hears only what it has a method for."""

    def __getattr__(self, name: str) -> Callable[..., None]:
        """All others: of no interest."""
        if not name.startswith("on_"):
            raise AttributeError(name)
        return _nothing


def _nothing(**_: object) -> None:
    """What is heard of all others."""


class EventCallback(Callback):
    """What DSPy does, told as events.

    Args:
        engine: for ids and time.
        context: the place in the trace of the call in which it is used.
        source: name of the actor that hosts the program.
        emit: takes the events, on the engine's thread.
    """

    def __init__(
        self, engine: Engine, context: Context, source: str | None, emit: Callable[[CustomEvent], None]
    ) -> None:
        self._engine = engine
        self._context = context
        self._source = source
        self._emit = emit
        self._lock = threading.Lock()  # DSPy calls from all its threads
        self._begun: dict[str, tuple[str, float]] = {}

    def on_module_start(self, call_id: str, instance: Any, inputs: Any) -> None:
        """A module is called."""
        self._start(call_id, type(instance).__name__)

    def on_module_end(self, call_id: str, outputs: Any, exception: BaseException | None = None) -> None:
        """A module has ended."""
        self._end(_MODULE, call_id, exception)

    def on_tool_start(self, call_id: str, instance: Any, inputs: Any) -> None:
        """A tool is called."""
        self._start(call_id, str(getattr(instance, "name", "tool")))

    def on_tool_end(self, call_id: str, outputs: Any, exception: BaseException | None = None) -> None:
        """A tool has ended."""
        self._end(_TOOL, call_id, exception)

    def on_adapter_parse_start(self, call_id: str, instance: Any, inputs: Any) -> None:
        """An adapter reads an answer."""
        self._start(call_id, type(instance).__name__)

    def on_adapter_parse_end(self, call_id: str, outputs: Any, exception: BaseException | None = None) -> None:
        """An adapter has read an answer, or could not."""
        if exception is not None:
            self._end(_PARSE_FAILED, call_id, exception)
        else:
            self._pop(call_id)

    def _start(self, call_id: str, name: str) -> None:
        with self._lock:
            self._begun[call_id] = (name, self._engine.clock.monotonic())

    def _pop(self, call_id: str) -> tuple[str, float] | None:
        with self._lock:
            return self._begun.pop(call_id, None)

    def _end(self, type: str, call_id: str, error: BaseException | None) -> None:
        begun = self._pop(call_id)
        if begun is None:
            return
        name, since = begun
        data = {
            "name": name,
            "call_id": call_id,
            "duration": max(self._engine.clock.monotonic() - since, 0.0),
            "success": error is None,
            "error": None if error is None else error.__class__.__name__,
        }
        if not self._engine.outside.closed:
            self._engine.post(self._tell, type, data)

    def _tell(self, type: str, data: dict[str, Any]) -> None:
        engine, place = self._engine, self._context
        event = CustomEvent(
            id=engine.ids.sortable(),
            type=type,
            time=engine.clock.time(),
            trace_id=place.trace_id,
            span_id=place.span_id,
            parent_id=place.parent_id,
            user=place.user,
            source=self._source,
            data=data,
        )
        self._emit(event)
