"""Keys of the cache: what makes two requests the same."""

from __future__ import annotations

import re
from typing import Any

import pytest

from dspex.actors.cache.key import cache_key
from dspex.actors.lm.values import LMRequest, Message, ToolCall

ASKED = LMRequest((Message("user", "Hi"),), model="m", temperature=0)
DEFAULTS: dict[str, Any] = {"provider": "p", "kind": "openai", "model": "m"}


def key(request: LMRequest = ASKED, **fields: Any) -> str:
    """A key, of a plain request if nothing else is said."""
    return cache_key(request, **(DEFAULTS | fields))


def request(**fields: Any) -> LMRequest:
    """As the plain request, but for these fields."""
    plain: dict[str, Any] = {"messages": (Message("user", "Hi"),), "model": "m", "temperature": 0}
    return LMRequest(**(plain | fields))


def test_a_key_is_a_hash_that_does_not_change() -> None:
    """64 hex digits, the same in every process: what is on disk is found again by later releases."""
    assert re.fullmatch("[0-9a-f]{64}", key())
    assert key() == key(request())
    assert key() == "e1f39b4b0555511c4bc10c2348dc560117e498e45199c1f7e50597ab28dd79f7"


@pytest.mark.parametrize(
    "other",
    [
        {"messages": (Message("system", "Hi"),)},
        {"messages": (Message("user", "Hi"), Message("user", "Hi"))},
        {"messages": (Message("user", ({"type": "text", "text": "Hi"},)),)},
        {"messages": (Message("assistant", "Hi", tool_calls=(ToolCall("1", "f", "{}"),)),)},
        {"temperature": 0.5},
        {"temperature": None},
        {"top_p": 1},
        {"max_tokens": 5},
        {"stop": ("x",)},
        {"seed": 1},
        {"response_format": {"type": "json_object"}},
        {"tools": ({"type": "function"},)},
        {"tool_choice": "auto"},
        {"extra": {"user": "u"}},
    ],
)
def test_whatever_is_asked_differently_has_another_key(other: dict[str, Any]) -> None:
    """Messages, parameters, schema, tools and extra keys all count."""
    assert key(request(**other)) != key()


@pytest.mark.parametrize("other", [{"provider": "q"}, {"kind": "anthropic"}, {"model": "n"}, {"rollout": "1"}])
def test_whom_one_asks_counts_too(other: dict[str, Any]) -> None:
    """Provider, protocol and model, and the rollout that keeps equal requests apart."""
    assert key(**other) != key()


def test_the_request_names_the_model_unless_told_otherwise() -> None:
    """A provider's default model has the key of the same model asked for by name."""
    assert key(model=None) == key()
    assert key(request(model=None)) == key()


def test_equal_numbers_are_equal() -> None:
    """0 and 0.0 are one temperature."""
    assert key(request(temperature=0.0)) == key(request(temperature=0))
