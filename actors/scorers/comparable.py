"""Whether the shipped metrics can compare anything at all: told before anything is paid for."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from ...runtime.errors import ConfigError, did_you_mean
from ..examples import Example
from ..signatures.signature import Signature
from .texts import F1, Contains, ExactMatch

_EXACT: Final = frozenset({"predict", "chain_of_thought", "best_of_n", "refine"})
"""Kinds of modules that give the outputs of their signature and no others."""


def must_compare(metric: object, signature: str, kind: str, examples: Iterable[Example]) -> None:
    """Refuse a shipped metric that no example, or no prediction, gives anything to compare.

    Of metrics of the user's own, and of models that judge, nothing is known.

    Args:
        metric: the metric.
        signature: of the module, as text.
        kind: of the module; a program may give more than it declares.
        examples: what is to be scored.

    Raises:
        ConfigError: there is nothing to compare.
    """
    if type(metric) not in (ExactMatch, Contains, F1):
        return
    assert isinstance(metric, ExactMatch | Contains | F1)
    # As when it scores: an example that names no inputs is a label as a whole.
    labels = list(dict.fromkeys(name for example in examples for name in example.labels()))
    known = Signature(signature)
    outputs, shown = known.output_names, [name for name in labels if name not in known.input_names]
    field, exact = metric.field, kind in _EXACT
    if field is None:
        if not labels or (exact and not any(name in outputs for name in labels)):
            expected = f"a label that is an output of the module ({', '.join(outputs)}), in one example at least"
            raise _refuse(expected, ", ".join(shown) or "none")
    elif field not in labels:
        raise _refuse("a field that an example has as a label", f"{field!r}{_hint(field, shown)}")
    elif exact and field not in outputs:
        raise _refuse("an output of the module", f"{field!r}{_hint(field, outputs)}")


def _hint(field: str, known: Iterable[str]) -> str:
    return did_you_mean(field, known) or f" (there are: {', '.join(known) or 'none'})"


def _refuse(expected: str, got: str) -> ConfigError:
    return ConfigError(f"expected {expected}, got {got}, at metric", path="metric", expected=expected, got=got)
