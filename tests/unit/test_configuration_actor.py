"""The configuration actor: reading, changing, journaling, restarting, telling."""

from __future__ import annotations

from typing import Any

import pytest

from dspex.actors.configuration.actor import (
    ConfigStatus,
    DeclareModule,
    DeclareProvider,
    GetModuleSettings,
    GetSettings,
    ResetSettings,
    SubscribeSettings,
    Subscriptions,
    UndeclareModule,
    UndeclareProvider,
    UnsubscribeSettings,
    UpdateSetting,
    ValidateSettings,
)
from dspex.actors.configuration.paths import Limits
from dspex.actors.configuration.provider_settings import ProviderSettings
from dspex.actors.configuration.settings import ModuleSettings, Settings
from dspex.actors.events.kinds import Event
from dspex.runtime.errors import ConfigError, SignatureError
from dspex.runtime.secret import SecretRef
from kit.configuration import CONFIG, LOCAL, PATH, Listener, Store, base, get, settle, start
from kit.supervision import House, in_house

# -- reading -----------------------------------------------------------------------------------------


def test_it_answers_settings_at_any_path() -> None:
    """The whole, a section as a model, a leaf as a value; None is a value; a missing path is an error with a hint."""

    async def test(house: House) -> None:
        settings = base(local=LOCAL)
        await start(house, settings)
        assert await house.call(CONFIG, GetSettings()) is settings
        assert await get(house) is settings
        assert await get(house, ("ai", "providers", "local")) is settings.ai.providers["local"]
        assert await get(house, "ai.providers.local.timeout") == 30.0
        assert await get(house, "ai.providers.local.default_model") is None
        with pytest.raises(ConfigError, match="did you mean 'local'") as caught:
            await get(house, "ai.providers.locl")
        assert caught.value.reason == "path_not_found"
        with pytest.raises(ConfigError):
            await get(house, "../etc")

    in_house(test)


def test_it_starts_with_defaults() -> None:
    """Alone, without arguments and without an event store, it works."""

    async def test(house: House) -> None:
        await start(house)
        assert await get(house) == Settings()
        assert (await house.call(CONFIG, ConfigStatus())).journal == "unknown"
        await house.call(CONFIG, UpdateSetting(PATH, False))
        assert (await house.call(CONFIG, ConfigStatus())).journal == "none"

    in_house(test)


def test_validating_changes_nothing() -> None:
    """ValidateSettings lists what is wrong with a mapping, and is pure."""

    async def test(house: House) -> None:
        await start(house)
        problems = await house.call(CONFIG, ValidateSettings({"ai": {"caching": {"enabled": 1, "ttl": 2}}}))
        assert [each.path for each in problems] == ["ai.caching.enabled", "ai.caching.ttl"]
        assert await house.call(CONFIG, ValidateSettings({"ai": {"caching": {"enabled": False}}})) == ()
        assert len(await house.call(CONFIG, ValidateSettings({"ai": print}))) == 1
        assert await get(house) == Settings()

    in_house(test)


def test_a_modules_settings_come_with_defaults() -> None:
    """GetModuleSettings fills in dspex.modules; an unknown module is a ConfigError."""

    async def test(house: House) -> None:
        await start(house)
        await house.call(CONFIG, DeclareModule("qa", {"signature": "q -> a", "provider": "p"}))
        await house.call(CONFIG, UpdateSetting("dspex.modules.timeout", 7))
        assert (await house.call(CONFIG, GetModuleSettings("qa"))).timeout == 7.0
        with pytest.raises(ConfigError, match="did you mean 'qa'"):
            await house.call(CONFIG, GetModuleSettings("qaa"))

    in_house(test)


# -- changing ----------------------------------------------------------------------------------------


def test_an_update_takes_effect_and_answers_the_new_value() -> None:
    """The value is validated and normalised; the answer is what readers see from now on."""

    async def test(house: House) -> None:
        await start(house, base(local=LOCAL))
        assert await house.call(CONFIG, UpdateSetting("ai.providers.local.timeout", "2m")) == 120.0
        assert await get(house, "ai.providers.local.timeout") == 120.0
        assert await house.call(CONFIG, UpdateSetting(PATH, False)) is False
        assert await get(house, PATH) is False
        assert await house.call(CONFIG, UpdateSetting("ai.providers.local.rate_limit.limit", 0)) == 0

    in_house(test)


@pytest.mark.parametrize(
    ("path", "value", "reason"),
    [
        ("events.path", "/tmp/x.db", "update_forbidden"),
        ("", {}, "update_forbidden"),
        ("ai.providers", {}, "update_forbidden"),
        ("ai.caching.enabled", 1, None),
        ("ai.caching.enabeld", True, "path_not_found"),
        ("ai.providers.local.timeot", 5, None),
        ("ai.providers.local.timeout", 30_000, None),
        ("ai.providers.local", {"kind": "opnai"}, None),
        ("ai.providers.new.timeout", 5, None),
        ("ai.caching.enabled", print, None),
        ("ai.caching.enabled", "x" * 11, None),
        ("a b", 1, None),
    ],
)
def test_a_failed_update_changes_nothing(path: str, value: Any, reason: str | None) -> None:
    """Whatever is wrong: a ConfigError for the caller, the same settings, nothing journaled, nobody told."""

    async def test(house: House) -> None:
        settings, events, heard = base(local=LOCAL), list[Event](), list[Any]()
        await house.start(Store, events, name="core/events")
        await start(house, settings, limits=Limits(text_length=20) if value != "x" * 11 else Limits(text_length=10))
        await house.call(CONFIG, SubscribeSettings(await house.start(Listener, heard)))
        with pytest.raises(ConfigError) as caught:
            await house.call(CONFIG, UpdateSetting(path, value))
        assert caught.value.facts.get("reason") == reason
        await settle(house)
        assert await get(house) is settings
        assert events == []
        assert heard == []

    in_house(test)


def test_an_update_to_an_equal_value_is_an_update() -> None:
    """Success is success: journaled and told, also when nothing differs."""

    async def test(house: House) -> None:
        events: list[Event] = []
        await house.start(Store, events, name="core/events")
        await start(house)
        await house.call(CONFIG, UpdateSetting(PATH, True))
        await house.call(CONFIG, UpdateSetting(PATH, True))
        assert len(events) == 2

    in_house(test)


def test_declaring_and_undeclaring() -> None:
    """Providers and modules come and go by name, as mappings or as models; unknown names are errors."""

    async def test(house: House) -> None:
        await start(house)
        declared = await house.call(CONFIG, DeclareProvider("local", LOCAL | {"api_key": {"system": "A"}}))
        assert isinstance(declared, ProviderSettings)
        assert declared.api_key == SecretRef("A")
        assert (await house.call(CONFIG, DeclareProvider("again", declared))) == declared
        module = await house.call(CONFIG, DeclareModule("qa", {"signature": "q -> a", "provider": "local"}))
        assert isinstance(module, ModuleSettings)
        assert list(await get(house, "ai.providers")) == ["local", "again"]
        assert list(await get(house, "modules")) == ["qa"]
        assert await house.call(CONFIG, UndeclareModule("qa")) is None
        await house.call(CONFIG, UndeclareProvider("local"))
        assert list(await get(house, "ai.providers")) == ["again"]
        for message in (UndeclareModule("qa"), UndeclareProvider("local"), DeclareProvider("x", {"kind": "opnai"})):
            with pytest.raises(ConfigError):
                await house.call(CONFIG, message)
        with pytest.raises(ConfigError):
            await house.call(CONFIG, DeclareProvider("a/b", LOCAL))

    in_house(test)


def test_a_malformed_signature_is_the_signatures_own_error() -> None:
    """DeclareModule fails with the position; any other way in the same mistake is a ConfigError."""

    async def test(house: House) -> None:
        await start(house)
        with pytest.raises(SignatureError, match="strng") as caught:
            await house.call(CONFIG, DeclareModule("qa", {"signature": "q -> a: strng", "provider": "p"}))
        assert caught.value.position == 8
        await house.call(CONFIG, DeclareModule("qa", {"signature": "q -> a", "provider": "p"}))
        with pytest.raises(ConfigError, match="position 8"):
            await house.call(CONFIG, UpdateSetting("modules.qa.signature", "q -> a: strng"))

    in_house(test)


def test_reset_goes_back_to_what_was_loaded() -> None:
    """Changes go, what file, environment and arguments said stays."""

    async def test(house: House) -> None:
        settings = base(local=LOCAL)
        await start(house, settings)
        await house.call(CONFIG, DeclareProvider("other", LOCAL))
        await house.call(CONFIG, UpdateSetting("ai.providers.local.timeout", 5))
        assert await house.call(CONFIG, ResetSettings()) == settings
        assert await get(house) == settings
        status = await house.call(CONFIG, ConfigStatus())
        assert (status.updates, status.resets) == (3, 1)
        assert status.last_update is not None

    in_house(test)


# -- subscribers -------------------------------------------------------------------------------------


def test_each_success_tells_each_subscriber_once() -> None:
    """One notification for each change at, above or below a wanted path, however often subscribed."""

    async def test(house: House) -> None:
        everything: list[Any] = []
        caching: list[Any] = []
        subscriptions = Subscriptions()
        await start(house, base(local=LOCAL), subscriptions=subscriptions)
        first, second = await house.start(Listener, everything), await house.start(Listener, caching)
        await house.call(CONFIG, SubscribeSettings(first))
        await house.call(CONFIG, SubscribeSettings(first, "ai"))
        await house.call(CONFIG, SubscribeSettings(second, "ai.caching"))
        await house.call(CONFIG, SubscribeSettings(second, "ai.caching"))
        assert subscriptions.paths[second] == (("ai", "caching"),)
        await house.call(CONFIG, UpdateSetting(PATH, False))
        await house.call(CONFIG, UpdateSetting("ai.providers.local.timeout", 5))
        await house.call(CONFIG, UndeclareProvider("local"))
        await house.call(CONFIG, ResetSettings())
        await settle(house)
        assert [(each.path, each.value, each.action) for each in everything] == [
            (PATH, False, "updated"),
            (("ai", "providers", "local", "timeout"), 5.0, "updated"),
            (("ai", "providers", "local"), None, "removed"),
            ((), None, "reset"),
        ]
        assert [each.path for each in caching] == [PATH, ()]

    in_house(test)


def test_subscribers_leave_by_word_or_by_death() -> None:
    """After either nothing is sent, and nothing is kept."""

    async def test(house: House) -> None:
        heard: list[Any] = []
        subscriptions = Subscriptions()
        await start(house, subscriptions=subscriptions)
        leaver, victim = await house.start(Listener, heard), await house.start(Listener, heard)
        for address in (leaver, victim):
            await house.call(CONFIG, SubscribeSettings(address))
        assert (await house.call(CONFIG, ConfigStatus())).subscribers == 2
        assert await house.call(CONFIG, UnsubscribeSettings(leaver)) is True
        assert await house.call(CONFIG, UnsubscribeSettings(leaver)) is False
        house.engine.kill(victim)
        await settle(house)
        assert subscriptions.paths == {}
        await house.call(CONFIG, UpdateSetting(PATH, False))
        await settle(house)
        assert heard == []

    in_house(test)


def test_subscriptions_survive_a_crash_of_the_actor() -> None:
    """Handed in from outside they are there again after a restart; who died meanwhile is dropped."""

    async def test(house: House) -> None:
        heard: list[Any] = []
        subscriptions = Subscriptions()
        address = await start(house, subscriptions=subscriptions)
        listener, victim = await house.start(Listener, heard), await house.start(Listener, heard)
        for each in (listener, victim):
            await house.call(CONFIG, SubscribeSettings(each))
        house.engine.kill(address)
        house.engine.kill(victim)
        await start(house, subscriptions=subscriptions)
        await house.call(CONFIG, UpdateSetting(PATH, False))
        await settle(house)
        assert len(heard) == 1
        assert list(subscriptions.paths) == [listener]

    in_house(test)


def test_changes_are_counted_by_telemetry() -> None:
    """Each success executes dspex.config.updated with its path and action."""

    async def test(house: House) -> None:
        seen: list[Any] = []
        house.engine.telemetry.attach("t", ("dspex", "config", "updated"), lambda *args: seen.append(args[1:3]))
        await start(house)
        await house.call(CONFIG, UpdateSetting(PATH, False))
        await house.call(CONFIG, ResetSettings())
        assert seen == [
            ({"count": 1}, {"path": "ai.caching.enabled", "action": "updated"}),
            ({"count": 1}, {"path": "", "action": "reset"}),
        ]

    in_house(test)
