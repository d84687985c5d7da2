"""The configuration actor and its journal: acknowledged means kept, a restart loses nothing, no secret is written."""

from __future__ import annotations

import json
from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest

from dspex.actors.configuration.actor import (
    MAX_WAITING,
    ConfigStatus,
    DeclareModule,
    DeclareProvider,
    ResetSettings,
    SubscribeSettings,
    Subscriptions,
    UndeclareProvider,
    UpdateSetting,
)
from dspex.actors.events.kinds import ConfigUpdated, Event
from dspex.actors.events.query import EventQuery
from dspex.actors.events.store import Query
from dspex.runtime.child_spec import ChildSpec
from dspex.runtime.errors import ActorDied, CallError, CallTimeout, ConfigError, Overloaded, StoreUnavailable
from dspex.runtime.messages import GetState
from dspex.runtime.secret import LostSecret, Secret, SecretVault
from dspex.supervisors.supervisor import Supervisor
from kit.configuration import CONFIG, KEY, LOCAL, PATH, Listener, Store, base, get, settle, start
from kit.supervision import House, in_house


def test_a_change_is_journaled_before_it_is_acknowledged() -> None:
    """While the store has not answered nothing has changed and nobody is answered; reading goes on meanwhile."""

    async def test(house: House) -> None:
        events: list[Event] = []
        store = await house.start(Store, events, ["hold"], name="core/events")
        await start(house)
        first = house.engine.loop.create_task(house.call(CONFIG, UpdateSetting(PATH, False)))
        second = house.engine.loop.create_task(house.call(CONFIG, UpdateSetting("ai.caching.ttl_seconds", 5)))
        await settle(house)
        await house.call("core/events", Query(EventQuery()))
        assert await get(house, PATH) is True
        assert len(events) == 1
        assert not first.done()
        house.engine.send(store, "release", None)
        assert await first is False
        assert await second == 5.0
        assert await get(house, PATH) is False
        assert [type(event) for event in events] == [ConfigUpdated, ConfigUpdated]

    in_house(test)


def test_the_event_says_what_changed() -> None:
    """config_updated carries path, new and previous value, and who did it."""

    async def test(house: House) -> None:
        events: list[Any] = []
        await house.start(Store, events, name="core/events")
        await start(house, base(local=LOCAL))
        await house.call(CONFIG, UpdateSetting("ai.providers.local.timeout", "1m"))
        await house.call(CONFIG, UndeclareProvider("local"))
        assert (events[0].path, events[0].value, events[0].previous) == (
            ("ai", "providers", "local", "timeout"),
            60.0,
            30.0,
        )
        assert events[0].source == CONFIG
        assert events[1].path == ("ai", "providers", "local")
        assert events[1].value is None
        assert events[1].previous == LOCAL | {"timeout": 60.0}

    in_house(test)


def test_an_update_that_cannot_be_journaled_changes_nothing() -> None:
    """The store's error is the caller's, the settings stay, the next update works."""

    async def test(house: House) -> None:
        events: list[Event] = []
        vault = SecretVault()
        await house.start(Store, events, [StoreUnavailable("disk full")], name="core/events")
        await start(house, vault=vault)
        with pytest.raises(StoreUnavailable, match="disk full"):
            await house.call(CONFIG, DeclareProvider("local", LOCAL | {"api_key": KEY}))
        assert not await get(house, "ai.providers")
        assert vault.count == 0
        await house.call(CONFIG, DeclareProvider("local", LOCAL | {"api_key": KEY}))
        assert vault.count == 1

    in_house(test)


def test_a_store_that_dies_with_the_change_is_asked_again() -> None:
    """The event may have been stored before the death: asking the next one with the same id is safe."""

    async def test(house: House) -> None:
        events: list[Event] = []
        store = ChildSpec("store", Store, (events, ["die"]), name="core/events")
        await house.start(Supervisor, [store])
        await start(house)
        assert await house.call(CONFIG, UpdateSetting(PATH, False)) is False
        assert len(events) == 1
        assert house.engine.names.get("core/events").restarts == 1  # type: ignore[union-attr]

    in_house(test)


@pytest.mark.parametrize("deaths", [1, 9])
def test_a_store_that_is_gone_is_an_error(deaths: int) -> None:
    """Nobody there any more, or dying at each attempt: the change is refused, the actor lives."""

    async def test(house: House) -> None:
        script = ["die"] * deaths
        if deaths == 1:
            await house.start(Store, [], script, name="core/events")
        else:
            store = ChildSpec("store", Store, ([], script), name="core/events")
            await house.start(Supervisor, [store], max_restarts=deaths)
        await start(house)
        with pytest.raises(CallError, match="died after storing"):
            await house.call(CONFIG, UpdateSetting(PATH, False))
        assert await get(house, PATH) is True

    in_house(test)


def test_a_caller_who_gives_up_while_waiting_changes_nothing() -> None:
    """A change whose caller left before its turn is not made; one already on its way to the journal is."""

    async def test(house: House) -> None:
        events: list[Event] = []
        store = await house.start(Store, events, ["hold"], name="core/events")
        await start(house)
        first = house.engine.loop.create_task(house.call(CONFIG, UpdateSetting(PATH, False), timeout=1.0))
        second = house.engine.loop.create_task(
            house.call(CONFIG, UpdateSetting("ai.caching.ttl_seconds", 5), timeout=1.0)
        )
        for change in (first, second):
            with pytest.raises(CallTimeout):
                await change
        house.engine.send(store, "release", None)
        await house.call("core/events", Query(EventQuery()))
        await settle(house)
        await settle(house)
        assert await get(house, PATH) is False
        assert await get(house, "ai.caching.ttl_seconds") == 3600.0
        assert len(events) == 1

    in_house(test)


def test_a_restart_loses_nothing() -> None:
    """Killed and started again, the actor reads its journal back: puts, removals and resets, in order (item 64)."""

    async def test(house: House) -> None:
        events: list[Event] = []
        settings, vault = base(local=LOCAL, gone=LOCAL), SecretVault()
        await house.start(Store, events, name="core/events")
        address = await start(house, settings, vault=vault)
        for change in (
            DeclareProvider("early", LOCAL),
            ResetSettings(),
            DeclareProvider("late", LOCAL | {"api_key": KEY, "headers": {"x": KEY + "2"}, "timeout": "90s"}),
            UndeclareProvider("gone"),
            DeclareModule("qa", {"signature": "q -> a", "provider": "late", "demos": [{"q": 1}]}),
            UpdateSetting("dspex.modules.timeout", 7),
            UpdateSetting("ai.providers.local.rate_limit", {"limit": 0}),
        ):
            await house.call(CONFIG, change)
        before = await get(house)
        house.engine.kill(address)
        await start(house, settings, vault=vault)
        after = await get(house)
        assert after == before
        assert after.ai.providers["late"].api_key == Secret(KEY)
        assert list(after.ai.providers) == ["local", "late"]
        status = await house.call(CONFIG, ConfigStatus())
        assert (status.restored, status.skipped) == (7, ())

    in_house(test)


def test_money_and_long_times_are_journaled_exactly() -> None:
    """Decimals are written as text, read back without a binary fraction; a timedelta above an hour keeps its unit."""

    async def test(house: House) -> None:
        events: list[Any] = []
        settings, vault = base(), SecretVault()
        await house.start(Store, events, name="core/events")
        address = await start(house, settings, vault=vault)
        money = {
            "prices": {"m": {"input": 0.1, "output": "12.5"}},
            "budget": {"money": Decimal("0.30"), "window": timedelta(days=1)},
        }
        await house.call(CONFIG, DeclareProvider("priced", LOCAL | money))
        assert events[-1].value["budget"]["money"] == "0.30"
        house.engine.kill(address)
        await start(house, settings, vault=vault)
        priced = await get(house, ("ai", "providers", "priced"))
        assert priced.prices["m"].input == Decimal("0.1")
        assert priced.budget.money == Decimal("0.30")
        assert priced.budget.window == 86400.0

    in_house(test)


def test_changes_of_another_application_do_not_come_back() -> None:
    """The journal may be shared: only changes under the same vault id count."""

    async def test(house: House) -> None:
        events: list[Event] = []
        await house.start(Store, events, name="core/events")
        address = await start(house)
        await house.call(CONFIG, UpdateSetting(PATH, False))
        house.engine.kill(address)
        await start(house)
        assert await get(house, PATH) is True

    in_house(test)


def test_a_literal_secret_is_lost_to_another_process_and_says_so() -> None:
    """With the same vault id but an empty vault everything comes back but the secret."""

    async def test(house: House) -> None:
        events: list[Event] = []
        await house.start(Store, events, name="core/events")
        address = await start(house, vault=SecretVault("app"))
        await house.call(CONFIG, DeclareProvider("local", LOCAL | {"api_key": KEY, "timeout": 5}))
        house.engine.kill(address)
        await start(house, vault=SecretVault("app"))
        local = await get(house, "ai.providers.local")
        assert local.timeout == 5.0
        assert isinstance(local.api_key, LostSecret)
        with pytest.raises(ConfigError, match="give it again"):
            local.api_key.resolve()
        await house.call(CONFIG, UpdateSetting("ai.providers.local.timeout", 6))
        assert (await get(house, "ai.providers.local")).timeout == 6.0

    in_house(test)


def test_a_journaled_change_that_no_longer_fits_is_skipped_and_shown() -> None:
    """A change of another release neither stops the start nor disappears in silence."""

    async def test(house: House) -> None:
        events: list[Any] = []
        skipped: list[Any] = []
        house.engine.telemetry.attach("t", ("dspex", "config", "skipped"), lambda *args: skipped.append(args))
        vault = SecretVault()
        await house.start(Store, events, name="core/events")
        address = await start(house, vault=vault)
        await house.call(CONFIG, UpdateSetting(PATH, False))
        await house.call(CONFIG, UpdateSetting("ai.caching.ttl_seconds", 5))
        events[0] = events[0].model_copy(update={"path": ("ai", "caching", "gone")})
        house.engine.kill(address)
        await start(house, vault=vault)
        status = await house.call(CONFIG, ConfigStatus())
        assert status.restored == 1
        assert "ai.caching.gone" in status.skipped[0]
        assert len(skipped) == 1
        assert await get(house, "ai.caching.ttl_seconds") == 5.0

    in_house(test)


def test_no_secret_leaves_through_the_journal_or_a_notification() -> None:
    """Events, notifications, status and state texts hold no literal secret; unused ones leave the vault."""

    async def test(house: House) -> None:
        events: list[Any] = []
        heard: list[Any] = []
        vault = SecretVault()
        await house.start(Store, events, name="core/events")
        await start(house, vault=vault)
        await house.call(CONFIG, SubscribeSettings(await house.start(Listener, heard)))
        await house.call(CONFIG, DeclareProvider("local", LOCAL | {"api_key": KEY}))
        await house.call(CONFIG, DeclareProvider("twin", LOCAL | {"headers": {"x": KEY}}))
        await house.call(CONFIG, UpdateSetting("ai.providers.local.api_key", KEY + "-new"))
        assert vault.count == 2
        await house.call(CONFIG, UndeclareProvider("twin"))
        assert vault.count == 1
        await settle(house)
        seen = [event.model_dump_json() for event in events] + [repr(each) for each in heard]
        seen += [repr(await house.call(CONFIG, GetState())), repr(await house.call(CONFIG, ConfigStatus()))]
        assert len(heard) == 4
        assert all(KEY not in text for text in seen)
        assert json.loads(seen[0])["value"]["api_key"].keys() == {"$vault"}
        await house.call(CONFIG, ResetSettings())
        assert vault.count == 0

    in_house(test)


def test_a_change_that_a_crash_overtook_reaches_subscribers() -> None:
    """Killed between journal and effect: the change holds after the restart, and subscribers are told to read again."""

    async def test(house: House) -> None:
        heard: list[Any] = []
        vault, subscriptions = SecretVault(), Subscriptions()
        await house.start(Store, [], ["hold"], name="core/events")
        address = await start(house, vault=vault, subscriptions=subscriptions)
        await house.call(CONFIG, SubscribeSettings(await house.start(Listener, heard), PATH))
        change = house.engine.loop.create_task(house.call(CONFIG, UpdateSetting(PATH, False)))
        await settle(house)
        await house.call("core/events", Query(EventQuery()))
        house.engine.kill(address)
        with pytest.raises(ActorDied):
            await change
        await start(house, vault=vault, subscriptions=subscriptions)
        await settle(house)
        assert await get(house, PATH) is False
        assert [(each.path, each.action) for each in heard] == [((), "reset")]

    in_house(test)


def test_changes_that_wait_for_the_journal_are_bounded() -> None:
    """While the store does not answer, changes past the bound are refused at once; the others are made later."""

    async def test(house: House) -> None:
        store = await house.start(Store, [], ["hold"], name="core/events")
        await start(house)
        changes = [
            house.engine.loop.create_task(house.call(CONFIG, UpdateSetting("ai.caching.ttl_seconds", float(number))))
            for number in range(MAX_WAITING + 1)
        ]
        with pytest.raises(Overloaded, match=str(MAX_WAITING)):
            await changes[-1]
        assert not any(change.done() for change in changes[:-1])
        house.engine.send(store, "release", None)
        assert [await change for change in changes[:-1]] == [float(number) for number in range(MAX_WAITING)]

    in_house(test)
