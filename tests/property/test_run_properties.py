"""Runs: what is written of an example is what is read; the file of runs has one owner at any time."""

from __future__ import annotations

import math
from decimal import Decimal
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory

from hypothesis import given, settings
from hypothesis import strategies as st

from dspex.actors.examples import Example
from dspex.actors.modules.prediction import Prediction
from dspex.actors.modules.program_state import PredictorState, ProgramState
from dspex.actors.optimizers.bench import Outcome, PredictorCall
from dspex.actors.runs.messages import Entry, Paid
from dspex.actors.runs.owner import Owner, start_time
from dspex.actors.runs.plan import example_from_dict, example_to_dict, held_out
from dspex.actors.runs.rows import decode_row, encode_row
from dspex.actors.runs.store import RunStore
from dspex.runtime.errors import RunConflict

texts = st.text(max_size=20)
json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**9), 10**9) | st.floats(allow_nan=False, allow_infinity=False) | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=6,
)
fields = st.dictionaries(st.text("abcdef", min_size=1, max_size=5), json_values, max_size=4)
states = st.builds(
    ProgramState,
    st.dictionaries(texts, st.builds(PredictorState, st.none() | texts, st.tuples(fields)), max_size=2),
)


@given(fields, states, st.floats(0, 1), texts, st.booleans(), st.integers(0, 99))
def test_a_row_comes_back_as_it_was(
    values: dict[str, object], state: ProgramState, score: float, feedback: str, traced: bool, index: int
) -> None:
    """Written and read, an outcome is the same; without its trace if none was asked for."""
    example = Example(values)
    calls = (PredictorCall("predict", values, values),)
    outcome = Outcome(index, score, Prediction(values), None, feedback, calls if traced else ())
    text = encode_row(outcome, example, state, traced=traced)
    assert decode_row(text, index, example, state, traced=traced) == outcome
    # One that has no trace does not do where one is wanted; one that has may be used without.
    assert (decode_row(text, index, example, state, traced=True) is None) == (not traced)
    other = state.with_predictor("another", PredictorState("do it"))
    assert decode_row(text, index, example, other, traced=traced) is None
    assert decode_row(text, index, Example({**values, "z": 1}), state, traced=traced) is None


def test_what_is_no_json_becomes_text() -> None:
    """An infinite number, a date, an object of the user's: nothing in a prediction stops a run."""
    odd = Outcome(0, 1.0, Prediction({"n": math.inf, "d": Decimal("1.5"), "o": object, "s": "\ud800"}))
    row = decode_row(
        encode_row(odd, Example(), ProgramState(), traced=False), 0, Example(), ProgramState(), traced=False
    )
    assert row is not None
    assert row.prediction is not None
    assert row.prediction.to_dict() == {"n": "Infinity", "d": "1.5", "o": str(object), "s": "\ud800"}


@given(st.lists(fields, min_size=2, max_size=30), st.integers())
def test_held_out_examples_are_apart(given_fields: list[dict[str, object]], seed: int) -> None:
    """Each example is in one part, none in both, in their order; the same seed draws the same."""
    examples = tuple(Example({"number": number, **values}) for number, values in enumerate(given_fields))
    train, validation = held_out(examples, None, seed)
    assert (train, validation) == held_out(examples, None, seed)
    assert train
    assert validation
    numbers = [[example["number"] for example in part] for part in (train, validation)]
    assert sorted(numbers[0] + numbers[1]) == list(range(len(examples)))
    assert all(part == sorted(part) for part in numbers)


@given(fields, st.booleans())
def test_an_example_comes_back_as_it_was(values: dict[str, object], marked: bool) -> None:
    """Its fields and which of them are inputs survive the file."""
    example = Example(values)
    if marked:
        example = example.with_inputs(*list(values)[:1])
    assert example_from_dict(example_to_dict(example)) == example


@settings(max_examples=25, deadline=None)
@given(st.randoms(use_true_random=False))
def test_only_the_owner_writes(rng: Random) -> None:
    """Two live processes that begin, write and let go at random: exactly the owner's writes succeed."""
    me = Owner.myself()
    with TemporaryDirectory() as folder:
        stores = [
            RunStore(Path(folder) / "r.db", owner=Owner(me.host, me.pid, start_time(me.pid) or "", token))
            for token in ("a", "b")
        ]
        owner: int | None = None
        written: set[str] = set()
        for number in range(12):
            who, what = rng.randrange(2), rng.choice(("begin", "write", "release"))
            allowed = owner == who or (what == "begin" and owner is None)
            try:
                if what == "begin":
                    stores[who].begin("r", "optimization", {})
                    owner = who
                elif what == "write":
                    stores[who].write("r", [Entry("call", str(number), "x")], paid=Paid(number))
                    written.add(str(number))
                else:
                    stores[who].release("r")
                    owner = None if owner == who else owner
                    continue
            except RunConflict:
                assert not allowed
            else:
                assert allowed
        assert {key for _, key in stores[0].keys("r")} == written
        for store in stores:
            store.close()
