"""Pieces of a streamed answer, in one shape for all wire formats."""

from __future__ import annotations

from dataclasses import dataclass

from ...runtime.errors import LMError
from .values import LMResponse


@dataclass(frozen=True, slots=True)
class ToolCallDelta:
    """A piece of a tool call.

    Attributes:
        index: which of the answer's tool calls, from 0.
        id, name: of the call; empty after its first piece.
        arguments: the next characters of the JSON text.
    """

    index: int
    id: str = ""
    name: str = ""
    arguments: str = ""


@dataclass(frozen=True, slots=True)
class LMChunk:
    """One piece of an answer, as the provider sent it.

    Attributes:
        index: 0, 1, 2... in the order of the answer.
        text: further characters of the answer's text.
        reasoning: further characters of what the model thinks aloud, where the provider shows it.
        refusal: further characters of a refusal.
        tool_call: a piece of a tool call.
    """

    index: int
    text: str = ""
    reasoning: str = ""
    refusal: str = ""
    tool_call: ToolCallDelta | None = None


@dataclass(frozen=True, slots=True)
class LMStreamEnd:
    """The last item of every stream, after the last chunk: the whole answer, or why there is none.

    Attributes:
        response: the answer with usage, finish reason and cost; None if the stream failed.
        error: why it failed; :class:`~dspex.runtime.errors.StreamInterrupted` if chunks had been delivered.
    """

    response: LMResponse | None = None
    error: LMError | None = None
