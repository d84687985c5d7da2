"""What a hosted program writes, piece by piece: which of its predictors writes which field, and in which form.

A field comes in pieces if a predictor of the program has it as an output; of several, the last one. If that is called
more than once, the first answer that begins the field is read. Everything else comes whole, with the prediction: what
the program computes itself, what copies of a predictor write (``BestOfN``, ``Refine``), and answers in a form that
cannot be read before its end (``TwoStepAdapter``).
"""

from __future__ import annotations

import threading
from collections.abc import Awaitable, Callable, Iterable, Mapping
from contextvars import ContextVar
from typing import Any, Final, TypeAlias

from ..adapter import FieldReader
from ..adapters.chat_reader import ChatFieldReader
from ..adapters.json_reader import JsonFieldReader
from ..signatures.signature import Signature
from .callbacks import Callback
from .library import dspy
from .xml_reader import XmlFieldReader

Pair: TypeAlias = tuple[str, str]
Put: TypeAlias = Callable[[Iterable[Pair]], Awaitable[None]]

_PREDICTOR: ContextVar[Any] = ContextVar("dspex_dspy_predictor", default=None)
_ADAPTER: ContextVar[Any] = ContextVar("dspex_dspy_adapter", default=None)


class Tap(Callback):
    """Stands where a program calls its model, and reads along; a callback of DSPy, to know who calls.

    Args:
        writers: by the predictors' ``id()``: their signatures, and which fields of the program's they write.
        put: takes the pieces, on the engine's loop; waits until somebody wants them.
        max_demand: pieces of a model's answer that are asked for at once.
    """

    def __init__(self, writers: Mapping[int, tuple[Signature, frozenset[str]]], put: Put, max_demand: int) -> None:
        self.max_demand: Final = max_demand
        self._writers = writers
        self._put = put
        self._lock = threading.Lock()
        self._begun: dict[str, Reading] = {}

    def reading(self) -> Reading | None:
        """Of the answer that the calling thread is about to ask for, if a field of it is wanted."""
        signature, wanted = self._writers.get(id(_PREDICTOR.get()), (None, frozenset[str]()))
        reader = None if signature is None else _reader(_ADAPTER.get(), signature)
        fresh = wanted - self._begun.keys()
        return None if reader is None or not fresh else Reading(reader, fresh, self)

    async def put(self, reading: Reading, pairs: Iterable[Pair]) -> None:
        """Give pieces on, of fields that no other answer has begun."""
        with self._lock:
            own = [pair for pair in pairs if self._begun.setdefault(pair[0], reading) is reading]
        if own:
            await self._put(own)

    def has_begun(self, field: str, reading: Reading) -> bool:
        """Whether this answer has begun this field."""
        return self._begun.get(field) is reading

    # -- as a callback of DSPy -----------------------------------------------------------------------

    def on_module_start(self, call_id: str, instance: Any, inputs: Any) -> None:
        """A predictor is called, in this thread."""
        if id(instance) in self._writers:
            _PREDICTOR.set(instance)

    def on_module_end(self, call_id: str, outputs: Any, exception: BaseException | None = None) -> None:
        """A module has ended: what is called now is called by another one."""
        _PREDICTOR.set(None)

    def on_adapter_format_start(self, call_id: str, instance: Any, inputs: Any) -> None:
        """An adapter writes the request, in this thread."""
        _ADAPTER.set(instance)


class Reading:
    """Of one answer.

    Args:
        reader: of its form.
        wanted: which fields.
        tap: takes the pieces.
    """

    def __init__(self, reader: FieldReader, wanted: frozenset[str], tap: Tap) -> None:
        self._reader = reader
        self._wanted = wanted
        self._tap = tap

    async def feed(self, text: str) -> None:
        """Read further text."""
        await self._give(self._reader.feed(text))

    async def close(self) -> None:
        """The answer is at its end. A field that only begins here is not certain: DSPy may read it otherwise."""
        await self._give(pair for pair in self._reader.close() if self._tap.has_begun(pair[0], self))

    async def _give(self, pairs: Iterable[Pair]) -> None:
        wanted = [pair for pair in pairs if pair[0] in self._wanted and pair[1]]
        if wanted:
            await self._tap.put(self, wanted)


def _reader(adapter: Any, signature: Signature) -> FieldReader | None:
    library = dspy()
    if isinstance(adapter, library.JSONAdapter):
        return JsonFieldReader(signature)
    if isinstance(adapter, library.XMLAdapter):
        return XmlFieldReader(signature.output_names)
    return ChatFieldReader(signature) if isinstance(adapter, library.ChatAdapter) else None
