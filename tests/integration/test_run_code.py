"""Which code of a module a run is held to: the tools and metrics that it names, and not what stands beside them."""

from __future__ import annotations

import asyncio
import importlib
import sys
from pathlib import Path
from typing import Any

import pytest

import dspex
from dspex.actors.runs.program import program_of
from dspex.runtime.errors import RunConflict
from kit.application import IN_MEMORY, application
from kit.runs import EXAMPLES

NAME = "named_by_modules"
CODE = """
from dataclasses import dataclass

@dataclass
class Look:
    place: str

def search(query: str) -> str:
    return f"nothing about {query}"

async def count(text: str) -> int:
    return len(text)

def good(example, prediction):
    return 1.0 if prediction["answer"] else 0.0

class Length:
    def __call__(self, example, prediction):
        return min(len(prediction["answer"]) / 10, 1.0)

long_enough = Length()

def beside():
    return 1
"""
MODULES: dict[str, dict[str, Any]] = {
    "tools": {"kind": "react", "tools": [f"{NAME}:search", f"{NAME}:count"]},
    "metric": {"kind": "best_of_n", "metric": f"{NAME}:good"},
    "object": {"kind": "refine", "metric": f"{NAME}:long_enough"},
    "word": {"kind": "best_of_n", "metric": "exact_match"},
    "actor": {"kind": "react", "tools": [{"actor": "tool/look", "message": f"{NAME}:Look"}]},
    "none": {"kind": "predict"},
}


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The code, where modules find it."""
    path = tmp_path / f"{NAME}.py"
    path.write_text(CODE)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, NAME, raising=False)
    monkeypatch.setattr("sys.dont_write_bytecode", True)
    return path


def fingerprints() -> dict[str, dict[str, str]]:
    """Of each module, what a run is held to."""
    modules = {id: {"signature": "question -> answer", "provider": "local", **more} for id, more in MODULES.items()}
    config = {**IN_MEMORY, "ai": {"providers": {"local": {"kind": "openai"}}}, "modules": modules}
    importlib.invalidate_caches()
    sys.modules.pop(NAME, None)
    with dspex.start(config=config) as app:

        async def ask() -> dict[str, dict[str, str]]:
            return {id: dict((await program_of(app.aio.call, id)).fingerprint) for id in MODULES}

        return asyncio.run(ask())


@pytest.mark.parametrize(
    ("old", "new", "changed"),
    [
        ("nothing about", "something about", {"tools"}),
        ("return len(text)", "return len(text.split())", {"tools"}),
        ('if prediction["answer"] else', 'if prediction["answer"] != "?" else', {"metric"}),
        ("/ 10", "/ 20", {"object"}),
        ("return 1\n", "return 2\n", set[str]()),
        ("place: str", "place: int", {"actor"}),
    ],
    ids=["a tool", "an async tool", "a metric", "a metric's class", "code beside", "the message of an actor"],
)
def test_what_modules_name_is_their_code(file: Path, old: str, new: str, changed: set[str]) -> None:
    """Tools, their messages and metrics by import path, of any kind of module; nothing else, and no shipped word."""
    before = fingerprints()
    assert {id for id, parts in before.items() if "code" in parts} == {"tools", "metric", "object", "actor"}
    assert old in CODE
    file.write_text(CODE.replace(old, new))
    after = fingerprints()
    assert {id for id in MODULES if after[id] != before[id]} == changed
    assert {id for id in MODULES if after[id].get("code") != before[id].get("code")} == changed


def test_a_run_of_a_module_whose_metric_changed_is_refused(file: Path) -> None:
    """Of an evaluation too; the difference is named."""
    qa = {"signature": "question -> answer", "provider": "local", "kind": "best_of_n", "metric": f"{NAME}:good"}
    with application(config={"modules": {"qa": qa}}) as (app, _):
        app.evaluate("qa", EXAMPLES[:2], metric="exact_match", run_id="r")
        file.write_text(CODE.replace("1.0 if", "0.9 if"))
        importlib.reload(sys.modules[NAME])
        with pytest.raises(RunConflict) as caught:
            app.evaluate("qa", EXAMPLES[:2], metric="exact_match", run_id="r")
        assert list(caught.value.differences) == ["code"]
