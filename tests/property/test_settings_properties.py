"""Properties of settings: what is valid stays valid, what is merged keeps its rules, nothing odd gets through."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import partial
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from dspex.actors.configuration.changes import Change, applied, journaled, public, restored, secrets_in
from dspex.actors.configuration.load import load_settings
from dspex.actors.configuration.paths import merged, plain, tree_of
from dspex.actors.configuration.problems import validated
from dspex.actors.configuration.settings import Settings
from dspex.actors.configuration.types import UNITS, seconds
from dspex.runtime.errors import ConfigError
from dspex.runtime.secret import Secret, SecretVault

names = st.from_regex(r"[a-z][a-z0-9_-]{0,8}", fullmatch=True)
texts = st.text(min_size=1, max_size=20).filter(lambda text: bool(text.strip()))
durations = st.floats(0.001, 3600) | st.sampled_from(["30s", "500ms", "2m", "1h"])
secrets = texts | names.map(lambda name: {"system": "K_" + name.replace("-", "_")})
rate_limits = st.fixed_dictionaries(
    {},
    optional={
        "window": durations,
        "limit": st.integers(0, 10) | st.just("none"),
        "tokens": st.none() | st.integers(0, 9),
    },
)
providers = st.fixed_dictionaries(
    {"kind": st.sampled_from(["openai", "anthropic"])},
    optional={
        "api_key": st.none() | secrets,
        "timeout": durations,
        "retry_attempts": st.integers(0, 9),
        "rate_limit": st.none() | rate_limits,
        "headers": st.dictionaries(names, secrets, max_size=2),
    },
)
modules = st.fixed_dictionaries(
    {"signature": st.sampled_from(["q -> a", "q, c: list[str] -> a: float"]), "provider": names},
    optional={"temperature": st.floats(0, 2), "demos": st.lists(st.dictionaries(names, texts, max_size=2), max_size=2)},
)
trees = st.fixed_dictionaries(
    {},
    optional={
        "ai": st.fixed_dictionaries(
            {},
            optional={
                "providers": st.dictionaries(names, providers, max_size=3),
                "caching": st.fixed_dictionaries(
                    {}, optional={"enabled": st.booleans(), "ttl_seconds": st.integers(0, 99999)}
                ),
            },
        ),
        "modules": st.dictionaries(names, modules, max_size=3),
        "events": st.fixed_dictionaries(
            {}, optional={"durable": st.booleans(), "max_events": st.none() | st.integers(1, 9)}
        ),
    },
)
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8) | names, inner, max_size=3),
    max_leaves=12,
)


def _load(tree: Any) -> Settings:
    return validated(plain(tree))


def refusal_of(load: Callable[[], Settings]) -> ConfigError | None:
    """The ConfigError of a load, or None; any other exception fails the test."""
    try:
        load()
    except ConfigError as error:
        return error
    return None


@given(trees)
def test_generated_valid_settings_always_pass(tree: dict[str, Any]) -> None:
    """Valid configurations load, and what was set in them loads to equal settings again."""
    settings = load_settings(config=tree, environ={})
    assert validated(tree_of(settings)) == settings


@given(trees, trees, trees)
def test_merging_is_associative_and_keeps_the_later(low: Any, middle: Any, high: Any) -> None:
    """The order of layers alone decides; merging twice changes nothing, nor does an empty layer."""
    assert merged(merged(low, middle), high) == merged(low, merged(middle, high))
    assert merged(low, {}) == low == merged({}, low) == merged(low, low)


@given(json_values)
def test_any_value_is_accepted_or_refused_with_a_typed_error(value: Any) -> None:
    """No value at any place ends in another exception than ConfigError."""
    for tree in (
        value,
        {"ai": value},
        {"ai": {"providers": {"x": value}}},
        {"modules": {"x": value}},
        {"events": value},
    ):
        error = refusal_of(partial(_load, tree))
        assert error is None or (error.expected and error.got)


@given(
    st.dictionaries(st.text(max_size=12) | names.map(lambda name: f"DSPEX_AI__{name.upper()}"), st.text(max_size=12))
)
def test_any_environment_is_accepted_or_refused_with_a_typed_error(environ: dict[str, str]) -> None:
    """Foreign variables are left alone, malformed ones of ours are ConfigErrors."""
    environ.pop("DSPEX_CONFIG", None)
    error = refusal_of(lambda: load_settings(environ=environ))
    assert error is None or error.source.startswith("environment variable DSPEX_")


@given(st.floats(0, 1e6), st.sampled_from(sorted(UNITS)))
def test_units_are_what_they_say(number: float, unit: str) -> None:
    """A number with a unit is that many units of seconds."""
    text = f"{number:.6f}"
    assert seconds(f"{text}{unit}") == float(text) * UNITS[unit]


@given(trees)
def test_the_journal_gives_back_what_it_was_given_and_shows_no_secret(tree: dict[str, Any]) -> None:
    """Settings through the journal are equal, literal secrets by the vault; the journal's text holds none of them."""
    settings, vault = load_settings(config=tree, environ={}), SecretVault()
    numbers = iter(range(1000))
    for name, provider in settings.ai.providers.items():
        path = ("ai", "providers", name)
        written = json.loads(json.dumps(journaled(provider, vault, lambda: f"h{next(numbers)}")))
        again = applied(Change("updated", path, restored(written, path, vault)), Settings(), Settings())
        assert again.ai.providers[name] == provider
    texts_written = json.dumps([journaled(settings, vault, lambda: f"h{next(numbers)}"), public(settings)])
    assert all(f"{MARK}{secret.resolve()}" not in texts_written for secret in secrets_in(settings))


MARK = "must-not-show-"


@given(st.lists(texts, min_size=1, max_size=3))
def test_no_literal_secret_is_written(values: list[str]) -> None:
    """Neither the journal's form nor the public form of settings holds a literal secret."""
    provider = {
        "kind": "openai",
        "api_key": MARK + values[0],
        "headers": {f"h{n}": MARK + v for n, v in enumerate(values)},
    }
    settings = load_settings(config={"ai": {"providers": {"x": provider}}}, environ={})
    written = json.dumps([journaled(settings, SecretVault(), lambda: "h"), public(settings)])
    assert MARK not in written
    assert Secret(MARK + values[0]) in set(secrets_in(settings))
