"""Our supervisors against the recorded traces of a real OTP: every scenario must be equal."""

from __future__ import annotations

import json
from typing import Any

import pytest
from conformance.replay import DATA, difference, main, scenarios
from conformance.runner import run_scenario

NAMED = list(scenarios(DATA / "named.jsonl"))
RANDOM = list(scenarios(DATA / "random.jsonl"))


def name_of(line: dict[str, Any]) -> str:
    """The scenario's name, as the test's id."""
    name: str = line["scenario"]["name"]
    return name


@pytest.mark.parametrize("line", NAMED + RANDOM, ids=name_of)
def test_our_trace_equals_the_recorded_one(line: dict[str, Any]) -> None:
    """A scenario gives the trace that Erlang/OTP gave: events, answers, reports, listings, reasons."""
    found = difference(line["trace"], run_scenario(line["scenario"]))
    assert found is None, found


def test_all_recorded_scenarios_are_there() -> None:
    """No scenario was lost: 76 named and 130 random ones."""
    assert (len(NAMED), len(RANDOM)) == (76, 130)


def test_the_replay_prints_differences_and_fails(tmp_path: Any, capsys: pytest.CaptureFixture[str]) -> None:
    """A trace that differs is named with its step, what was expected and what came; the exit status is 1."""
    line = json.loads(json.dumps(NAMED[0]))
    line["trace"]["trace"][0]["ret"] = ["ok", "top#9"]
    file = tmp_path / "one.jsonl"
    file.write_text(json.dumps(NAMED[0]) + "\n" + json.dumps(line) + "\n")
    assert main([str(file)]) == 1
    lines = capsys.readouterr().out.splitlines()
    assert lines == [
        'boot_order_and_reverse_stop: step 0 (boot), ret: expected ["ok", "top#9"], got ["ok", "top#1"]',
        "1 equal, 1 differ",
    ]


def test_traces_are_printed_without_expected_ones(tmp_path: Any, capsys: pytest.CaptureFixture[str]) -> None:
    """``--trace`` needs only the scenario, and prints the produced trace as one JSON line."""
    file = tmp_path / "one.jsonl"
    file.write_text(json.dumps({"scenario": NAMED[0]["scenario"]}) + "\n")
    assert main([str(file), "--trace"]) == 0
    assert json.loads(capsys.readouterr().out) == NAMED[0]["trace"]
