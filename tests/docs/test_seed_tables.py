"""The tables of docs/: what they name exists, and nothing of the seed is missing from them."""

from __future__ import annotations

import ast
import importlib
import re
import tomllib
from collections.abc import Iterator, Mapping
from functools import reduce
from pathlib import Path
from typing import Any

import pytest

from dspex.supervisors.app import blocking, blocking_views, guard_views
from kit.settings import SEED as SEED_CONFIGURATION

ROOT = Path(__file__).parents[2]
PAGES = sorted((ROOT / "docs").glob("*.md"))
SEED = (ROOT / "docs" / "seed.md").read_text("utf-8")
TEST_ID = re.compile(r"\b(tests/[\w/]+\.py)::(\w+)")
DOTTED = re.compile(r"`(dspex(?:\.\w+)+)`")
FACE = re.compile(r"`app\.(\w+(?:\.\w+)*)")
VIEWS = {
    "registry": blocking_views.Registry,
    "events": blocking_views.Events,
    "telemetry": blocking_views.Telemetry,
    "lm": blocking_views.LM,
    "protection": guard_views.Protection,
    "budgets": guard_views.Budgets,
    "cache": guard_views.Cache,
}

# Every function of the seed's code blocks, section by section, and the blocks of its configuration (section 6).
SEED_FUNCTIONS = (
    ("configure_provider", "get_provider_config", "create_provider_protection"),
    ("generate_nested_correlation_id", "create_execution_context"),
    (
        "new_lm_request_event",
        "new_lm_response_event",
        "new_module_execution_event",
        "new_optimization_event",
        "estimate_tokens",
        "hash_prompt",
        "calculate_cost",
        "get_model_cost",
    ),
    ("emit_lm_usage", "emit_module_performance", "emit_optimization_progress", "emit_ai_cache_metrics"),
    ("new_ai_context", "add_prompt_context", "add_response_context", "detect_prompt_type", "hash_response"),
    (
        "ai.providers",
        "ai.caching",
        "ai.optimization",
        "ai.monitoring",
        "dspex.signatures",
        "dspex.modules",
        "dspex.evaluation",
    ),
    ("register_dspex_module", "list_dspex_modules", "register_optimization"),
    (
        "stream_lm_response",
        "start_link",
        "init",
        "handle_demand",
        "handle_cast",
        "execute_streaming_request",
        "take_events",
    ),
    ("execute_ai_protected", "configure_ai_provider_protection"),
)
# How many rows each section of Foundation's functions has.
FOUNDATION_ROWS = {
    "1.1": 9,
    "1.2": 19,
    "1.3": 9,
    "1.4": 13,
    "1.5": 12,
    "1.6": 14,
    "1.7": 13,
    "1.8": 9,
    "1.9": 8,
    "1.10": 6,
    "1.11": 9,
    "1.12": 8,
    "1.13": 5,
    "1.14": 7,
    "1.15": 8,
    "1.16": 5,
    "1.17": 2,
}


def section(start: str, end: str | None = None) -> str:
    """A part of the page, from one heading to another."""
    begin = SEED.index(f"\n{start}")
    return SEED[begin : SEED.index(f"\n{end}", begin) if end else len(SEED)]


def rows(text: str) -> list[list[str]]:
    """The cells of each table row, without headings and group titles."""
    lines = [line for line in text.splitlines() if line.startswith("| ")]
    cells = [[cell.strip() for cell in line.strip("|").split(" | ")] for line in lines]
    return [row for row in cells if row[0] not in {"Seed", "Foundation", "Item", "Key"} and not row[0].startswith("**")]


TABLE_A = rows(section("## A.", "## B."))
TABLE_B = rows(section("## B.", "## C."))
TABLE_C = rows(section("## C.", "## D."))
TABLE_D = rows(section("## D.", "## E."))
TABLE_E = rows(section("## E.", "## F."))
TABLE_F = rows(section("## F."))


def paths(table: Mapping[str, Any], above: str = "") -> Iterator[str]:
    """The dotted path of each key; a key and a limit of a provider are one value each."""
    for key, value in table.items():
        path = f"{above}{key}"
        if isinstance(value, dict) and key not in {"api_key", "rate_limit"}:
            yield from paths(value, f"{path}.")
        else:
            yield path


def functions_in(path: Path) -> set[str]:
    """The functions of a file."""
    tree = ast.parse(path.read_text("utf-8"))
    return {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)}


def missing_tests(text: str) -> list[str]:
    """Test ids that a text names and that do not exist."""
    named = set(TEST_ID.findall(text))
    known = {path: functions_in(ROOT / path) if (ROOT / path).is_file() else set[str]() for path, _ in named}
    return sorted(f"{path}::{name}" for path, name in named if name not in known[path])


def unresolved(text: str) -> list[str]:
    """Names of ours that a text writes and that do not exist."""
    dotted = [name for name in DOTTED.findall(text) if not resolves(name)]
    face = [name for name in FACE.findall(text) if not on_the_face(name)]
    return sorted(set(dotted + face))


def resolves(name: str) -> bool:
    """Whether a dotted name is a module, or a part of one."""
    if name.startswith(("dspex.signatures", "dspex.modules", "dspex.evaluation")):
        return True  # keys of the configuration, not names in Python
    parts = name.split(".")
    for cut in range(len(parts), 0, -1):
        try:
            found: Any = importlib.import_module(".".join(parts[:cut]))
        except ModuleNotFoundError:
            continue
        try:
            reduce(getattr, parts[cut:], found)
        except AttributeError:
            return False
        return True
    return False


def on_the_face(name: str) -> bool:
    """Whether an application has this method, or one of its views has."""
    first, _, rest = name.partition(".")
    return hasattr(VIEWS[first], rest) if first in VIEWS and rest else hasattr(blocking.App, first) or first == "aio"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_test_that_a_page_names_exists(page: Path) -> None:
    """A table that says a test holds something names a test that is there."""
    assert missing_tests(page.read_text("utf-8")) == []


def test_every_name_of_ours_exists() -> None:
    """What the tables say answers the seed can be imported, or called on an application."""
    assert unresolved(SEED) == []


@pytest.mark.parametrize("names", SEED_FUNCTIONS, ids=lambda names: names[0])
def test_no_function_of_the_seed_is_missing(names: tuple[str, ...]) -> None:
    """Table A has every function of a section of the seed, once."""
    answered = [name for row in TABLE_A for name in re.findall(r"`([\w.]+)`", row[0])]
    assert [answered.count(name) for name in names] == [1] * len(names)


def test_no_row_of_foundation_is_missing() -> None:
    """Table B has as many rows in each section as Foundation has functions and capabilities."""
    parts = re.split(r"\n### (1\.\d+) ", section("## B.", "## C."))
    assert {number: len(rows(text)) for number, text in zip(parts[1::2], parts[2::2], strict=True)} == FOUNDATION_ROWS


def test_every_item_is_answered_once() -> None:
    """Table C has the items 1 to 48 of the seed, D those of Foundation to 85, E those of DSPEx to 106, in order."""
    assert [int(row[0]) for row in TABLE_C] == list(range(1, 49))
    assert [int(row[0]) for row in TABLE_D] == list(range(49, 86))
    assert [int(row[0]) for row in TABLE_E] == list(range(86, 107))


def test_every_key_of_the_seed_is_held() -> None:
    """Table F has each key of the seed's configuration once, whichever provider it is for."""
    keys = {re.sub(r"^ai\.providers\.\w+", "ai.providers.*", path) for path in paths(tomllib.loads(SEED_CONFIGURATION))}
    assert sorted(row[0].strip("`") for row in TABLE_F) == sorted(keys)


@pytest.mark.parametrize("row", TABLE_A + TABLE_B + TABLE_C + TABLE_D + TABLE_E + TABLE_F, ids=lambda row: row[0])
def test_every_row_is_held(row: list[str]) -> None:
    """Each row is held by a test, or says why it is not copied; an item is held by a test."""
    said = len(row) == (4 if row[0].isdigit() else 3) and all(row[:-1])
    held = TEST_ID.search(row[-1]) is not None
    excused = row[1].startswith("not copied: ") and not row[0].isdigit()
    assert said, "a cell is missing"
    assert held or excused, "neither a test nor a reason"


def test_the_checks_find_what_is_wrong() -> None:
    """A test, a module, an attribute and a method that do not exist are each found."""
    here = "tests/docs/test_seed_tables.py"
    assert missing_tests(f"`{here}::test_every_row_is_held`, `{here}::test_no`, `tests/none.py::test_a`") == [
        f"{here}::test_no",
        "tests/none.py::test_a",
    ]
    text = (
        "`dspex.start` `dspex.nothing.at.all` `dspex.runtime.errors.Eror` `app.events.tree(x)` `app.evnts` `app.lm.ask`"
    )
    assert unresolved(text) == ["dspex.nothing.at.all", "dspex.runtime.errors.Eror", "evnts", "lm.ask"]
