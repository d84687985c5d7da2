"""docs/telemetry.md: its tables name every telemetry event, metric and attribute of the code, and nothing else."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from dspex.actors.telemetry import otel_metrics
from dspex.actors.telemetry.rules import RULES
from dspex.actors.telemetry.standard_metrics import COLLECTOR_TOTALS, ENGINE_ACTORS, ENGINE_TOTALS
from dspex.runtime.errors import LMError
from kit.application import application
from kit.http_server import Exchange, completion

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "telemetry.md").read_text("utf-8")
SOURCES = sorted(path for folder in ("runtime", "actors", "supervisors") for path in (ROOT / folder).rglob("*.py"))
CONSUMERS = {ROOT / "actors" / "telemetry" / name for name in ("events.py", "otel_bridge.py")}
WORD = re.compile(r"`([^`]+)`")
CHANGES = {"breaker", "gate", "pause", "slowdown", "storage"}  # words of a change, where the code computes them


def rows(first: str) -> list[list[str]]:
    """The cells of the table whose header begins with this word."""
    table = PAGE.partition(f"| {first} |")[2].partition("\n\n")[0].splitlines()[2:]
    assert table, f"no table {first}"
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in table]


EVENTS = {WORD.findall(row[0])[0]: row for row in rows("Event")}


# -- telemetry events --------------------------------------------------------------------------------


def events_of(source: str) -> set[str]:
    """The names of the events that a source executes: whole tuples, and tuples with a last word given to a method."""
    tree = ast.parse(source)
    found: set[str] = set()
    for function in [tree, *(node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef))]:
        for node in ast.walk(function):
            if not isinstance(node, ast.Tuple) or not node.elts:
                continue
            words = [each.value if isinstance(each, ast.Constant) else None for each in node.elts]
            if words[0] not in {"dspex", "telemetry"} or not all(isinstance(word, str) for word in words[:-1]):
                continue
            name = ".".join(str(word) for word in words if word is not None)
            if words[-1] is None:
                if isinstance(function, ast.FunctionDef):
                    found |= {f"{name}.{word}" for word in given_words(tree, function.name)}
            elif words == ["dspex", "module"]:
                found |= {f"{name}.{word}" for word in ("start", "stop", "exception")}  # a span
            elif len(words) == 3:
                found.add(name)
    return found


def given_words(tree: ast.AST, method: str) -> Iterator[str]:
    """The first arguments with which a method is called, as far as they are texts."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == method:
            first = node.args[0]
            if isinstance(first, ast.IfExp):
                yield from CHANGES
            elif isinstance(first, ast.Constant) and isinstance(first.value, str):
                yield first.value


def test_the_table_of_events_is_that_of_the_code() -> None:
    """Each event that something executes has its row, and each row its event."""
    executed = {name for path in SOURCES if path not in CONSUMERS for name in events_of(path.read_text("utf-8"))}
    assert set(EVENTS) == executed


def test_every_event_that_counts_has_its_row() -> None:
    """No metric is fed by an event that nobody executes."""
    assert {".".join(rule.event) for rule in RULES} <= set(EVENTS)


def documented(name: str) -> tuple[set[str], set[str]]:
    """The measurements and metadata that the page names for an event."""
    found: list[set[str]] = []
    for cell in EVENTS[name][1:]:
        words = set(WORD.findall(cell))
        if "as `dspex.lm.stop`" in cell:
            words = documented("dspex.lm.stop")[0]
        if "as the start" in cell:
            words |= documented("dspex.module.start")[1]
        found.append(words)
    return found[0], found[1]


def test_what_events_carry_is_what_the_page_says() -> None:
    """Of every event of an application at work: no key that the page does not name, and none missing that it has."""
    seen: dict[str, list[tuple[Mapping[str, Any], Mapping[str, Any]]]] = {}
    answers = iter([(500, {"error": {"message": "no"}}), (200, completion("yes")), (400, {"error": {"message": "no"}})])

    def script(exchange: Exchange) -> None:
        exchange.reply(*next(answers))

    with application(script, "qa") as (app, _):
        app.update_setting(("ai", "providers", "local", "retry_base_delay"), 0.001)
        app.engine.telemetry.attach_many(
            "page",
            [tuple(name.split(".")) for name in EVENTS],
            lambda event, measured, facts, _: seen.setdefault(".".join(event), []).append((measured, facts)),
        )
        app.module("qa")(question="?")
        with pytest.raises(LMError):
            app.module("qa")(question="??")
        app.start_module("other", "question -> answer", provider="local")
    assert {"dspex.lm.start", "dspex.lm.retry", "dspex.lm.stop", "dspex.lm.exception"} <= set(seen)
    assert {"dspex.module.stop", "dspex.module.exception", "dspex.supervisor.start"} <= set(seen)
    for name, all_of_them in seen.items():
        measurements, metadata = documented(name)
        for measured, facts in all_of_them:
            assert set(measured) <= measurements, name
            assert set(facts) <= metadata, name
            for cell, keys in zip(EVENTS[name][1:], (measured, facts), strict=True):
                always = set(WORD.findall(re.sub(r"\([^)]*\)", "", cell).partition(";")[0]))
                assert {word for word in always if "." not in word} <= set(keys), name


# -- metrics -----------------------------------------------------------------------------------------


def test_the_table_of_metrics_is_that_of_the_code() -> None:
    """Name, type, labels and description of each, in the code's order."""
    labels: dict[str, set[str]] = {}
    for rule in RULES:
        labels.setdefault(rule.metric.name, set()).update(name for name, _ in rule.labels)
    metrics = [
        *dict.fromkeys(rule.metric for rule in RULES),
        ENGINE_ACTORS,
        *ENGINE_TOTALS.values(),
        *COLLECTOR_TOTALS.values(),
    ]
    expected = [
        [f"`{each.name}`", each.kind, ", ".join(f"`{name}`" for name in sorted(labels.get(each.name, ()))), each.help]
        for each in metrics
    ]
    assert rows("Metric") == expected


def test_the_metrics_of_opentelemetry() -> None:
    """The three names."""
    names = {otel_metrics.DURATION, otel_metrics.TOKENS, otel_metrics.FIRST_CHUNK_SECONDS}
    assert {WORD.findall(row[0])[0] for row in rows("OpenTelemetry metric")} == names


def test_the_table_of_attributes_is_that_of_the_code() -> None:
    """Each attribute that a span may have, and no other."""
    tree = ast.parse((ROOT / "actors" / "telemetry" / "otel_attributes.py").read_text("utf-8"))
    texts = {node.value for node in ast.walk(tree) if isinstance(node, ast.Constant) and isinstance(node.value, str)}
    names = {text for text in texts if re.fullmatch(r"(gen_ai|server|error|http|dspex)\.[a-z_.]+", text)}
    others = {"gen_ai.token.type", "dspex.retry"}  # of a metric; the name of an event
    assert {WORD.findall(row[0])[0] for row in rows("Attribute")} == names - others
