"""The test kit: actors in virtual time. Nothing in dspex imports it; what it exports is loaded on first use."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from .many_seeds import search
    from .probe import Probe
    from .record import Decision, RecordedEvent
    from .relay import Relay
    from .system import VirtualSystem
    from .virtual_loop import Deadlock, LoopClock, VirtualLoop

_MODULE_OF: Final = {
    "Deadlock": ".virtual_loop",
    "Decision": ".record",
    "LoopClock": ".virtual_loop",
    "Probe": ".probe",
    "RecordedEvent": ".record",
    "Relay": ".relay",
    "VirtualLoop": ".virtual_loop",
    "VirtualSystem": ".system",
    "search": ".many_seeds",
}

__all__ = (
    "Deadlock",
    "Decision",
    "LoopClock",
    "Probe",
    "RecordedEvent",
    "Relay",
    "VirtualLoop",
    "VirtualSystem",
    "search",
)


def __getattr__(name: str) -> Any:
    module = _MODULE_OF.get(name)
    if module is None:
        raise AttributeError(f"module 'dspex.runtime.testing' has no attribute {name!r}")
    return getattr(importlib.import_module(module, __name__), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
