"""Puts a streamed answer together: what a wire format read out of each event, as chunks and as the whole."""

from __future__ import annotations

from typing import Any

from ..json_values import json_text
from .chunks import LMChunk, ToolCallDelta
from .values import UNKNOWN_USAGE, LMResponse, ToolCall, Usage


class Collector:
    """One answer on its way. Wire formats write into it; whoever reads the stream takes the chunks.

    Args:
        model: the model asked for, in case the answer names none.

    Attributes:
        model: the model that answers.
        response_id: the provider's id for the answer, or None.
        finish_reason: why it ended, in OpenAI's words, or None so far.
        usage: tokens so far; a later count replaces an earlier one.
        complete: a terminal event was seen: what was collected is the whole answer.
        ended: nothing of interest follows; the rest need not be read.
        state: what the wire format itself must remember between events.
    """

    def __init__(self, model: str) -> None:
        self.model = model
        self.response_id: str | None = None
        self.finish_reason: str | None = None
        self.usage: Usage = UNKNOWN_USAGE
        self.complete = False
        self.ended = False
        self.state: dict[str, Any] = {}
        self._texts: list[str] = []
        self._reasoning: list[str] = []
        self._refusal: list[str] = []
        self._calls: dict[int, list[str]] = {}  # index: id, name, fragments of the arguments
        self._signatures: dict[int, str] = {}
        self._halves: dict[object, str] = {}  # first halves of surrogate pairs, each by where the rest belongs
        self._chunks: list[LMChunk] = []
        self._count = 0

    def add_text(self, text: str) -> None:
        """Further text; nothing if it is empty."""
        if text and (text := self._clean("text", text)):
            self._texts.append(text)
            self._chunks.append(LMChunk(self._next(), text))

    def add_reasoning(self, text: str) -> None:
        """Further thoughts of the model."""
        if text and (text := self._clean("reasoning", text)):
            self._reasoning.append(text)
            self._chunks.append(LMChunk(self._next(), reasoning=text))

    def add_refusal(self, text: str) -> None:
        """Further words of a refusal."""
        if text and (text := self._clean("refusal", text)):
            self._refusal.append(text)
            self._chunks.append(LMChunk(self._next(), refusal=text))

    def add_tool_call(
        self, index: int, *, id: str = "", name: str = "", arguments: str = "", signature: str | None = None
    ) -> None:
        """A piece of the tool call number ``index``: its id, name and signature, once, and further arguments."""
        if signature:
            self._signatures.setdefault(index, signature)
        begun = index in self._calls
        call = self._calls.setdefault(index, ["", ""])
        id, name = "" if call[0] else json_text(id), "" if call[1] else json_text(name)
        arguments = self._clean(index, arguments)
        if begun and not (id or name or arguments):
            return
        call[0], call[1] = call[0] or id, call[1] or name
        call.append(arguments)
        self._chunks.append(LMChunk(self._next(), tool_call=ToolCallDelta(index, id, name, arguments)))

    def add_whole(self, answer: LMResponse) -> None:
        """An answer that came whole although pieces were asked for: each of its parts is one piece."""
        self.model, self.response_id = answer.model, answer.response_id
        self.finish_reason, self.usage = answer.finish_reason, answer.usage
        self.add_reasoning(answer.reasoning or "")
        self.add_text(answer.text)
        self.add_refusal(answer.refusal or "")
        for index, call in enumerate(answer.tool_calls):
            self.add_tool_call(index, id=call.id, name=call.name, arguments=call.arguments, signature=call.signature)
        self.end()

    def finish(self, reason: str) -> None:
        """The answer is whole, for this reason; usage may still follow."""
        self.finish_reason, self.complete = reason, True

    def end(self) -> None:
        """The last event was seen."""
        self.complete = self.ended = True

    def take(self) -> list[LMChunk]:
        """The chunks since the last time."""
        chunks, self._chunks = self._chunks, []
        return chunks

    @property
    def text(self) -> str:
        """The text so far."""
        return "".join(self._texts)

    @property
    def has_reasoning(self) -> bool:
        """Whether there were thoughts so far."""
        return bool(self._reasoning)

    @property
    def refusal(self) -> str:
        """The refusal so far."""
        return "".join(self._refusal)

    def arguments(self, index: int) -> str:
        """The arguments so far of the tool call number ``index``."""
        return "".join(self._calls.get(index, ())[2:])

    @property
    def delivered(self) -> int:
        """How many chunks there were so far."""
        return self._count

    def response(self, request_id: str | None = None) -> LMResponse:
        """The answer as far as it came."""
        calls = (
            ToolCall(call[0], call[1], "".join(call[2:]), self._signatures.get(index))
            for index, call in sorted(self._calls.items())
        )
        return LMResponse(
            text=self.text,
            model=self.model,
            finish_reason=self.finish_reason,
            usage=self.usage,
            request_id=request_id,
            response_id=self.response_id,
            refusal=self.refusal or None,
            reasoning="".join(self._reasoning) or None,
            tool_calls=tuple(calls),
        )

    def _clean(self, where: object, text: str) -> str:
        """The text without halves of surrogate pairs: some servers cut a character in two, and its first half waits."""
        if text.isascii() and not self._halves:
            return text
        text = self._halves.pop(where, "") + text
        if "\ud800" <= text[-1:] <= "\udbff":
            self._halves[where], text = text[-1], text[:-1]
        return json_text(text)

    def _next(self) -> int:
        self._count += 1
        return self._count - 1
