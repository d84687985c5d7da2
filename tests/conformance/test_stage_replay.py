"""Our stages against the recorded vectors of a real GenStage: every one must be equal."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from conformance.replay import DATA, main, scenarios
from conformance.stage_replay import run_vector, vector_difference

VECTORS = list(scenarios(DATA / "stage.jsonl"))


@pytest.mark.parametrize("line", VECTORS, ids=lambda line: line["name"])
def test_our_stages_do_what_was_recorded(line: dict[str, Any]) -> None:
    """A vector gives what GenStage did: demand, batches, buffered events, infos and discards, step by step."""
    found = vector_difference(line["vector"], run_vector(line["vector"]))
    assert found is None, found


def test_all_recorded_vectors_are_there() -> None:
    """No vector was lost: 20 of accounting, 100 of a producer with each dispatcher."""
    kinds = [line["vector"]["kind"] for line in VECTORS]
    assert (kinds.count("accounting"), kinds.count("stage")) == (20, 100)


@pytest.mark.parametrize("number", [0, 30])
def test_the_replay_names_what_differs(number: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """One command takes these files too: the line, the step, what was expected and what came; exit status 1."""
    wrong = json.loads(json.dumps(VECTORS[number]["vector"]))
    if wrong["kind"] == "stage":
        wrong["steps"][0]["buffered"] = 7
    else:
        wrong["messages"][0]["asks"][0] = 77
    file = tmp_path / "two.jsonl"
    file.write_text(json.dumps(VECTORS[0]["vector"]) + "\n" + json.dumps(wrong) + "\n")
    assert main([str(file)]) == 1
    lines = capsys.readouterr().out.splitlines()
    assert lines[-1] == "1 equal, 1 differ"
    assert lines[0].startswith("two-2: ")
    assert "expected 7, got 0" in lines[0] or "expected [77, 4, 0], got [4, 4, 0]" in lines[0]


def test_produced_vectors_are_printed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """``--trace`` prints the produced vector as one JSON line."""
    file = tmp_path / "one.jsonl"
    file.write_text(json.dumps(VECTORS[50]["vector"]))
    assert main([str(file), "--trace"]) == 0
    assert json.loads(capsys.readouterr().out) == VECTORS[50]["vector"]
