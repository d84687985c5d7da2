"""Layers of settings: file, environment, arguments; who said what; checking a file."""

from __future__ import annotations

import pathlib
from typing import Any

import pytest

from dspex.actors.configuration.load import check_config, load_settings
from dspex.actors.configuration.settings import Settings
from dspex.runtime.secret import Secret, SecretRef
from kit.settings import KEY, SEED, refused


def test_later_layers_win_key_by_key(tmp_path: pathlib.Path) -> None:
    """Defaults, file, environment, arguments: tables merge, the later value wins."""
    path = tmp_path / "dspex.toml"
    path.write_text('[ai.caching]\nenabled = false\nmemory_cache_size = 1\nttl_seconds = 5\n[app]\nname = "file"\n')
    environ = {"DSPEX_AI__CACHING__MEMORY_CACHE_SIZE": "2", "DSPEX_AI__CACHING__TTL_SECONDS": "6s", "OTHER": "x"}
    settings = load_settings(path, {"ai": {"caching": {"ttl_seconds": 7}}}, environ)
    caching = settings.ai.caching
    assert (caching.enabled, caching.memory_cache_size, caching.ttl_seconds) == (False, 2, 7.0)
    assert settings.app.name == "file"


@pytest.mark.parametrize(
    ("layers", "source"),
    [
        ({"file": "[ai.caching]\nenabled = 1\n"}, "file "),
        ({"environ": {"DSPEX_AI__CACHING__ENABLED": "maybe"}}, "environment variable DSPEX_AI__CACHING__ENABLED"),
        ({"file": "[ai.caching]\nenabled = true\n", "config": {"ai": {"caching": {"enabled": 1}}}}, "arguments"),
    ],
)
def test_an_error_names_its_source(layers: dict[str, Any], source: str, tmp_path: pathlib.Path) -> None:
    """The file, the variable or the arguments: whoever set the wrong value is named."""
    path = tmp_path / "dspex.toml"
    path.write_text(layers.get("file", ""))
    error = refused(layers.get("config"), path=path, environ=layers.get("environ", {}))
    assert error.source.startswith(source)
    assert error.source in str(error)


def test_the_environment_is_read_by_type(tmp_path: pathlib.Path) -> None:
    """Texts stay texts, flags have their words, the rest is TOML; names keep the file's spelling."""
    path = tmp_path / "dspex.toml"
    path.write_text('[ai.providers.My-Local]\nkind = "openai"\n')
    environ = {
        "DSPEX_AI__PROVIDERS__MY_LOCAL__DEFAULT_MODEL": "4",
        "DSPEX_AI__PROVIDERS__MY_LOCAL__API_KEY": "123",
        "DSPEX_AI__PROVIDERS__MY_LOCAL__TIMEOUT": "5",
        "DSPEX_AI__PROVIDERS__MY_LOCAL__RATE_LIMIT": "{limit = 0}",
        "DSPEX_AI__PROVIDERS__MY_LOCAL__MAX_CONNECTIONS": "7",
        "DSPEX_AI__PROVIDERS__NEW": '{kind = "openai", api_key = {system = "A"}}',
        "DSPEX_AI__CACHING__ENABLED": "OFF",
        "DSPEX_DSPEX__EVALUATION__MAX_WORKERS": "auto",
        "DSPEX_EVENTS__MAX_EVENTS": "none",
        "DSPEX_EVENTS__PATH": "",
    }
    settings = load_settings(path, environ=environ)
    local = settings.ai.providers["My-Local"]
    assert (local.default_model, local.timeout, local.max_connections) == ("4", 5.0, 7)
    assert local.api_key == Secret("123")
    assert local.rate_limit is not None
    assert local.rate_limit.limit == 0
    assert settings.ai.providers["new"].api_key == SecretRef("A")
    assert settings.ai.caching.enabled is False
    assert settings.dspex.evaluation.max_workers == "auto"
    assert (settings.events.max_events, settings.events.path) == (None, None)


def test_misspelt_variables_are_refused_and_foreign_ones_left_alone() -> None:
    """A wrong path and a single underscore are errors with a hint; DSPEX_ variables without a path are not ours."""
    assert "did you mean 'providers'" in str(refused(environ={"DSPEX_AI__PROVIDRS__X__TIMEOUT": "1"}))
    assert "did you mean 'DSPEX_APP__NAME'" in str(refused(environ={"DSPEX_APP_NAME": "x"}))
    assert "DSPEX_A____B" in str(refused(environ={"DSPEX_A____B": "x"}))
    assert load_settings(environ={"DSPEX_OPENAI_KEY": KEY, "DSPEX": "x"}) == Settings()


def test_a_value_from_the_environment_cannot_bring_other_keys() -> None:
    """A text with a line break is no way to write a second TOML key."""
    refused(environ={"DSPEX_AI__CACHING__MEMORY_CACHE_SIZE": "1\nenabled = false"})


def test_the_file_may_come_from_the_environment(tmp_path: pathlib.Path) -> None:
    """DSPEX_CONFIG names the file; a path given by the caller wins."""
    named, given = tmp_path / "named.toml", tmp_path / "given.toml"
    named.write_text('[app]\nname = "named"\n')
    given.write_text('[app]\nname = "given"\n')
    environ = {"DSPEX_CONFIG": str(named)}
    assert load_settings(environ=environ).app.name == "named"
    assert load_settings(given, environ=environ).app.name == "given"


@pytest.mark.parametrize(
    ("content", "expected"), [(b"x =", "valid TOML"), (b"x = '\xff'", "UTF-8"), (None, "readable")]
)
def test_an_unreadable_file_is_an_error_with_its_name(
    content: bytes | None, expected: str, tmp_path: pathlib.Path
) -> None:
    """Missing, malformed and wrongly encoded files are ConfigErrors that name the file."""
    path = tmp_path / "broken.toml"
    if content is not None:
        path.write_bytes(content)
    error = refused(path=path)
    assert expected in error.expected
    assert "broken.toml" in str(error)


def test_check_config_lists_everything(tmp_path: pathlib.Path) -> None:
    """Errors as problems with path and source; what will be missing at run time as warnings; a good file is silent."""
    path = tmp_path / "dspex.toml"
    path.write_text("[ai.caching]\nenabled = 1\nttl = 5\n")
    assert [(each.path, each.severity) for each in check_config(path, {})] == [
        ("ai.caching.enabled", "error"),
        ("ai.caching.ttl", "error"),
    ]
    path.write_text(f'{SEED}\n[modules.qa]\nsignature = "q -> a"\nprovider = "opnai"\n')
    warned = check_config(path, {"OPENAI_API_KEY": "x"})
    now = {each.path for each in warned if "later:" not in each.hint}
    assert now == {"ai.providers.anthropic.api_key", "modules.qa.provider"}
    assert {each.severity for each in warned} == {"warning"}
    path.write_text('[ai.providers.openai]\napi_key = { system = "OPENAI_API_KEY" }\n')
    assert check_config(path, {"OPENAI_API_KEY": "x"}) == ()
    assert [each.severity for each in check_config(tmp_path / "none.toml", {})] == ["error"]


def test_check_config_warns_of_routes_that_lead_nowhere(tmp_path: pathlib.Path) -> None:
    """A target that is not configured, with what was meant, and routes in a circle; a route to a route is fine."""
    path = tmp_path / "dspex.toml"
    path.write_text(
        """
        [ai.providers.local]
        kind = "openai"
        [ai.routes.any]
        targets = [{provider = "local"}, {provider = "loacl"}]
        [ai.routes.best]
        targets = [{provider = "any"}]
        [ai.routes.a]
        targets = [{provider = "b"}]
        [ai.routes.b]
        targets = [{provider = "a"}]
        """
    )
    warned = {problem.path: problem for problem in check_config(path, {})}
    assert set(warned) == {"ai.routes.any.targets", "ai.routes.a.targets", "ai.routes.b.targets"}
    assert {problem.severity for problem in warned.values()} == {"warning"}
    assert "got 'loacl', at ai.routes.any.targets; did you mean 'local'?" in str(warned["ai.routes.any.targets"])
    assert "a -> b -> a" in str(warned["ai.routes.a.targets"])
