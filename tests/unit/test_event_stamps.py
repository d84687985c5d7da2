"""Events put together without a check are those that the checked way makes."""

from __future__ import annotations

import random
from decimal import Decimal
from typing import Any

import pytest

from dspex.actors.events.codec import encode
from dspex.actors.events.kinds import (
    Event,
    LmAttempt,
    LmError,
    LmFirstChunk,
    LmRequest,
    LmResponse,
    LmRetry,
    ModuleExecution,
    stamp,
)
from dspex.actors.events.stamps import stamp_unchecked
from dspex.runtime.clock import Clock
from dspex.runtime.context import Context
from dspex.runtime.ids import IdSource

ASKED: dict[str, Any] = {"provider": "p", "model": "m"}
SAMPLES: tuple[tuple[type[Event], dict[str, Any]], ...] = (
    (LmRequest, ASKED | {"prompt_hash": "h", "prompt_tokens": 3}),
    (LmRequest, ASKED | {"prompt_hash": "h", "stream": True, "messages": ({"role": "user", "content": "Hi"},)}),
    (LmFirstChunk, ASKED | {"request_event_id": "1", "seconds": 0.5}),
    (LmAttempt, ASKED | {"request_event_id": "1", "number": 1, "seconds": 0.5, "status": 200}),
    (LmResponse, ASKED | {"request_event_id": "1", "duration": 0.5}),
    (
        LmResponse,
        ASKED
        | {"request_event_id": "1", "duration": 0.5, "cost": Decimal("0.25"), "accounts": ("provider/p", "module/qa")}
        | {"usage_source": "provider", "input_tokens": 3, "output_tokens": 4, "finish_reason": "stop"},
    ),
    (LmError, ASKED | {"code": "lm_timeout", "message": "late", "attempts": 2, "partial": True}),
    (LmRetry, ASKED | {"code": "lm_timeout", "attempt": 1, "delay": 0.5}),
    (
        ModuleExecution,
        {"module": "qa", "module_type": "predict", "signature": "q -> a", "duration": 1.0, "success": True},
    ),
)


class StoppedClock:
    """It is always the same moment."""

    def monotonic(self) -> float:
        return 1.0

    def time(self) -> float:
        return 1_700_000_000.5


class Somebody:
    """An actor as far as stamps need one; two of them are alike."""

    name = "provider/p"
    context = Context("t" * 32, "s" * 16, "p" * 16, "u")

    def __init__(self) -> None:
        self.clock: Clock = StoppedClock()
        self.ids = IdSource(self.clock, random.Random(7))


@pytest.mark.parametrize(("cls", "fields"), SAMPLES, ids=lambda value: getattr(value, "__name__", ""))
def test_both_ways_make_the_same_event(cls: type[Event], fields: dict[str, Any]) -> None:
    """Equal in value, in what was set, in their text, and as frozen as the other."""
    checked = stamp(Somebody(), cls, **fields)
    quick = stamp_unchecked(Somebody(), cls, Somebody.context, **fields)
    assert quick == checked
    assert type(quick) is cls
    assert quick.model_fields_set == checked.model_fields_set
    assert quick.model_extra == checked.model_extra == {}
    assert list(quick.model_dump()) == list(checked.model_dump())
    assert quick.model_dump_json() == checked.model_dump_json()
    assert encode(quick) == encode(checked)
    assert repr(quick) == repr(checked)
    assert hash(quick.id) == hash(checked.id)
    assert quick.model_copy(update={"user": "v"}) == checked.model_copy(update={"user": "v"})
    with pytest.raises(ValueError, match="frozen"):
        quick.time = 0.0  # type: ignore[misc]


def test_every_field_that_is_required_is_given_in_the_samples() -> None:
    """Or the comparison above would prove nothing: a required field has no default to fall back on."""
    for cls, fields in SAMPLES:
        common = {"id", "time"}
        required = {name for name, field in cls.model_fields.items() if field.is_required()}
        assert required <= fields.keys() | common
