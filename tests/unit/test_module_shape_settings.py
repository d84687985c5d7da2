"""``workers`` and ``placement`` of a module: what may be said, and that they hold until the module is stopped."""

from __future__ import annotations

from typing import Any

import pytest

from dspex.actors.configuration.changes import Change, applied, check_shapes
from dspex.actors.configuration.problems import validated
from dspex.actors.configuration.schema import is_fixed, is_live, keys
from dspex.actors.configuration.settings import ModuleSettings, Settings
from dspex.runtime.errors import ConfigError
from dspex.supervisors.app.tree.declared import START_TIMEOUT, module_spec


def settings(**module: Any) -> Settings:
    """A configuration with one module."""
    table = {"signature": "question -> answer", "provider": "local", **module}
    provider = {"kind": "openai", "base_url": "http://127.0.0.1:1/v1"}
    return validated({"ai": {"providers": {"local": provider}}, "modules": {"qa": table}})


def test_the_defaults_are_one_here() -> None:
    """Who says nothing has one actor in the application's process."""
    module = settings().modules["qa"]
    assert (module.workers, module.placement) == (1, "local")


@pytest.mark.parametrize(
    ("table", "path"),
    [
        ({"workers": 0}, "modules.qa.workers"),
        ({"workers": 1001}, "modules.qa.workers"),
        ({"workers": "2"}, "modules.qa.workers"),
        ({"placement": "thread"}, "modules.qa.placement"),
        ({"wokers": 2}, "modules.qa.wokers"),
    ],
)
def test_what_cannot_be_is_refused(table: dict[str, Any], path: str) -> None:
    """With the path of the mistake."""
    with pytest.raises(ConfigError) as refused:
        settings(**table)
    assert refused.value.facts["path"] == path


@pytest.mark.parametrize("key", ["workers", "placement"])
def test_they_are_no_live_settings(key: str) -> None:
    """The table of keys says so, as the configuration actor does."""
    path = ("modules", "qa", key)
    assert is_fixed(path)
    assert not is_live(path)
    (row,) = (each for each in keys() if each.path == ("modules", "*", key))
    assert not row.live
    assert is_live(("modules", "qa"))


def test_a_change_of_shape_is_refused_and_any_other_is_not() -> None:
    """Also if the whole module is declared anew; a new module, or one that was removed, may have any shape."""
    before = settings(workers=2)
    for change in ({"workers": 3}, {"workers": 2, "placement": "process"}):
        with pytest.raises(ConfigError, match="stop the module and start it anew") as refused:
            check_shapes(before, settings(**change))
        assert refused.value.facts["reason"] == "update_forbidden"
    check_shapes(before, settings(workers=2, instructions="Be brief.", max_concurrency=3))
    gone = applied(Change("removed", ("modules", "qa")), before, before)
    check_shapes(before, gone)
    check_shapes(gone, settings(workers=9))


def specs_below(settings: ModuleSettings | None) -> list[tuple[Any, ...]]:
    """Name and placement of each actor and supervisor below a module's."""
    found: list[tuple[Any, ...]] = []

    def walk(spec: Any) -> None:
        found.append((spec.name, spec.placement))
        for each in spec.kwargs.get("children", ()):
            walk(each)

    walk(module_spec("qa", settings))
    return found


def test_one_worker_is_the_tree_of_a_module() -> None:
    """No pool stands before it; in a process of its own only the actor is elsewhere, with time to start."""
    alone = specs_below(None)
    assert [name for name, _ in alone] == ["supervisor/module/qa", "module/qa", "streams/module/qa"]
    assert specs_below(settings().modules["qa"]) == alone
    there = settings(placement="process").modules["qa"]
    assert [placement for _, placement in specs_below(there)] == ["local", "process", "local"]
    (actor, _) = module_spec("qa", there).kwargs["children"]
    assert actor.kwargs == {"start_timeout": START_TIMEOUT}


def test_several_workers_stand_left_of_their_pool() -> None:
    """Each with a supervisor and streams of its own; the end of the pool is none of theirs."""
    names = [name for name, _ in specs_below(settings(workers=2).modules["qa"])]
    assert names == [
        "supervisor/module/qa",
        "supervisor/module/qa/workers",
        "supervisor/module/qa/1",
        "module/qa/1",
        "streams/module/qa/1",
        "supervisor/module/qa/2",
        "module/qa/2",
        "streams/module/qa/2",
        "module/qa",
    ]
