"""The application: import, start and stop; and the event store under it."""

from __future__ import annotations

import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import dspex
from dspex.actors.events.kinds import CustomEvent
from dspex.actors.events.store import AppendAcked

from .harness import Benchmark

BATCH = 500
BATCHES = 40
SINGLES = 500


def _import_seconds() -> float:
    command = "import time; t = time.perf_counter(); import dspex; dspex.start; print(time.perf_counter() - t)"
    done = subprocess.run([sys.executable, "-c", command], capture_output=True, text=True, check=True)
    return float(done.stdout)


def _config(folder: str) -> dict[str, object]:
    return {"events": {"path": str(Path(folder) / "bench.db")}}


def _start_stop() -> tuple[float, float]:
    with tempfile.TemporaryDirectory() as folder:
        began = time.perf_counter()
        app = dspex.start(config=_config(folder))
        started = time.perf_counter()
        app.stop()
        return (started - began) * 1000, (time.perf_counter() - started) * 1000


def _event(app: dspex.App) -> CustomEvent:
    engine = app.engine
    return CustomEvent(
        id=engine.ids.sortable(), type="benchmark", time=engine.clock.time(), data={"n": 1, "text": "x" * 40}
    )


def _batched() -> float:
    with tempfile.TemporaryDirectory() as folder, dspex.start(config=_config(folder)) as app:
        batches = [tuple(_event(app) for _ in range(BATCH)) for _ in range(BATCHES)]
        began = time.perf_counter()
        for batch in batches:
            app.call("core/events", AppendAcked(batch))
        return BATCH * BATCHES / (time.perf_counter() - began)


def _single_p99() -> float:
    with tempfile.TemporaryDirectory() as folder, dspex.start(config=_config(folder)) as app:
        taken: list[float] = []
        for _ in range(SINGLES):
            event = _event(app)
            began = time.perf_counter()
            app.call("core/events", AppendAcked((event,)))
            taken.append(time.perf_counter() - began)
        return statistics.quantiles(taken, n=100)[98] * 1000


BENCHMARKS = (
    Benchmark("import dspex (and dspex.start)", _import_seconds, "s", better="lower", floor=0.4),
    Benchmark("start of the standard tree", lambda: _start_stop()[0], "ms", better="lower", floor=50),
    Benchmark("stop of the standard tree", lambda: _start_stop()[1], "ms", better="lower", floor=50),
    Benchmark("acknowledged events, batches of 500", _batched, "1/s", floor=20_000),
    Benchmark("single acknowledged append, p99", _single_p99, "ms", better="lower", floor=5),
)
