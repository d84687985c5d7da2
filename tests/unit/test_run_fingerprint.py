"""A metric in words: another when it does something else, the same in every process."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import pytest

from dspex.actors.examples import Example
from dspex.actors.modules.prediction import Prediction
from dspex.actors.runs.fingerprint import code_of, source_hash


def plain(example: Example, prediction: Prediction, share: object = 1.0) -> float:
    """A metric."""
    return 1.0


def other(example: Example, prediction: Prediction) -> float:
    """Another one."""
    return 0.0


class Rule:
    """Something without a repr of its own."""


@dataclass(frozen=True)
class Mixed:
    """A metric that is a value."""

    parts: tuple[Callable[..., float], ...] = (plain,)
    words: frozenset[str] = frozenset({"a", "b", "c"})
    rule: object = field(default_factory=Rule)
    weights: dict[str, Any] = field(default_factory=lambda: {"x": [plain]})

    def __call__(self, example: Example, prediction: Prediction) -> float:
        """Score."""
        return 1.0


def test_no_address_and_no_order_of_hashes() -> None:
    """Functions, objects and sets in its fields are told alike wherever it is made."""
    told = code_of(Mixed(), "mixed")
    assert told == code_of(Mixed(words=frozenset({"c", "b", "a"})), "mixed")
    assert " at 0x" not in told
    assert "words=('a', 'b', 'c'), rule=Rule" in told
    assert " at 0x" not in code_of(partial(plain, share=Rule()), "partial")


@pytest.mark.parametrize(
    "change", [{"parts": (other,)}, {"words": frozenset({"a"})}, {"rule": 1}, {"weights": {"x": [other]}}]
)
def test_every_field_counts(change: dict[str, Any]) -> None:
    """Another function in a field is another metric."""
    assert code_of(Mixed(**change), "mixed") != code_of(Mixed(), "mixed")


def test_what_is_bound_counts() -> None:
    """Of a partial the function and what it is given."""
    assert code_of(partial(plain, share=0.5), "p") != code_of(partial(plain, share=0.6), "p")
    assert code_of(partial(plain), "p") != code_of(partial(other), "p")


def test_what_has_no_source_has_no_hash() -> None:
    """Written in C; beside something with source that still counts."""
    assert source_hash(len) == source_hash() == ""
    assert source_hash(len, plain) == source_hash(plain) != ""
