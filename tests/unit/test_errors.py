"""The error tree: words, facts, pickling."""

from __future__ import annotations

import pickle
import re
from collections.abc import Iterator

import pytest

from dspex.runtime import errors
from dspex.runtime.errors import CallTimeout, ConfigError, Error, EventNotFound, did_you_mean


def tree(cls: type[Error] = Error) -> Iterator[type[Error]]:
    """A class and all below it in the module."""
    yield cls
    for child in cls.__subclasses__():
        if child.__module__ == errors.__name__:
            yield from tree(child)


TREE = list(tree())


@pytest.mark.parametrize("cls", TREE)
def test_every_error_pickles_with_its_facts(cls: type[Error]) -> None:
    """What crosses a process is the same class, message and facts; facts read as attributes."""
    error = pickle.loads(pickle.dumps(cls("expected x, got y", path=("a", 1), status=None)))
    assert type(error) is cls
    assert (str(error), error.message, error.path, error.status) == (
        "expected x, got y",
        "expected x, got y",
        ("a", 1),
        None,
    )
    with pytest.raises(AttributeError, match="no fact 'paht'"):
        _ = error.paht


def test_each_class_has_a_code_of_its_own() -> None:
    """A program can tell errors apart by one stable word, without numbers."""
    codes = [cls.code for cls in TREE]
    assert len(set(codes)) == len(codes) > 40
    assert all(re.fullmatch(r"[a-z][a-z_]*", code) for code in codes)


def test_an_error_without_words_says_its_code() -> None:
    """No error prints as nothing."""
    assert {str(cls()) for cls in TREE} == {cls.code for cls in TREE}


def test_errors_are_also_what_python_calls_them() -> None:
    """Code that knows nothing of dspex catches them as what they are."""
    assert issubclass(CallTimeout, TimeoutError)
    assert issubclass(ConfigError, ValueError)
    assert issubclass(EventNotFound, KeyError)
    assert str(EventNotFound("no event 'x'")) == "no event 'x'"  # KeyError would show its repr


def test_did_you_mean_names_the_nearest_word() -> None:
    """A near word is offered, a far one is not."""
    assert did_you_mean("temprature", ["temperature", "timeout"]) == "; did you mean 'temperature'?"
    assert did_you_mean("zzz", ["temperature"]) == ""
