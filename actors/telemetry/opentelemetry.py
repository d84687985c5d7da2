"""The OpenTelemetry actor, ``observers/otel``: requests and modules as spans and metrics, for whoever exports them.

It starts no exporter: the program sets OpenTelemetry's global providers (or gives its own), and decides where spans
and metrics go. Needs the extra ``dspex[otel]``; without ``telemetry.opentelemetry`` nothing of it is even imported.
"""

from __future__ import annotations

import importlib
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from ...runtime.errors import ConfigError
from ...runtime.gen_server import Exit, GenServer, call, info
from .otel_bridge import OtelBridge
from .otel_spans import MAX_OPEN

if TYPE_CHECKING:
    from opentelemetry.metrics import MeterProvider
    from opentelemetry.trace import TracerProvider

SWEEP_EVERY: Final = 5.0
"""Seconds between two looks for spans whose actors have ended."""
NEEDED: Final = ("opentelemetry.context", "opentelemetry.trace", "opentelemetry.metrics")
"""Modules of the extra."""


@dataclass(frozen=True, slots=True)
class OpenTelemetryStatus:
    """Call: how it does, an :class:`OpenTelemetryReport`."""


@dataclass(frozen=True, slots=True)
class OpenTelemetryReport:
    """How the OpenTelemetry actor does.

    Attributes:
        open_spans: spans that have not ended.
        swept: spans ended because their actors had ended without a word.
    """

    open_spans: int
    swept: int


@dataclass(frozen=True, slots=True)
class _Sweep:
    """To itself: look for spans that nobody will end."""


class OpenTelemetryActor(GenServer):
    """Makes spans and metrics of what happens. Standard name: ``observers/otel``.

    Args of ``init``:
        tracer_provider: makes the tracer; None: OpenTelemetry's global one, also if it is set later.
        meter_provider: makes the meter; None: the global one, also if it is set later.
        sweep_every: seconds between two looks for spans whose actors have ended.
        max_open: spans that may be open; one more ends the oldest.

    Raises:
        ConfigError: the extra ``otel`` is not installed.
    """

    async def init(
        self,
        tracer_provider: TracerProvider | None = None,
        meter_provider: MeterProvider | None = None,
        *,
        sweep_every: float = SWEEP_EVERY,
        max_open: int = MAX_OPEN,
    ) -> None:
        """Attach to the engine's telemetry."""
        if any(sys.modules.get(name) is None for name in NEEDED):
            # Its import reads many files: not on the loop.
            await self.run_blocking(_import)
        self._swept = 0
        self._sweep_every = sweep_every
        self._bridge = self.own(
            OtelBridge(
                self.system.telemetry,
                self.clock,
                tracer_provider=tracer_provider,
                meter_provider=meter_provider,
                limit=max_open,
            )
        )
        self.start_timer(sweep_every, _Sweep())

    @call
    def status(self, msg: OpenTelemetryStatus) -> OpenTelemetryReport:
        """How it does."""
        return OpenTelemetryReport(len(self._bridge.spans), self._swept)

    @info
    def sweep(self, msg: _Sweep) -> None:
        """End what nobody will end."""
        if not self._bridge.attached:
            raise Exit("a span processor or metric reader failed, and the telemetry handler was detached")
        self._swept += self._bridge.spans.sweep(self.system.alive, self.clock.time())
        self.start_timer(self._sweep_every, _Sweep())


def _import() -> None:
    try:
        for name in NEEDED:
            importlib.import_module(name)
    except ImportError as error:
        path = "telemetry.opentelemetry"
        raise ConfigError(
            f"expected OpenTelemetry to be installed (pip install 'dspex[otel]'), got {error}, at {path}",
            path=path,
            expected="the extra otel",
            got=str(error),
        ) from None
