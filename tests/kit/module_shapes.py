"""Modules with workers and in processes: the shapes they come in, programs a child can import, a model for them."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple

import dspex
from dspex.actors.testing.scripted_provider import marked
from dspex.runtime.gen_server import GenServer, call
from kit.application import application
from kit.http_server import Exchange, completion


class Shape(NamedTuple):
    """How many workers, and where they run."""

    workers: int
    placement: str

    @property
    def settings(self) -> dict[str, Any]:
        """As a module is started with."""
        return self._asdict()

    def names(self, module: str) -> list[str]:
        """The registered names of the actors that answer for a module."""
        if self.workers == 1:
            return [f"module/{module}"]
        return [f"module/{module}/{number}" for number in range(1, self.workers + 1)]


SHAPES: Final = (Shape(1, "local"), Shape(3, "local"), Shape(1, "process"), Shape(2, "process"))


class Pid(dspex.Module):
    """Says in which process it runs, and what the model said; ends it, computes or sleeps if it is asked to."""

    ask = dspex.Predict("question -> answer")

    async def forward(self, question: str) -> dict[str, str]:
        word, _, rest = question.partition(" ")
        if word == "die":
            os.kill(os.getpid(), signal.SIGKILL)
        elif word == "burn":
            until = time.perf_counter() + float(rest)
            while time.perf_counter() < until:
                pass
        elif word == "sleep":
            await asyncio.sleep(float(rest))
        elif word == "fail":
            raise ZeroDivisionError(rest)
        else:
            rest = (await self.ask(question=question)).answer
        return {"answer": f"{os.getpid()} {rest}"}


class Chain(dspex.Module):
    """Two predictors, of which the last may be streamed."""

    draft = dspex.Predict("question -> draft")
    final = dspex.Predict("question, draft -> answer")

    async def forward(self, question: str) -> Any:
        first, _ = await asyncio.gather(self.draft(question=question), self.draft(question=question))
        return self.final.last(question=question, draft=first.draft)


class Asks(Pid):
    """Asks another module, or itself until it is at the bottom; else it is as any."""

    async def forward(self, question: str) -> Any:
        word, _, rest = question.partition(" ")
        if word == "down" and int(rest):
            return await self.call_module("tight", question=f"down {int(rest) - 1}")
        if word == "other":
            return {"answer": f"{os.getpid()} {(await self.call_module('qa', question=rest)).answer}"}
        return await super().forward(question)


@dataclass(frozen=True)
class Look:
    """To a shelf: what is there?"""

    what: str


class Shelf(GenServer):
    """A tool that is an actor."""

    @call
    def look(self, msg: Look) -> str:
        return f"{msg.what} is on the shelf"


def process_of(what: str) -> str:
    """A tool that says where it runs."""
    return f"{what} in {os.getpid()}"


@dataclass
class Model:
    """Answers ``long``, or ``brief`` if it was told or shown to; hangs if the question says so; calls its tools."""

    bodies: list[dict[str, Any]] = field(default_factory=list[dict[str, Any]])

    def __call__(self, exchange: Exchange) -> None:
        """Answer."""
        body = exchange.request.json()
        self.bodies.append(body)
        question = str(body["messages"][-1]["content"])
        if "hang" in question:
            exchange.hang()
        elif "refuse" in question:
            exchange.reply(400, {"error": {"message": "no"}})
        elif (done := [each["role"] for each in body["messages"]].count("tool")) < len(body.get("tools", ())):
            exchange.reply(200, completion(choices=[_tool_call(body["tools"][done]["function"]["name"], "hat")]))
        else:
            self._say(exchange, body, question)

    def _say(self, exchange: Exchange, body: dict[str, Any], question: str) -> None:
        name = "draft" if "`[[ ## draft ## ]]`" in question else "answer"
        if body["messages"][-1]["role"] == "tool":
            said = question
        else:
            shown = len(body["messages"]) > 2  # worked examples
            said = "brief" if shown or "Be brief." in body["messages"][0]["content"] else "long"
        text = marked({name: said})
        if not body.get("stream"):
            exchange.reply(200, completion(text))
            return
        exchange.head()
        half = len(text) // 2
        for piece in (text[:half], text[half:]):
            exchange.chunk(_event({"choices": [{"index": 0, "delta": {"content": piece}, "finish_reason": None}]}))
        if "stall" in question:
            exchange.hang()
            return
        exchange.chunk(_event({"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]}))
        exchange.chunk(b"data: [DONE]\n\n")
        exchange.chunk(b"")


def _tool_call(name: str, what: str) -> dict[str, Any]:
    called = {"id": "c1", "type": "function", "function": {"name": name, "arguments": json.dumps({"what": what})}}
    return {"index": 0, "message": {"role": "assistant", "tool_calls": [called]}, "finish_reason": "tool_calls"}


def _event(data: dict[str, Any]) -> bytes:
    whole = {"id": "c", "object": "chat.completion.chunk", "model": "test-model", **data}
    return f"data: {json.dumps(whole)}\n\n".encode()


@contextmanager
def shaped(shape: Shape, **options: Any) -> Iterator[tuple[dspex.App, Model, Any]]:
    """An application with the module ``qa`` (a :class:`Pid`) in this shape, its model, and the server of that."""
    model = Model()
    with application(model, **options) as (app, server):
        app.start_program("qa", Pid, provider="local", **shape.settings)
        yield app, model, server


def pids(app: dspex.App, shape: Shape, module: str = "qa") -> list[int]:
    """The processes of a module's actors."""
    rows = [app.registry.lookup(name) for name in shape.names(module)]
    assert all(row is not None for row in rows)
    return [row.metadata.get("pid", os.getpid()) for row in rows if row is not None]


def at_once(app: dspex.App, questions: list[str], module: str = "qa", **options: Any) -> list[Any]:
    """All answers, errors as values, of calls made side by side."""
    handle = app.aio.module(module).options(**options)

    async def ask() -> list[Any]:
        return await asyncio.gather(*(handle(question=each) for each in questions), return_exceptions=True)

    return asyncio.run(ask())


__all__ = (
    "SHAPES",
    "Asks",
    "Chain",
    "Look",
    "Model",
    "Pid",
    "Shape",
    "Shelf",
    "at_once",
    "pids",
    "process_of",
    "shaped",
)
