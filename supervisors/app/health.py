"""Health: which parts are up, from the name table; no actor is asked."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Final, Literal

from ...runtime.engine import Engine
from ...runtime.names import NameEntry
from ...runtime.reasons import describe
from . import names

Verdict = Literal["healthy", "degraded", "unhealthy", "stopped"]
_WORKING: Final = ("provider", "module")


@dataclass(frozen=True, slots=True)
class Part:
    """One part of the application: its state, and why it is not running."""

    state: str
    reason: str
    restarts: int


@dataclass(frozen=True, slots=True)
class Health:
    """The health of an application.

    Attributes:
        status: ``healthy``; ``degraded`` if a provider, a module or a helpful part is not running;
            ``unhealthy`` if an essential part is not; ``stopped``.
        parts: every part by name.
        timestamp: wall clock, seconds since the epoch.
    """

    status: Verdict
    parts: dict[str, Part]
    timestamp: float

    @property
    def ok(self) -> bool:
        """Whether everything runs."""
        return self.status == "healthy"

    def to_dict(self) -> dict[str, Any]:
        """As plain values, for JSON."""
        return asdict(self)


def health_of(engine: Engine) -> Health:
    """The health of the application that runs, or ran, on ``engine``. From any thread.

    Raises:
        ForkedProcess: this is a forked child, where nothing of it runs.
    """
    engine.outside.check_process()
    entries = {entry.name: entry for entry in engine.names.entries()}
    watched = [
        *names.ESSENTIAL,
        *(name for name, entry in entries.items() if name in names.HELPFUL or entry.kind.partition("/")[0] in _WORKING),
    ]
    parts = {name: _part(entries.get(name)) for name in watched}
    return Health(_verdict(engine, parts), parts, engine.clock.time())


def _part(entry: NameEntry | None) -> Part:
    if entry is None:
        return Part("dead", "never started", 0)
    reason = "" if entry.state == "running" or entry.reason is None else describe(entry.reason)
    return Part(entry.state, reason, entry.restarts)


def _verdict(engine: Engine, parts: dict[str, Part]) -> Verdict:
    if engine.outside.closed:
        return "stopped"
    if any(parts[name].state != "running" for name in names.ESSENTIAL):
        return "unhealthy"
    return "healthy" if all(part.state == "running" for part in parts.values()) else "degraded"
