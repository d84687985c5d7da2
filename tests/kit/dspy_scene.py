"""For tests with DSPy: an application whose provider is an HTTP server that answers by script."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import dspex
from kit.application import provider_of
from kit.http_server import Exchange, HttpServer, completion


def marked(answer: str = "Paris") -> str:
    """An answer in the form that DSPy's chat adapter asks for."""
    fields = {"reasoning": "hm", "answer": answer, "verdict": "True", "completed": ""}
    return "\n\n".join(f"[[ ## {name} ## ]]\n{value}" for name, value in fields.items())


@dataclass
class Model:
    """Answers every request, in pieces if it is asked to, and remembers them.

    Attributes:
        answer: the answer's text to a request.
        status: of all answers.
        headers: of refusals.
        requests: the bodies that came.
    """

    answer: Callable[[dict[str, Any]], str] = lambda _: marked()
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    requests: list[dict[str, Any]] = field(default_factory=list)

    def __call__(self, exchange: Exchange) -> None:
        """Answer a request."""
        request = exchange.request.json()
        self.requests.append(request)
        if self.status != 200:
            exchange.reply(self.status, {"error": {"message": "no"}}, headers=self.headers)
        elif request.get("stream"):
            exchange.head()
            for line in _events(self.answer(request)):
                exchange.chunk(line.encode())
            exchange.chunk(b"")
        else:
            exchange.reply(200, completion(self.answer(request)))


@contextmanager
def scene(model: Model, folder: Path | None = None, **provider: Any) -> Iterator[dspex.App]:
    """An application with the provider ``local``; its events and runs in this folder, or in memory."""
    with HttpServer(model) as server:
        config = {
            "events": {"in_memory": True} if folder is None else {"path": str(folder / "app.db")},
            "app": {"console": False},
            "ai": {"providers": {"local": provider_of(server, **provider)}},
        }
        with dspex.start(config=config) as app:
            yield app


def types(app: dspex.App) -> list[str]:
    """The types of the newest events."""
    return [event.type for event in app.events.query(limit=100).events]


def _events(text: str) -> list[str]:
    pieces = [text[at : at + 5] for at in range(0, len(text), 5)]
    rows: list[dict[str, Any]] = [{"choices": [{"index": 0, "delta": {"content": piece}}]} for piece in pieces]
    rows.append({"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]})
    rows.append({"choices": [], "usage": {"prompt_tokens": 3, "completion_tokens": 4, "total_tokens": 7}})
    head = {"id": "c1", "model": "m-1", "object": "chat.completion.chunk"}
    return [f"data: {json.dumps({**head, **row})}\n\n" for row in rows] + ["data: [DONE]\n\n"]
