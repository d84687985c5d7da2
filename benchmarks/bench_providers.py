"""Module calls against a server that answers at once, 64 at once, beside HTTP clients and DSPy.

A module call is all there is: prompt, cache, budget, protection, HTTP, prices, three events in the log, telemetry.
DSPy is measured in a process of its own; ``DSPEX_BENCH_DSPY`` names the interpreter that has it, if not this one.
"""

from __future__ import annotations

import asyncio
import importlib.util
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import dspex

from .bench_transport import Client, bare_aiohttp, bare_httpx, httpx_over_aiohttp, openai_sdk
from .harness import Benchmark
from .lm_server import lm_server

CONCURRENCY = 64
CALLS = 1500
KEPT = 500  # fewer than the cache keeps by default
Call = Callable[[str], Awaitable[object]]


async def workers(call: Call, count: int, tag: str, different: int = CALLS) -> float:
    """Calls a second, with so many different texts."""
    turns = iter(range(count))

    async def worker() -> None:
        for turn in turns:
            await call(f"What is {tag} {turn % different}?")

    began = time.perf_counter()
    await asyncio.gather(*(worker() for _ in range(CONCURRENCY)))
    return count / (time.perf_counter() - began)


def client_rate(client: Client) -> Callable[[], float]:
    """What measures a bare client: the same body over and over."""

    async def measure(url: str) -> float:
        async with client(url) as one:
            await workers(lambda _: one(), CONCURRENCY, "warm-up")
            return await workers(lambda _: one(), CALLS, "number")

    def run() -> float:
        with lm_server() as url:
            return asyncio.run(measure(url))

    return run


def dspex_rate(what: str) -> Callable[[], float]:
    """What measures an application: ``module`` calls, ``hit`` (the same, answered from the cache), or ``lm``."""

    async def measure(url: str, folder: str) -> float:
        async with dspex.astart(config={"events": {"path": str(Path(folder) / "bench.db")}}) as app:
            await app.configure_provider("p", kind="openai", base_url=url, default_model="bench", api_key="bench")
            qa = await app.start_module("qa", "question -> answer", provider="p", max_concurrency=CONCURRENCY)

            async def module(text: str) -> None:
                answer = await qa(question=text)
                assert answer.answer == "Hello", answer

            call: Call = module if what != "lm" else lambda text: app.lm.complete("p", text)
            await workers(call, CONCURRENCY, "warm-up")
            different = CALLS
            if what == "hit":
                different = KEPT
                await workers(call, KEPT, "number")
            return await workers(call, CALLS, "number", different)

    def run() -> float:
        with lm_server() as url, tempfile.TemporaryDirectory() as folder:
            return asyncio.run(measure(url, folder))

    return run


def dspy_rate(python: str) -> Callable[[], float]:
    """What measures DSPy under another interpreter."""

    def run() -> float:
        script = Path(__file__).with_name("dspy_calls.py")
        with lm_server() as url, tempfile.TemporaryDirectory() as folder:
            command = [python, str(script), url, str(CONCURRENCY), str(CALLS)]
            surroundings = {**os.environ, "DSPY_CACHEDIR": folder}
            done = subprocess.run(command, capture_output=True, text=True, check=True, env=surroundings)
            return float(done.stdout.split()[-1])

    return run


def dspy_python() -> str | None:
    """The interpreter that has DSPy, if there is one."""
    return os.environ.get("DSPEX_BENCH_DSPY") or (sys.executable if importlib.util.find_spec("dspy") else None)


def _benchmarks() -> tuple[Benchmark, ...]:
    peers: dict[str, Client] = {"bare httpx": bare_httpx, "bare aiohttp": bare_aiohttp}
    if importlib.util.find_spec("httpx_aiohttp"):
        peers["httpx-aiohttp"] = httpx_over_aiohttp
    if importlib.util.find_spec("openai"):
        peers["openai SDK"] = openai_sdk
    found = [Benchmark(f"chat requests, {name}", client_rate(client), "1/s") for name, client in peers.items()]
    python, module = dspy_python(), dspex_rate("module")
    if python is None:
        print("DSPy is not installed: module calls have nothing to be compared with", file=sys.stderr)
        found.append(Benchmark("module calls", module, "1/s"))
    else:
        found.append(Benchmark("module calls, DSPy Predict.acall", dspy_rate(python), "1/s"))
        found.append(Benchmark("module calls", module, "1/s", baseline="module calls, DSPy Predict.acall", floor=3.0))
    if "httpx-aiohttp" in peers:
        beside: dict[str, Any] = {"baseline": "chat requests, httpx-aiohttp", "floor": 0.5}
        found.append(Benchmark("module calls beside httpx-aiohttp", module, "1/s", **beside))
    found.append(Benchmark("module calls answered from the cache", dspex_rate("hit"), "1/s"))
    found.append(Benchmark("app.lm.complete", dspex_rate("lm"), "1/s"))
    return tuple(found)


BENCHMARKS = _benchmarks()
