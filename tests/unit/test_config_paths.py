"""Paths into the settings: read, put and remove, within limits."""

from __future__ import annotations

import pickle
from decimal import Decimal
from typing import Any

import pytest

from dspex.actors.configuration.load import load_settings
from dspex.actors.configuration.paths import Limits, merged, parse_path, plain, read_at, tree_of, with_value, without
from dspex.actors.configuration.settings import Settings
from dspex.runtime.errors import ConfigError
from kit.settings import LOCAL


def test_paths_are_texts_or_sequences() -> None:
    """A dotted text, a list and a tuple mean the same; nothing means the whole."""
    assert parse_path("ai.caching.enabled") == parse_path(["ai", "caching", "enabled"]) == ("ai", "caching", "enabled")
    assert parse_path("") == parse_path(()) == ()


@pytest.mark.parametrize(
    "path", ["a..b", "../etc", "__class__", ("a", 5), ("a b",), ["x"] * 51, "a" * 101, 5, None, "a\n"]
)
def test_odd_paths_are_refused(path: Any) -> None:
    """Empty parts, dunders, traversal, other types and long paths are errors (path security)."""
    with pytest.raises(ConfigError):
        parse_path(path)


def test_reading_at_a_path() -> None:
    """None is a value; a missing path gets a hint; the empty path is the whole."""
    settings = Settings.model_validate({"ai": {"providers": {"local": LOCAL}}})
    assert read_at(settings, ()) is settings
    assert read_at(settings, ("ai", "providers", "local", "api_key")) is None
    assert read_at(settings, ("ai", "providers")) == settings.ai.providers
    for path, hint in [
        (("ai", "cachng"), "'caching'"),
        (("ai", "providers", "locl"), "'local'"),
        (("model_fields",), "keys of the top"),
    ]:
        with pytest.raises(ConfigError, match=hint) as caught:
            read_at(settings, path)
        assert caught.value.reason == "path_not_found"
    with pytest.raises(ConfigError, match="no keys below"):
        read_at(settings, ("ai", "caching", "enabled", "x"))


@pytest.mark.parametrize(
    "value",
    [
        lambda: 1,
        object(),
        {1: 2},
        {"a": {object()}},
        float("nan"),
        Decimal("nan"),
        "x" * 11,
        [[[[1]]]],
        list(range(30)),
    ],
)
def test_values_that_no_setting_can_be_are_refused(value: Any) -> None:
    """Functions, objects, odd keys, long texts, deep and large values are errors (value security)."""
    with pytest.raises(ConfigError):
        plain(value, limits=Limits(nesting=2, text_length=10, entries=20))


def test_a_value_within_itself_is_refused() -> None:
    """A cycle ends at the nesting limit, not in a stack overflow."""
    loop: dict[str, Any] = {}
    loop["x"] = loop
    with pytest.raises(ConfigError, match="within one another"):
        plain(loop)


def test_settings_are_a_frozen_snapshot() -> None:
    """Neither a field nor a table can be changed by whoever reads it."""
    settings = load_settings(config={"ai": {"providers": {"local": LOCAL}}}, environ={})
    with pytest.raises(Exception, match="frozen"):
        settings.app.name = "x"
    tables: Any = settings.ai.providers
    for change in (
        lambda: tables.pop("local"),
        lambda: tables.update(x=1),
        tables.clear,
        lambda: tables.__setitem__("x", 1),
    ):
        with pytest.raises(TypeError, match="UpdateSetting"):
            change()
    assert pickle.loads(pickle.dumps(settings)) == settings


def test_putting_and_removing_leave_the_rest_alone() -> None:
    """A changed tree validates to settings that differ at the path only."""
    settings = load_settings(config={"ai": {"providers": {"a": LOCAL, "b": LOCAL}}, "app": {"name": "x"}}, environ={})
    put = Settings.model_validate(with_value(settings, ("ai", "caching", "enabled"), False))
    assert tree_of(put) == merged(tree_of(settings), {"ai": {"caching": {"enabled": False}}})
    removed = Settings.model_validate(without(settings, ("ai", "providers", "a")))
    assert list(removed.ai.providers) == ["b"]
    assert Settings.model_validate(without(settings, ("ai", "providers", "none"))) == settings
