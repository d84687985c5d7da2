"""For tests under fire: an application whose providers are at servers that misbehave, asked whole and in pieces."""

from __future__ import annotations

import itertools
import json
import random
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Final, Literal, TypeAlias

import dspex
from dspex.actors.budgets.messages import BudgetReport, BudgetStatus
from dspex.actors.lm.values import LMResponse
from dspex.actors.protection.messages import ProtectionReport, ProtectionStatus
from dspex.supervisors.app import names
from kit.application import IN_MEMORY
from kit.http_server import Exchange, Script

Mode: TypeAlias = Literal["whole", "stream"]
MODES: Final[tuple[Mode, ...]] = ("whole", "stream")
KINDS: Final = ("openai", "openai_responses", "anthropic", "gemini")
ROOTS: Final = {"openai": "/v1", "openai_responses": "/v1", "anthropic": "", "gemini": ""}
QUICK: Final[Mapping[str, Any]] = {
    "default_model": "m",
    "api_key": "sk-fire-0123456789",
    "retry_base_delay": 0.01,
    "retry_max_delay": 0.02,
    "timeout": 10.0,
}
"""Settings of providers that nobody has to wait for."""


class Latest(random.Random):
    """Randomness without chance: every pause is as long as its bound allows."""

    def uniform(self, a: float, b: float) -> float:
        """The upper end."""
        return b


class Fire:
    """An application, and short ways to ask its providers.

    Args:
        app: the application.
    """

    def __init__(self, app: dspex.App) -> None:
        self.app = app
        self._numbers = itertools.count(1)

    def provider(self, url: str, kind: str = "openai", **settings: Any) -> str:
        """A fresh provider at the server with this address; its id."""
        id = f"p{next(self._numbers)}"
        self.app.configure_provider(id, kind=kind, base_url=url + ROOTS[kind], **{**QUICK, **settings})
        return id

    def ask(self, id: str, mode: Mode = "whole", text: str = "Hi", **how: Any) -> LMResponse:
        """Ask for an answer, at once or in pieces; of pieces, that they are the answer's."""
        if mode == "whole":
            return self.app.lm.complete(id, text, **how)
        pieces: list[str] = []
        return self.read(id, pieces, text, **how)

    def read(self, id: str, pieces: list[str], text: str = "Hi", **how: Any) -> LMResponse:
        """Ask for an answer in pieces, and note them as they come."""
        with self.app.lm.stream(id, text, **how) as stream:
            pieces.extend(chunk.text for chunk in stream)
            result: LMResponse = stream.result
        assert "".join(pieces) == result.text
        return result

    def protection(self, id: str) -> ProtectionReport:
        """How the protection of a provider is."""
        report: ProtectionReport = self.app.call(f"protection/{id}", ProtectionStatus())
        return report

    def budget(self, account: str) -> BudgetReport:
        """How an account is."""
        (report,) = self.app.call(names.BUDGETS, BudgetStatus(account))
        assert isinstance(report, BudgetReport)
        return report

    def until(self, check: Callable[[], bool], seconds: float = 10.0) -> None:
        """Ask again and again until ``check()`` holds: actors tell of their state, but not when it changes."""
        end = time.monotonic() + seconds
        while not check():
            assert time.monotonic() < end, "it never came"

    def quiet(self, id: str) -> None:
        """Nothing is held for the provider any more: no admission, no reservation."""
        self.until(lambda: self.protection(id).in_flight == 0 and self.protection(id).waiting == 0)
        self.until(lambda: self.budget(f"provider/{id}").reserved.requests == 0)


@contextmanager
def fire(**options: Any) -> Iterator[Fire]:
    """An application without providers; nothing is answered from a cache."""
    config = {**IN_MEMORY, "ai": {"caching": {"enabled": False}}, **options.pop("config", {})}
    with dspex.start(config=config, **options) as app:
        yield Fire(app)


def steps(*each: Script) -> Script:
    """One after the other."""

    def script(ex: Exchange) -> None:
        for step in each:
            step(ex)

    return script


# -- what servers say, in each format ----------------------------------------------------------------


def whole(kind: str, text: str = "Hello there") -> dict[str, Any]:
    """A whole answer of 11 and 3 tokens."""
    match kind:
        case "openai":
            message = {"role": "assistant", "content": text}
            return {
                "id": "c1",
                "model": "m",
                "choices": [{"index": 0, "message": message, "finish_reason": "stop"}],
                "usage": _USAGE,
            }
        case "openai_responses":
            part = {"type": "output_text", "text": text, "annotations": []}
            item = {"type": "message", "role": "assistant", "status": "completed", "content": [part]}
            return {"id": "r1", "model": "m", "status": "completed", "output": [item], "usage": _RESPONSES_USAGE}
        case "anthropic":
            return {
                "id": "a1",
                "type": "message",
                "role": "assistant",
                "model": "m",
                "content": [{"type": "text", "text": text}],
                "stop_reason": "end_turn",
                "usage": {"input_tokens": 11, "output_tokens": 3},
            }
        case _:
            candidate = {"content": {"role": "model", "parts": [{"text": text}]}, "finishReason": "STOP", "index": 0}
            return {"candidates": [candidate], "usageMetadata": _GEMINI_USAGE, "modelVersion": "m"}


def pieces(kind: str, *texts: str) -> list[bytes]:
    """The events of the same answer as a stream: what stands before the texts, the texts, the rest (each one item)."""
    match kind:
        case "openai":
            before = [_chat(delta={"role": "assistant", "content": ""})]
            said = [_chat(delta={"content": text}) for text in texts]
            after = [_chat(delta={}, finish_reason="stop"), {"id": "c1", "choices": [], "usage": _USAGE}]
            return [_events(before), *map(_events, [[one] for one in said]), _events(after) + b"data: [DONE]\n\n"]
        case "openai_responses":
            answer = whole(kind, "".join(texts))
            start: list[dict[str, Any]] = [
                {"type": "response.created", "response": {**answer, "status": "in_progress", "output": []}}
            ]
            place: dict[str, Any] = {"item_id": "i1", "output_index": 0, "content_index": 0}
            said = [{"type": "response.output_text.delta", "delta": text, **place} for text in texts]
            last: dict[str, Any] = {"type": "response.completed", "response": answer}
            end = [last]
        case "anthropic":
            message = {**whole(kind, ""), "content": [], "stop_reason": None}
            start = [
                {"type": "message_start", "message": {**message, "usage": {"input_tokens": 11, "output_tokens": 1}}},
                {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}},
                {"type": "ping"},
            ]
            delta: dict[str, Any] = {"type": "content_block_delta", "index": 0}
            said = [{**delta, "delta": {"type": "text_delta", "text": text}} for text in texts]
            stop: dict[str, Any] = {"type": "message_delta", "delta": {"stop_reason": "end_turn"}}
            stop["usage"] = {"output_tokens": 3}
            end = [{"type": "content_block_stop", "index": 0}, stop, {"type": "message_stop"}]
        case _:
            parts = [{"candidates": [{"content": {"role": "model", "parts": [{"text": text}]}}]} for text in texts]
            return [b": hello\n\n", *map(_events, [[one] for one in parts]), _events([whole(kind, "")])]
    return [_named(start), *(_named([one]) for one in said), _named(end)]


def error_event(kind: str) -> bytes:
    """An error that a server tells of within a stream."""
    match kind:
        case "openai":
            return _events([{"error": {"message": "the engine broke", "type": "server_error", "code": None}}])
        case "openai_responses":
            return _named([{"type": "error", "code": "server_error", "message": "the engine broke", "param": None}])
        case "anthropic":
            return _named([{"type": "error", "error": {"type": "api_error", "message": "the engine broke"}}])
        case _:
            return _events([{"error": {"code": 500, "message": "the engine broke", "status": "INTERNAL"}}])


def error_body(kind: str, message: str = "no", *, code: str | None = None, type: str = "error") -> dict[str, Any]:
    """An error answer's body."""
    if kind == "anthropic":
        return {"type": "error", "error": {"type": code or type, "message": message}}
    if kind == "gemini":
        return {"error": {"code": 0, "message": message, "status": (code or type).upper()}}
    return {"error": {"message": message, "type": type, "param": None, "code": code}}


_USAGE: Final = {"prompt_tokens": 11, "completion_tokens": 3, "total_tokens": 14}
_RESPONSES_USAGE: Final = {"input_tokens": 11, "output_tokens": 3, "total_tokens": 14}
_GEMINI_USAGE: Final = {"promptTokenCount": 11, "candidatesTokenCount": 3, "totalTokenCount": 14}


def _chat(**choice: Any) -> dict[str, Any]:
    return {"id": "c1", "model": "m", "choices": [{"index": 0, **choice}]}


def _events(chunks: Sequence[Mapping[str, Any]]) -> bytes:
    return "".join(f"data: {json.dumps(chunk, ensure_ascii=False)}\n\n" for chunk in chunks).encode()


def _named(chunks: Sequence[Mapping[str, Any]]) -> bytes:
    return "".join(
        f"event: {chunk['type']}\ndata: {json.dumps(chunk, ensure_ascii=False)}\n\n" for chunk in chunks
    ).encode()
