"""The configuration actor with the real event store on disk, under a supervisor."""

from __future__ import annotations

import asyncio
import pathlib
from collections.abc import Awaitable, Callable
from typing import Any

from dspex.actors.configuration.actor import (
    ConfigurationActor,
    DeclareModule,
    DeclareProvider,
    GetSettings,
    Subscriptions,
    UndeclareProvider,
    UpdateSetting,
)
from dspex.actors.configuration.settings import Settings
from dspex.actors.events.query import EventQuery
from dspex.actors.events.store import EventStore, Query, open_journal
from dspex.runtime.child_spec import ChildSpec
from dspex.runtime.engine import Engine
from dspex.runtime.secret import Secret, SecretVault
from dspex.supervisors.supervisor import Supervisor
from kit.supervision import House

CONFIG = "core/config"
KEY = "sk-do-not-show-me"


def in_real_time(test: Callable[[House], Awaitable[None]]) -> None:
    """Run a test's coroutine with an engine on a real loop: the store works on threads."""

    async def run() -> None:
        engine = Engine(loop="current")
        try:
            await test(House(engine))
        finally:
            await engine.astop()

    asyncio.run(run())


async def start_core(house: House, path: pathlib.Path, vault: SecretVault) -> None:
    """The left half of the standard tree: event store, configuration."""
    await house.start(
        Supervisor,
        [
            ChildSpec("events", EventStore, (lambda: open_journal(path=path),), name="core/events"),
            ChildSpec("config", ConfigurationActor, (Settings(), vault, Subscriptions()), name=CONFIG),
        ],
        strategy="rest_for_one",
    )


async def change(house: House) -> Any:
    """Some changes of every kind; the settings after them."""
    for message in (
        DeclareProvider("gone", {"kind": "openai"}),
        DeclareProvider("local", {"kind": "openai", "api_key": KEY, "timeout": "1m"}),
        UndeclareProvider("gone"),
        DeclareModule("qa", {"signature": "q -> a", "provider": "local"}),
        UpdateSetting("ai.caching.enabled", False),
    ):
        await house.call(CONFIG, message)
    return await house.call(CONFIG, GetSettings())


def test_a_crash_loses_nothing_and_the_file_holds_no_secret(tmp_path: pathlib.Path) -> None:
    """Killed under its supervisor, and killed together with the store, the actor comes back as it was."""
    path = tmp_path / "app.db"

    async def test(house: House) -> None:
        await start_core(house, path, SecretVault())
        before = await change(house)
        for name in (CONFIG, "core/events"):
            house.engine.kill(name)
            # A call that reached the actor before its supervisor stopped it (rest_for_one) dies with it: ask
            # behind that.
            await house.call("core/events", Query(EventQuery.of(limit=1)))
            assert await house.call(CONFIG, GetSettings()) == before
        assert before.ai.providers["local"].api_key == Secret(KEY)
        page = await house.call("core/events", Query(EventQuery.of(type="config_updated", order="oldest")))
        assert [event.path[-1] for event in page.events] == ["gone", "local", "gone", "qa", "enabled"]

    in_real_time(test)
    files = [file for file in tmp_path.iterdir() if file.is_file()]
    assert files
    assert all(KEY.encode() not in file.read_bytes() for file in files)


def test_a_new_process_starts_from_its_configuration_alone_unless_asked_otherwise(tmp_path: pathlib.Path) -> None:
    """The same file with a fresh vault brings nothing back; with the same vault id all but the literal secret."""
    path = tmp_path / "app.db"
    seen: list[Settings] = []

    async def first(house: House) -> None:
        await start_core(house, path, SecretVault("app"))
        seen.append(await change(house))

    async def fresh(house: House) -> None:
        await start_core(house, path, SecretVault())
        assert await house.call(CONFIG, GetSettings()) == Settings()

    async def again(house: House) -> None:
        await start_core(house, path, SecretVault("app"))
        settings = await house.call(CONFIG, GetSettings())
        assert list(settings.ai.providers) == ["local"]
        assert settings.modules == seen[0].modules
        assert settings.ai.caching == seen[0].ai.caching
        assert not isinstance(settings.ai.providers["local"].api_key, Secret)

    for test in (first, fresh, again):
        in_real_time(test)
