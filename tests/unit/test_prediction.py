"""Predictions: frozen results, by attribute and by item."""

from __future__ import annotations

import copy
import pickle

import pytest

from dspex.actors.lm.values import Attempt, Usage
from dspex.actors.modules.prediction import Prediction, PredictionInfo

INFO = PredictionInfo(
    usage=Usage(3, 4, 7, None, "provider"),
    correlation_id="t" * 32,
    attempts=(Attempt(1, 200, 0.1),),
    provider="local",
    model="m",
    finish_reason="stop",
    duration=0.2,
    text="raw",
)


def test_fields_by_attribute_and_item() -> None:
    """A field reads as attribute and as item, and the whole as a mapping."""
    answer = Prediction({"answer": "Paris", "score": 0.5}, INFO)
    assert (answer.answer, answer["answer"], answer.get("score"), answer.get("x", 1)) == ("Paris", "Paris", 0.5, 1)
    assert (list(answer.keys()), list(answer.values())) == (["answer", "score"], ["Paris", 0.5])
    assert dict(answer.items()) == dict(answer) == answer.to_dict() == {"answer": "Paris", "score": 0.5}
    assert (len(answer), "answer" in answer, "x" in answer) == (2, True, False)
    assert "answer" in dir(answer)
    assert repr(answer) == "Prediction(answer='Paris', score=0.5)"
    assert answer.info.usage.total_tokens == 7


def test_unknown_fields() -> None:
    """A misspelt field is an AttributeError or a KeyError that names the right one."""
    answer = Prediction({"answer": 1})
    with pytest.raises(AttributeError, match="did you mean 'answer'"):
        _ = answer.answr
    with pytest.raises(KeyError, match="did you mean 'answer'"):
        _ = answer["answr"]


def test_it_is_frozen() -> None:
    """Neither fields nor anything else can be set or deleted; what was passed in, or taken out, is a copy."""
    fields = {"answer": 1}
    answer = Prediction(fields)
    fields["answer"] = 2
    answer.to_dict()["answer"] = 3
    assert answer.answer == 1
    with pytest.raises(AttributeError, match="frozen"):
        answer.answer = 2
    with pytest.raises(AttributeError, match="frozen"):
        del answer.answer
    with pytest.raises(TypeError):
        hash(answer)


def test_copies_are_equal_and_keep_their_info() -> None:
    """Pickles and copies are equal and know how they came."""
    answer = Prediction({"answer": ["a"]}, INFO)
    for again in (pickle.loads(pickle.dumps(answer)), copy.copy(answer), copy.deepcopy(answer)):
        assert again == answer
        assert again.info == INFO


def test_equality_is_of_fields() -> None:
    """How an answer came does not matter to what it says; other things are never equal to it."""
    assert Prediction({"a": 1}, INFO) == Prediction({"a": 1})
    assert Prediction({"a": 1}) != Prediction({"a": 2})
    assert Prediction({"a": 1}) != {"a": 1}


def test_fields_with_names_that_are_taken() -> None:
    """A field called as something a prediction has is read as an item; the thing itself keeps working."""
    answer = Prediction({"info": "i", "keys": "k", "items": "t", "to_dict": "d", "get": "g"}, INFO)
    assert [answer[name] for name in ("info", "keys", "items", "to_dict", "get")] == ["i", "k", "t", "d", "g"]
    assert answer.info is INFO
    assert answer.to_dict() == dict(answer.items())
    assert pickle.loads(pickle.dumps(answer)) == answer


def test_unknown_is_none() -> None:
    """What nobody knows is None, and cost is unknown until there are prices."""
    info = Prediction({}).info
    assert (info.cost, info.usage.input_tokens, info.usage.source, info.attempts) == (None, None, "unknown", ())


def test_a_half_made_one_has_no_attributes() -> None:
    """Tools that look at an object before it is filled are told no, not sent in circles."""
    assert not hasattr(Prediction.__new__(Prediction), "answer")
