"""For tests of the configuration actor: a store that can misbehave, a listener, short ways to start and read."""

from __future__ import annotations

from typing import Any

from dspex.actors.configuration.actor import (
    ConfigChanged,
    ConfigStatus,
    ConfigurationActor,
    GetSetting,
)
from dspex.actors.configuration.load import load_settings
from dspex.actors.configuration.settings import Settings
from dspex.actors.events.kinds import Event
from dspex.actors.events.query import EventPage
from dspex.actors.events.store import AppendAcked, Query
from dspex.runtime.calls import Call
from dspex.runtime.gen_server import Exit, Fail, GenServer, NoReply, call, info
from kit.supervision import House

CONFIG = "core/config"
KEY = "sk-do-not-show-me"
LOCAL: dict[str, Any] = {"kind": "openai", "base_url": "http://127.0.0.1:1/v1"}
PATH = ("ai", "caching", "enabled")


class Store(GenServer):
    """An event store that keeps its events in a list it is given, and can misbehave."""

    def init(self, events: list[Event], script: list[Any] | None = None) -> None:
        self.events, self.script = events, [] if script is None else script
        self.held: list[Call] = []

    @call
    def append(self, msg: AppendAcked) -> Any:
        self.appended = msg.events
        step = self.script.pop(0) if self.script else None
        if isinstance(step, Exception):
            return Fail(step)
        for event in msg.events:
            if event not in self.events:
                self.events.append(event)
        if step == "die":
            raise Exit("died after storing")
        if step == "hold":
            self.held.append(self.caller)
            return NoReply()
        return [event.id for event in msg.events]

    @call
    def query(self, msg: Query) -> EventPage:
        start = msg.query.cursor or 0
        found = [
            (place, event)
            for place, event in enumerate(self.events, 1)
            if place > start and msg.query.matches(event.model_dump(mode="json"))
        ]
        page = found[:2]  # small pages, so that paging is tested
        seqs = tuple(place for place, _ in page)
        return EventPage(tuple(event for _, event in page), seqs, seqs[-1] if seqs else None, more=len(found) > 2)

    @info
    def release(self, msg: str) -> None:
        for caller in self.held:
            self.reply(caller, [])
        self.held.clear()


class Listener(GenServer):
    """Notes what it is told."""

    def init(self, heard: list[Any]) -> None:
        self.heard = heard

    @info
    def changed(self, msg: ConfigChanged) -> None:
        self.heard.append(msg)


async def start(house: House, settings: Settings | None = None, **options: Any) -> Any:
    """Start the actor under its name."""
    return await house.start(ConfigurationActor, settings, name=CONFIG, **options)


async def get(house: House, path: Any = ()) -> Any:
    """Read a setting."""
    return await house.call(CONFIG, GetSetting(path))


async def settle(house: House) -> None:
    """Until everything sent so far has been handled."""
    await house.call(CONFIG, ConfigStatus())


def base(**providers: dict[str, Any]) -> Settings:
    """A configuration as loaded."""
    return load_settings(config={"ai": {"providers": providers}}, environ={})
