"""The prompts of a predictor: written by its adapter, its worked examples only once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pytest

from dspex.actors.adapter import Adapter
from dspex.actors.adapters.chat import ChatAdapter
from dspex.actors.adapters.json_adapter import JsonAdapter
from dspex.actors.lm.values import Message
from dspex.actors.modules.predictor_plan import PredictorPlan
from dspex.actors.modules.program_state import PredictorState
from dspex.actors.signatures.signature import Signature

SIGNATURE = Signature("question -> answer")
DEMOS = ({"question": "1 + 1", "answer": "2"}, {"answer": "4"})


class Counting(ChatAdapter):
    """Counts the worked examples that it writes."""

    def __init__(self) -> None:
        self.written = 0

    def format(
        self, signature: Signature, inputs: Mapping[str, Any], demos: Sequence[Mapping[str, Any]] = ()
    ) -> list[Message]:
        """As always."""
        self.written += len(demos)
        return super().format(signature, inputs, demos)


def plan(adapter: Adapter, demos: tuple[Mapping[str, Any], ...] = DEMOS) -> PredictorPlan:
    """A predictor's plan."""
    return PredictorPlan(
        declared=SIGNATURE,
        signature=SIGNATURE,
        demos=demos,
        adapter=adapter,
        checking="lenient",
        retry_failed_predictions=True,
    )


@pytest.mark.parametrize("adapter", [ChatAdapter(), JsonAdapter()])
@pytest.mark.parametrize("demos", [(), DEMOS])
def test_each_prompt_is_what_the_adapter_writes(adapter: Adapter, demos: tuple[Mapping[str, Any], ...]) -> None:
    """The first as all later ones, each with its own question."""
    one = plan(adapter, demos)
    for question in ("2 + 2", "3 + 3", "2 + 2"):
        inputs = {"question": question}
        assert one.messages(inputs) == tuple(adapter.format(SIGNATURE, inputs, demos))


def test_worked_examples_are_written_once() -> None:
    """However many questions are asked; another state has its own."""
    adapter = Counting()
    one = plan(adapter)
    for number in range(5):
        one.messages({"question": str(number)})
    assert adapter.written == len(DEMOS)
    other = one.with_state(PredictorState(None, (DEMOS[0],)), "predict")
    (system, *_), shown = one.messages({"question": "5"}), other.messages({"question": "5"})
    assert (shown[0], len(shown)) == (system, 4)
