"""States of programs: values with a JSON form; what is none is refused with its place."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dspex.actors.modules.messages import UpdateModule
from dspex.actors.modules.program_state import PredictorState, ProgramState
from dspex.runtime.errors import ConfigError

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)
KEYS = st.sampled_from(["version", "predictors", "provenance", "predict", "instructions", "demos"])
NEARLY = st.recursive(
    JSON | st.just(1),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=3),
    max_leaves=10,
)


def of(**predict: Any) -> dict[str, Any]:
    """A state of one predictor."""
    return {"version": 1, "predictors": {"predict": predict}}


def test_json_gives_the_same_state() -> None:
    """Whatever it holds, and wherever it came from."""
    state = ProgramState({"hops[0]": PredictorState("Be brief.", ({"q": [1, None]},))}, {"seed": 7})
    assert ProgramState.from_dict(json.loads(json.dumps(state.to_dict()))) == state


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (None, "a table, got NoneType, at state"),
        ({}, "the key 'version', got none"),
        ({"version": 1}, "the key 'predictors', got none"),
        ({"version": True, "predictors": {}}, "got version True, at state.version"),
        ({"version": 2, "predictors": {}}, "version 1 or older, got version 2"),
        ({"version": 1, "predictors": {}, "predictor": {}}, "did you mean 'predictors'"),
        ({"version": 1, "predictors": []}, "a table, got list, at state.predictors"),
        ({"version": 1, "predictors": {}, "provenance": 5}, "a table, got int, at provenance"),
        ({"version": 1, "predictors": {}, "provenance": {"score": float("nan")}}, "at provenance"),
        (of(instrctions="x"), "did you mean 'instructions'.*at state.predictors.predict"),
        (of(instructions=5), "got int, at state.predictors.predict.instructions"),
        (of(instructions="\ud800"), "got text that is no Unicode"),
        (of(demos={"q": "x"}), "a list, got dict, at state.predictors.predict.demos"),
        (of(demos=[{}, "ab"]), r"a table, got str, at state.predictors.predict.demos\[1\]"),
        (of(demos=[{"q": float("inf")}]), r"at state.predictors.predict.demos\[0\]"),
    ],
)
def test_what_is_no_state(data: Any, words: str) -> None:
    """Refused, and the error says where: a misspelt key is never passed over."""
    with pytest.raises(ConfigError, match=words):
        ProgramState.from_dict(data)


@given(NEARLY)
def test_any_json_is_a_state_or_refused(data: Any) -> None:
    """Nothing else is raised, whatever stands in a file."""
    try:
        state = ProgramState.from_dict(data)
    except ConfigError:
        return
    assert ProgramState.from_dict(json.loads(json.dumps(state.to_dict()))) == state


@pytest.mark.parametrize("text", [b"", b"{", b"[" * 100_000, b"\xff\xfe", b'{"version": ' + b"9" * 5000 + b"}"])
def test_files_that_hold_none(text: bytes, tmp_path: Path) -> None:
    """The error names the file."""
    path = tmp_path / "qa.json"
    path.write_bytes(text)
    with pytest.raises(ConfigError, match=r"qa\.json"):
        ProgramState.load(path)


def test_a_file_with_a_byte_order_mark(tmp_path: Path) -> None:
    """Some editors write one."""
    path = tmp_path / "qa.json"
    path.write_bytes(b"\xef\xbb\xbf" + json.dumps(of(instructions="x")).encode())
    assert ProgramState.load(path).predictors["predict"].instructions == "x"


def test_a_file_and_back(tmp_path: Path) -> None:
    """The whole state, in the form that a module saves; a file that is there is replaced."""
    state = ProgramState({"hops[0]": PredictorState("Bündig.", ({"q": [1, None]},))}, {"seed": 7})
    path = tmp_path / "qa.json"
    path.write_text("old")
    state.save(path)
    assert ProgramState.load(str(path)) == ProgramState.from_json(state.to_json()) == state
    assert path.read_text("utf-8") == f"{state.to_json()}\n"
    assert "Bündig" in state.to_json()
    assert [each.name for each in tmp_path.iterdir()] == ["qa.json"]


@pytest.mark.parametrize("text", ["", "[1", "5", b"\xff", "[" * 100_000])
def test_text_that_is_no_state(text: Any) -> None:
    """Refused; it has no path to name."""
    with pytest.raises(ConfigError, match=r"at (the text|state)$"):
        ProgramState.from_json(text)


def test_a_file_that_cannot_be_written(tmp_path: Path) -> None:
    """The error names the file that was asked for, and nothing is left beside it."""
    for path in (tmp_path / "nowhere" / "qa.json", tmp_path / ("x" * 300)):
        with pytest.raises(OSError, match=path.name) as caught:
            ProgramState().save(path)
        assert caught.value.filename == str(path)
    folder = tmp_path / "folder"
    folder.mkdir()
    with pytest.raises(IsADirectoryError) as caught:
        ProgramState().save(folder)
    assert caught.value.filename == str(folder)
    assert list(tmp_path.iterdir()) == [folder]


def test_states_made_by_hand_are_checked() -> None:
    """Where they are written, not in the module."""
    with pytest.raises(ConfigError, match=r"a PredictorState, got dict, at predictors\.predict"):
        ProgramState({"predict": {"instructions": "x"}})  # type: ignore[dict-item]
    with pytest.raises(ConfigError, match="got int, at demos"):
        UpdateModule(demos=5)  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="a ProgramState, got dict, at state"):
        UpdateModule(state={})  # type: ignore[arg-type]
