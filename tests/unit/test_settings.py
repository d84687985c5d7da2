"""Loading settings: the seed's schema, layers, errors that name path, expected, got and source."""

from __future__ import annotations

import pathlib
import pickle
import re
import time
from collections.abc import Callable
from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest

from dspex.actors.configuration.load import load_settings
from dspex.actors.configuration.paths import with_value
from dspex.actors.configuration.provider_settings import BASE_URLS, PROTECTION_KEYS, Budget, ProviderSettings, RateLimit
from dspex.actors.configuration.schema import is_live, keys, node_at
from dspex.actors.configuration.settings import MEMORY_EVENTS, CachingSettings, Settings
from dspex.runtime.errors import ConfigError
from dspex.runtime.secret import Secret, SecretRef
from kit.settings import KEY, LOCAL, SEED, refused

ROOT = pathlib.Path(__file__).parents[2]


def provider(**settings: Any) -> ProviderSettings:
    """The settings of one provider, loaded from arguments."""
    return load_settings(config={"ai": {"providers": {"local": LOCAL | settings}}}, environ={}).ai.providers["local"]


# -- the schema --------------------------------------------------------------------------------------


def test_every_key_of_the_seed_loads(tmp_path: pathlib.Path) -> None:
    """The seed's whole configuration, in seconds, is accepted as it stands."""
    path = tmp_path / "dspex.toml"
    path.write_text(SEED)
    settings = load_settings(path, environ={})
    openai, anthropic = settings.ai.providers["openai"], settings.ai.providers["anthropic"]
    assert (openai.kind, anthropic.kind) == ("openai", "anthropic")
    assert openai.api_key == SecretRef("OPENAI_API_KEY")
    assert anthropic.rate_limit is not None
    assert (anthropic.rate_limit.window, anthropic.rate_limit.limit) == (60.0, 50)
    assert anthropic.recovery_time == 30.0
    assert settings.ai.caching.ttl_seconds == 86400.0
    assert settings.dspex.evaluation.max_workers == "auto"


def test_nothing_is_configured_by_itself() -> None:
    """No provider, no module, no model, no limit and no disk cache unless asked for."""
    settings = load_settings(environ={})
    assert not settings.ai.providers
    assert not settings.modules
    assert not settings.ai.caching.disk_cache_enabled
    assert provider().default_model is None
    assert provider().rate_limit is None
    assert settings == Settings()


@pytest.mark.parametrize(
    ("key", "value"), [("retry_attempts", 0), ("failure_threshold", 0), ("recovery_time", 0), ("retry_base_delay", 0.0)]
)
def test_zero_is_a_value(key: str, value: float) -> None:
    """Zero is never taken for unset (item 10)."""
    assert getattr(provider(**{key: value}), key) == 0


def test_a_limit_of_zero_and_no_limit_differ() -> None:
    """0 lets nothing through, "none" is no limit, silence is the seed's 100."""
    limits = [provider(rate_limit={} if limit is ... else {"limit": limit}).rate_limit for limit in (0, "none", ...)]
    assert [limit and limit.limit for limit in limits] == [0, None, 100]


def test_false_is_a_value() -> None:
    """A flag that is true by default can be turned off."""
    settings = load_settings(config={"ai": {"caching": {"enabled": False}}}, environ={})
    assert settings.ai.caching.enabled is False


@pytest.mark.parametrize("kind", BASE_URLS)
def test_a_kind_has_its_address(kind: str) -> None:
    """Without base_url a provider lives where its kind lives; the kind may come from the name."""
    settings = load_settings(config={"ai": {"providers": {kind: {}, "mine": {"kind": kind}}}}, environ={})
    assert settings.ai.providers[kind].base_url == settings.ai.providers["mine"].base_url == BASE_URLS[kind]


def test_the_address_follows_a_changed_kind() -> None:
    """An address that nobody set is that of the present kind."""
    first = Settings.model_validate({"ai": {"providers": {"x": {"kind": "openai"}}}})
    second = Settings.model_validate(with_value(first, ("ai", "providers", "x", "kind"), "gemini"))
    assert second.ai.providers["x"].base_url == BASE_URLS["gemini"]


def test_modules_take_their_defaults_from_dspex_modules() -> None:
    """What a module's table is silent about comes from dspex.modules; what it says stays."""
    qa = {"signature": "q -> a", "provider": "p"}
    config = {"dspex": {"modules": {"timeout": 7}}, "modules": {"a": qa, "b": qa | {"timeout": 3, "adapter": "json"}}}
    settings = load_settings(config=config, environ={})
    assert (settings.module("a").timeout, settings.module("a").adapter) == (7.0, "chat")
    assert (settings.module("b").timeout, settings.module("b").adapter) == (3.0, "json")


@pytest.mark.parametrize(
    ("events", "durable", "max_events"),
    [
        ({}, True, 1_000_000),
        ({"durable": False}, False, MEMORY_EVENTS),
        ({"in_memory": True}, False, MEMORY_EVENTS),
        ({"in_memory": False}, True, 1_000_000),
        ({"in_memory": True, "max_events": 5}, False, 5),
        ({"durable": True, "max_events": "none"}, True, None),
    ],
)
def test_durable_and_in_memory_imply_each_other(events: dict[str, Any], durable: bool, max_events: int | None) -> None:
    """Either key says where events are kept; a store in memory is bounded lower."""
    settings = load_settings(config={"events": events}, environ={}).events
    assert (settings.durable, settings.in_memory, settings.max_events) == (durable, not durable, max_events)


def test_durable_and_in_memory_cannot_both_hold() -> None:
    """A contradiction is refused, not resolved in silence."""
    assert "opposite" in str(refused({"events": {"durable": True, "in_memory": True}}))


# -- durations ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("written", "seconds"),
    [
        (30, 30.0),
        (0.25, 0.25),
        (3600, 3600.0),
        ("30", 30.0),
        ("30s", 30.0),
        ("500ms", 0.5),
        ("2m", 120.0),
        ("1h", 3600.0),
        ("2 H", 7200.0),
        ("1.5h", 5400.0),
        ("1d", 86400.0),
        (timedelta(hours=2), 7200.0),
    ],
)
def test_durations(written: object, seconds: float) -> None:
    """Plain numbers are seconds; texts may carry a unit; a timedelta says its own."""
    assert provider(timeout=written).timeout == pytest.approx(seconds)


@pytest.mark.parametrize("written", [30_000, 3600.5, "30000", "3601"])
def test_a_long_duration_needs_a_unit(written: object) -> None:
    """Above 3600 without a unit milliseconds were meant; the error asks."""
    error = refused({"ai": {"providers": {"local": LOCAL | {"timeout": written}}}})
    assert "seconds, not ms?" in str(error)
    assert error.path == "ai.providers.local.timeout"
    assert error.source == "arguments"


@pytest.mark.parametrize(
    "written", [True, "soon", "10 parsecs", "-5s", -1, float("nan"), float("inf"), None, [], "", "s", 0, "0s", 10**400]
)
def test_what_is_no_deadline_is_refused(written: object) -> None:
    """Flags, words, unknown units, negative, infinite and zero deadlines are errors."""
    refused({"ai": {"providers": {"local": LOCAL | {"timeout": written}}}})


def test_durations_outside_a_file_may_be_of_any_size() -> None:
    """Settings made in Python: a number too large for a float is refused like any other."""
    for key in ("timeout", "recovery_time"):
        with pytest.raises(ValueError, match="duration"):
            ProviderSettings.model_validate(LOCAL | {key: 10**400})
    with pytest.raises(ValueError, match="finite"):
        CachingSettings.model_validate({"ttl_seconds": 10**400})


def test_a_long_text_is_no_slow_duration() -> None:
    """A text full of blanks is refused in time that grows with its length only."""
    began = time.process_time()
    refused({"ai": {"providers": {"local": LOCAL | {"timeout": f"1{' ' * 100_000}!"}}}})
    assert time.process_time() - began < 5  # it was half a minute


# -- errors ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("config", "path", "hint"),
    [
        ({"modles": {}}, "modles", "did you mean 'modules'"),
        ({"ai": {"cachng": {}}}, "ai.cachng", "did you mean 'caching'"),
        ({"ai": {"caching": {"enabeld": True}}}, "ai.caching.enabeld", "did you mean 'enabled'"),
        (
            {"ai": {"providers": {"local": LOCAL | {"timeot": 1}}}},
            "ai.providers.local.timeot",
            "did you mean 'timeout'",
        ),
        ({"ai": {"providers": {"local": {"kind": "opnai"}}}}, "ai.providers.local.kind", "did you mean 'openai'"),
        ({"dspex": {"modules": {"default_adapter": "chatt"}}}, "dspex.modules.default_adapter", "did you mean 'chat'"),
        ({"app": {"zzz": 1}}, "app.zzz", "there are name"),
        ({"providers": {"local": LOCAL}}, "providers", "did you mean 'ai.providers'"),
    ],
)
def test_misspelt_keys_and_words_get_a_hint(config: dict[str, Any], path: str, hint: str) -> None:
    """An unknown key or word is refused with its path and the nearest right one."""
    error = refused(config)
    assert error.path == path
    assert hint in str(error)


@pytest.mark.parametrize(
    ("config", "path", "expected", "got"),
    [
        ({"ai": 5}, "ai", "a table", "5"),
        ({"ai": {"providers": []}}, "ai.providers", "a table", "a list"),
        ({"ai": {"providers": {"local": LOCAL | {"rate_limit": 5}}}}, "ai.providers.local.rate_limit", "a table", "5"),
        ({"ai": {"providers": {"local": {}}}}, "ai.providers.local.kind", "a kind", "nothing"),
        ({"ai": {"providers": {"a b": LOCAL}}}, "ai.providers.a b", "a name of letters", "'a b'"),
        ({"ai": {"caching": {"enabled": 1}}}, "ai.caching.enabled", "true or false", "1"),
        ({"ai": {"caching": {"memory_cache_size": "5"}}}, "ai.caching.memory_cache_size", "integer", "'5'"),
        ({"ai": {"caching": {"memory_cache_size": True}}}, "ai.caching.memory_cache_size", "integer", "true"),
        ({"ai": {"caching": {"memory_cache_size": -1}}}, "ai.caching.memory_cache_size", "greater than or equal", "-1"),
        ({"dspex": {"evaluation": {"max_workers": 0}}}, "dspex.evaluation.max_workers", "auto", "0"),
        ({"modules": {"qa": {"provider": "p"}}}, "modules.qa.signature", "'signature'", "nothing"),
        (
            {"modules": {"qa": {"signature": "q > a", "provider": "p"}}},
            "modules.qa.signature",
            "a signature",
            "'q > a'",
        ),
        ({"modules": {"qa": {"signature": 5, "provider": "p"}}}, "modules.qa.signature", "a text", "5"),
        (
            {"ai": {"providers": {"local": LOCAL | {"default_model": ""}}}},
            "ai.providers.local.default_model",
            "empty",
            "''",
        ),
        (
            {"ai": {"providers": {"local": LOCAL | {"limit_storage": "memcached://h"}}}},
            "ai.providers.local.limit_storage",
            "redis://",
            "a hidden value",
        ),
        (
            {"ai": {"providers": {"local": LOCAL | {"budget": {"money": -2.5}}}}},
            "ai.providers.local.budget.money",
            "greater than or equal",
            "-2.5",
        ),
        (
            {"ai": {"providers": {"local": LOCAL | {"budget": {"money": Decimal("-2.5")}}}}},
            "ai.providers.local.budget.money",
            "greater than or equal",
            "-2.5",
        ),
        (
            {"ai": {"providers": {"local": LOCAL | {"budget": {"money": "-2.5"}}}}},
            "ai.providers.local.budget.money",
            "greater than or equal",
            "-2.5",
        ),
        ({"app": {"name": print}}, "app.name", "table, list, text", "builtin_function_or_method"),
        ({"app": {"name": "x" * 2_000_000}}, "app.name", "texts of at most", "2000000 characters"),
        ({"ai": {"caching": {"memory_cache_size": 10**5000}}}, "ai.caching.memory_cache_size", "64 bits", "16610 bits"),
        (
            {"ai": {"providers": {"local": LOCAL | {"headers": {"a b": "x"}}}}},
            "ai.providers.local.headers.a b",
            "a header name",
            "'a b'",
        ),
    ],
)
def test_errors_say_path_expected_and_got(config: dict[str, Any], path: str, expected: str, got: str) -> None:
    """Each refusal names where, what was expected and what came, as text and as facts."""
    error = refused(config)
    assert error.path == path
    assert expected in error.expected
    assert got in error.got
    assert error.path in str(error)
    assert pickle.loads(pickle.dumps(error)).path == path


@pytest.mark.parametrize(
    "url",
    [
        "",
        "127.0.0.1:1",
        "ftp://x/",
        "http://",
        "http://user:pw@h/",
        "http://h/?key=1",
        "http://h/#a",
        "http://h:x/",
        "http://a b/",
        "http://h/\udc00",
    ],
)
def test_wrong_addresses_are_refused(url: str) -> None:
    """Only http(s) addresses without credentials, query or fragment; credentials are not echoed."""
    error = refused({"ai": {"providers": {"local": {"kind": "openai", "base_url": url}}}})
    assert error.path == "ai.providers.local.base_url"
    assert "pw" not in str(error)


def test_a_last_slash_of_an_address_is_dropped() -> None:
    """So that paths can be joined."""
    assert provider(base_url="http://h/v1/").base_url == "http://h/v1"


@pytest.mark.parametrize(
    ("make", "path", "expected", "got", "hint"),
    [
        (lambda: Budget(requests=-1), "requests", "greater than or equal to 0", "-1", ""),
        (lambda: Budget(mony=1), "mony", "a key of Budget", "unknown 'mony'", "did you mean 'money'?"),  # type: ignore[call-arg]
        (lambda: RateLimit(tokens="many"), "tokens", "an integer", "'many'", ""),  # type: ignore[arg-type]
        (
            lambda: ProviderSettings(kind="openai", budget={"requests": -1}),  # type: ignore[arg-type]
            "budget.requests",
            "greater than or equal to 0",
            "-1",
            "",
        ),
    ],
)
def test_a_section_made_by_hand_is_refused_as_a_file_is(
    make: Callable[[], object], path: str, expected: str, got: str, hint: str
) -> None:
    """A settings object with a mistake raises ConfigError with path, expected and got, never pydantic's own error."""
    with pytest.raises(ConfigError) as caught:
        make()
    facts = caught.value.facts
    assert (facts["path"], facts["expected"], facts["got"]) == (path, expected, got)
    assert hint in str(caught.value)
    assert (caught.value.__cause__, caught.value.__context__) == (None, None)


def test_a_section_made_by_hand_shows_no_secret() -> None:
    """What stands at a secret's place is hidden, also in an error about another key."""
    with pytest.raises(ConfigError) as caught:
        ProviderSettings(kind="openai", api_key="", api_kee=KEY, headers={"a b": KEY})  # type: ignore[arg-type, call-arg, dict-item]
    assert KEY not in f"{caught.value!r} {caught.value.facts}"


def test_all_problems_come_at_once() -> None:
    """Two mistakes are two lines and two problems, not two runs."""
    error = refused({"ai": {"caching": {"enabled": 1, "nabled": 1}}})
    assert len(error.problems) == 2
    assert "2 settings are wrong" in str(error)


# -- secrets -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "settings",
    [
        {"api_kye": KEY},
        {"api_key": {"system": KEY}},
        {"api_key": [KEY]},
        {"api_key": {"system": "A", "extra": KEY}},
        {"api_key": 123454321},
        {"headers": {"authorization": ["Bearer", KEY]}},
        {"headers": KEY},
        {"base_url": f"http://user:{KEY}@host/"},
        {"base_url": f"https://host/v1?key={KEY}"},
        {"base_url": f"https://host/v1#{KEY}"},
        {"base_url": KEY},
        {"timeout": KEY},
        {"rate_limit": KEY},
    ],
)
def test_no_error_shows_a_secret(settings: dict[str, Any]) -> None:
    """A secret in the wrong place, of the wrong type or under a misspelt key stays hidden, the cause included."""
    error = refused({"ai": {"providers": {"local": LOCAL | settings}}})
    everything = f"{error} {error!r} {error.facts}"
    assert error.__cause__ is error.__context__ is None  # pydantic's error would hold the value
    assert KEY not in everything
    assert "123454321" not in everything


def test_pydantic_itself_shows_no_value() -> None:
    """Who validates past the loader gets pydantic's error, without the input in its text."""
    with pytest.raises(ValueError, match="api_key") as caught:
        Settings.model_validate({"ai": {"providers": {"openai": {"api_key": [KEY]}}}})
    assert KEY not in f"{caught.value} {caught.value!r}"


def test_settings_do_not_show_secrets() -> None:
    """No repr, dump or JSON of settings shows a key or a header's value; the owner can resolve both."""
    local = provider(api_key=KEY, headers={"X-Token": KEY})
    for text in (repr(local), str(local), str(local.model_dump()), local.model_dump_json()):
        assert KEY not in text
    assert local.api_key == Secret(KEY)
    assert local.headers["X-Token"].resolve() == KEY


def test_literal_secrets_do_not_pickle_and_references_do() -> None:
    """Settings with a literal secret refuse to leave the process (SecretStr would pickle in clear)."""
    with pytest.raises(Exception, match="literal") as caught:
        pickle.dumps(provider(api_key=KEY))
    assert KEY not in str(caught.value)
    local = provider(api_key={"system": "A_KEY"})
    assert pickle.loads(pickle.dumps(local)) == local


# -- the table of keys -------------------------------------------------------------------------------


def test_the_documentation_lists_every_key() -> None:
    """docs/configuration.md has one row for each key: path, type, unit, default, live and description."""
    written = re.findall(r"^\| `[^`]*`.*\|$", (ROOT / "docs" / "configuration.md").read_text(), re.MULTILINE)
    wanted = [key.row() for key in keys()]
    for there, right in zip(written, wanted, strict=False):
        assert there == right
    assert written == wanted


def test_what_protects_a_provider_is_marked_where_it_is_declared() -> None:
    """Limits, breaker, retries, time-outs and budget; not who the provider is, nor what it can do."""
    assert set(PROTECTION_KEYS) >= {"rate_limit", "budget", "timeout", "attempt_timeout", "probes", "gate_time"}
    assert set(PROTECTION_KEYS) >= {name for name in ProviderSettings.model_fields if name.startswith("retry_")}
    assert not set(PROTECTION_KEYS) & {"kind", "api_key", "base_url", "prices", "stream_timeout", "sampling"}
    assert len(PROTECTION_KEYS) == 16


def test_every_key_explains_itself() -> None:
    """Each key has a description, and its path leads to it."""
    for key in keys():
        assert key.description.endswith("."), key.path
        assert node_at(tuple("any" if part == "*" else part for part in key.path)) is not None


@pytest.mark.parametrize(
    ("path", "live"),
    [
        (("ai", "providers", "x"), True),
        (("ai", "providers", "x", "timeout"), True),
        (("ai", "providers"), False),
        (("ai",), False),
        ((), False),
        (("modules", "qa"), True),
        (("dspex", "modules", "timeout"), True),
        (("events", "path"), False),
        (("events", "capture_prompts"), True),
        (("app", "name"), False),
    ],
)
def test_what_may_change_while_running(path: tuple[str, ...], live: bool) -> None:
    """Patterns, not exact paths, say what is live; structural settings and whole roots are not."""
    assert is_live(path) is live
