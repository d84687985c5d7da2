"""The port between a signature and a chat model: how fields become messages, and an answer becomes fields.

Implementations live in ``adapters/``; one is found by name with ``adapters.adapter_named``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from .lm.values import Message
from .signatures.signature import Signature
from .signatures.values import Checking


class FieldReader(Protocol):
    """Reads one answer while it is written. Pure."""

    def feed(self, text: str) -> Sequence[tuple[str, str]]:
        """Read further text of the answer; the (field, text) pairs that are certain now."""
        ...

    def close(self) -> Sequence[tuple[str, str]]:
        """The answer is at its end; what is certain only now."""
        ...


class Adapter(Protocol):
    """Writes prompts and reads answers. Pure: no state, no I/O."""

    @property
    def name(self) -> str:
        """The word that chooses it in a configuration."""
        ...

    def format(
        self, signature: Signature, inputs: Mapping[str, Any], demos: Sequence[Mapping[str, Any]] = ()
    ) -> list[Message]:
        """The messages that ask a model for the outputs: the question last, before it what is the same for any inputs.

        Args:
            signature: what is asked.
            inputs: a value for each input, checked already (``signature_values.check_inputs``).
            demos: worked examples, each with values of some inputs and outputs.

        Raises:
            SignatureError: a value cannot be written as text.
        """
        ...

    def response_format(self, signature: Signature) -> Mapping[str, Any] | None:
        """What asks a provider to hold its model to the form of the answer (``LMRequest.response_format``), or None.

        The messages say the same: an answer without it is read alike.
        """
        ...

    def parse(self, signature: Signature, text: str, *, checking: Checking = "lenient") -> dict[str, Any]:
        """The outputs in a model's answer, in the signature's order, of the signature's types.

        Args:
            signature: what was asked.
            text: the answer.
            checking: how values are held to their types; ``none`` gives them as text or JSON, as they came.

        Raises:
            ParseError: the answer does not fit (facts: field, expected, got, text); nothing else, whatever
                the text.
        """
        ...

    def reader(self, signature: Signature) -> FieldReader:
        """What reads an answer while it is written.

        The texts that it gives for a field are, joined, the field's text in the whole answer. It refuses nothing:
        :meth:`parse` does, once the answer is whole.
        """
        ...
