"""For tests of whole applications: one with a scripted provider over real HTTP, and children of the tests' own."""

from __future__ import annotations

import random
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import dspex
from dspex import ChildSpec, GenServer, call
from dspex.runtime.names import NameEntry
from kit.http_server import Exchange, HttpServer, Script, completion

IN_MEMORY: Mapping[str, Any] = {"events": {"in_memory": True}}


def answering(text: str = "Shakespeare") -> Script:
    """A provider that always answers this."""

    def script(exchange: Exchange) -> None:
        exchange.reply(200, completion(text))

    return script


@dataclass
class Gate:
    """A provider that answers only once the gate is open."""

    open: threading.Event = field(default_factory=threading.Event)

    def __call__(self, exchange: Exchange) -> None:
        """Answer behind the gate."""
        self.open.wait(10)
        exchange.reply(200, completion("late"))


def provider_of(server: HttpServer, **more: Any) -> dict[str, Any]:
    """Settings of a provider at this server."""
    return {"kind": "openai", "base_url": f"{server.url}/v1", "default_model": "test-model", **more}


def configuration(server: HttpServer, *modules: str, **more: Any) -> dict[str, Any]:
    """A configuration with the provider ``local`` at this server, and these modules; every request is sent."""
    return {
        **IN_MEMORY,
        "ai": {"providers": {"local": provider_of(server)}, "caching": {"enabled": False}},
        "modules": {name: {"signature": "question -> answer", "provider": "local"} for name in modules},
        **more,
    }


@contextmanager
def application(script: Script | None = None, *modules: str, **options: Any) -> Iterator[tuple[dspex.App, HttpServer]]:
    """A running application with the provider ``local``, and the server behind it."""
    with HttpServer(script or answering()) as server:
        config = {**configuration(server, *modules), **options.pop("config", {})}
        with dspex.start(config=config, **options) as app:
            yield app, server


class Slow(random.Random):
    """Randomness that makes every back-off long: what is dead stays dead while a test looks."""

    def uniform(self, a: float, b: float) -> float:
        """Far above the upper end."""
        return b * 1000


class Quick(random.Random):
    """Randomness that makes every back-off short."""

    def uniform(self, a: float, b: float) -> float:
        """Near the lower end."""
        return a + (b - a) / 1000


def trip(app: dspex.App, name: str) -> None:
    """Kill an actor as often as it comes back, until its supervisor gives up."""
    watch = Watch(app)
    while watch.state(name) != "dead":
        incarnation = watch.incarnation(name)
        app.kill(name)
        watch.until(lambda before=incarnation: watch.running(name, before) or watch.state(name) == "dead")  # type: ignore[misc]


@dataclass(frozen=True)
class Add:
    """To a counter: add, and answer the sum."""

    by: int = 1


@dataclass(frozen=True)
class Boom:
    """To a counter: crash."""


class Counter(GenServer):
    """Counts, and crashes when told."""

    def init(self, start: int = 0) -> None:
        self.n = start

    @call
    def add(self, msg: Add) -> int:
        self.n += msg.by
        return self.n

    @call
    def boom(self, msg: Boom) -> None:
        raise ZeroDivisionError("boom")


class Broken(GenServer):
    """Never starts."""

    def init(self) -> None:
        raise ZeroDivisionError("no way")


def counter(id: str = "counter", **options: Any) -> ChildSpec:
    """A counter below a name of its own."""
    return ChildSpec(id, Counter, name=f"demo/{id}", **options)


class Watch:
    """Tells when names come to a state; nobody polls.

    Args:
        app: whose names.
    """

    def __init__(self, app: dspex.App | dspex.AsyncApp) -> None:
        self._app = app
        self._changed = threading.Condition()
        self._forget = app.engine.on_engine(app.engine.names.subscribe, self._note)

    def _note(self, entry: NameEntry, change: str) -> None:
        with self._changed:
            self._changed.notify_all()

    def until(self, check: Callable[[], bool], seconds: float = 10.0) -> None:
        """Wait until ``check()`` holds; it is asked at every change of a name."""
        with self._changed:
            assert self._changed.wait_for(check, seconds), "it never came"

    def incarnation(self, name: str) -> int:
        """How many actors had this name; 0 if none."""
        entry = self._app.engine.names.get(name)
        return 0 if entry is None else entry.incarnation

    def running(self, name: str, since: int = 0) -> bool:
        """Whether a later incarnation than ``since`` runs."""
        entry = self._app.engine.names.get(name)
        return entry is not None and entry.state == "running" and entry.incarnation > since

    def state(self, name: str) -> str:
        """The state of a name."""
        entry = self._app.engine.names.get(name)
        return "unknown" if entry is None else entry.state
