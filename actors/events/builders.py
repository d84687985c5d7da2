"""Makes the events whose fields are computed: a traced function's entry and exit, and what changed in a state.

Each builder makes the event that :func:`~dspex.actors.events.kinds.stamp` would, from values of any kind: what is not
JSON is shown by its ``repr``, what is large by its beginning, and secrets hide themselves in either.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, cast

from pydantic import JsonValue
from pydantic_core import PydanticSerializationError, from_json, to_json

from ..scrub import excerpt
from .kinds import Data, EventSource, FunctionEntry, FunctionExit, StateChange, stamp

PREVIEW_CHARS: Final = 200
MAX_ERROR_CHARS: Final = 1000
MAX_VALUE_BYTES: Final = 10_000
"""From this size of its JSON on, a value is kept as a preview only."""


def truncate_if_large(value: Any, limit: int = MAX_VALUE_BYTES) -> JsonValue:
    """A value as JSON, or its beginning if it is large.

    Args:
        value: anything.
        limit: the most bytes of JSON to keep whole.

    Returns:
        The JSON value, or ``{"truncated": True, "size": bytes, "preview": text}``.
    """
    try:
        line = to_json(value, fallback=repr, inf_nan_mode="strings", bytes_mode="base64")
    except (PydanticSerializationError, ValueError):
        # A circle, or half a character.
        line = to_json(repr(value))
    if len(line) <= limit:
        plain: JsonValue = from_json(line)
        return plain
    preview = line[:PREVIEW_CHARS].decode(errors="ignore")
    return {"truncated": True, "size": len(line), "preview": preview}


def function_entry(
    actor: EventSource, function: str, arguments: Mapping[str, Any], *, caller: str | None = None
) -> FunctionEntry:
    """A traced function is called.

    Args:
        actor: where.
        function: its dotted name.
        arguments: by name; each is cut if it is large.
        caller: who calls, if known.
    """
    shown: Data = {name: truncate_if_large(value) for name, value in arguments.items()}
    return stamp(actor, FunctionEntry, function=function, arguments=shown, caller=caller)


def function_exit(
    actor: EventSource, entry: FunctionEntry, duration: float, *, result: Any = None, error: BaseException | None = None
) -> FunctionExit:
    """A traced function is done.

    Args:
        actor: where.
        entry: the event of its call; both stand in the same span.
        duration: seconds.
        result: what it returned; cut if it is large.
        error: what it raised, or None; its words are cut if there are many, and credentials taken out.
    """
    return stamp(
        actor,
        FunctionExit,
        trace_id=entry.trace_id,
        span_id=entry.span_id,
        parent_id=entry.parent_id,
        function=entry.function,
        entry_event_id=entry.id,
        duration=duration,
        success=error is None,
        result=truncate_if_large(result),
        error=None if error is None else excerpt(f"{type(error).__name__}: {error}", limit=MAX_ERROR_CHARS),
    )


def state_change(
    actor: EventSource, subject: str, old: Mapping[str, Any], new: Mapping[str, Any]
) -> StateChange | None:
    """What changed between two states of something, field by field.

    Args:
        actor: where.
        subject: what the states are of.
        old: the state before; nested mappings are compared field by field too.
        new: the state after.

    Returns:
        The event, or None if nothing changed. ``changes`` maps the path of each field that differs to its
        ``old`` and ``new`` value; a field that was not there has no such key.
    """
    changes: Data = {}
    _compare(old, new, "", changes)
    return stamp(actor, StateChange, subject=subject, changes=changes) if changes else None


def _compare(old: Mapping[str, Any], new: Mapping[str, Any], above: str, changes: Data) -> None:
    for key in dict.fromkeys([*old, *new]):
        path = f"{above}{key}"
        if key in old and key in new:
            left, right = old[key], new[key]
            if isinstance(left, Mapping) and isinstance(right, Mapping):
                _compare(cast("Mapping[str, Any]", left), cast("Mapping[str, Any]", right), f"{path}.", changes)
                continue
            if _same(left, right):
                continue
        sides = {"old": old, "new": new}
        changes[path] = {word: truncate_if_large(side[key]) for word, side in sides.items() if key in side}


def _same(left: Any, right: Any) -> bool:
    # 1 and True are equal in Python, and a change in a state all the same.
    return type(left) is type(right) and bool(left == right)
