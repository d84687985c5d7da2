"""The output in which a model thinks before it answers."""

from __future__ import annotations

from typing import Final

from ..signatures.signature import Signature

REASONING: Final = "reasoning"


def with_reasoning(given: Signature) -> Signature:
    """The signature with an output ``reasoning`` before the others, unless it has one."""
    if REASONING in given.output_names:
        return given
    return given.prepend(REASONING, to="outputs", desc="Think step by step.")
