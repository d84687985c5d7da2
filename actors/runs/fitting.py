"""Whether a dataset is one for a program at all: told before anything is paid for."""

from __future__ import annotations

from collections.abc import Iterable

from ...runtime.errors import ConfigError, SignatureError
from ..examples import Example
from ..signatures.signature import Signature
from ..signatures.values import check_inputs


def must_fit(signature: str, examples: Iterable[Example], where: str) -> None:
    """Refuse a dataset of which no example has the inputs by their names. Single ones that have not are failures.

    Args:
        signature: of the program, as text.
        examples: the dataset.
        where: what it is called.

    Raises:
        ConfigError: none fits; it says what is wrong with the first.
    """
    known, first = Signature(signature), None
    for example in examples:
        try:
            check_inputs(known, example.inputs(known.input_names), checking="none")
        except SignatureError as error:
            first = first or _misfit(error, known, example, where)
        else:
            return
    if first is not None:
        raise first


def _misfit(error: SignatureError, signature: Signature, example: Example, where: str) -> ConfigError:
    expected = f"the inputs {', '.join(signature.input_names)}"
    got = ", ".join(example.inputs(signature.input_names)) or f"none of them, but the fields {', '.join(example)}"
    return ConfigError(
        f"expected {expected}, in one example at least, got {got}, at {where}: {error.message}",
        path=where,
        expected=expected,
        got=got,
    )
