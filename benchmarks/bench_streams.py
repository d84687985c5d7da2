"""Streams from a server in another process: chunks a second, delay of the first, memory that a slow reader costs.

The chunks are small, as models send them: five characters, in some 160 bytes of JSON.
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib
import importlib.util
import json
import statistics
import tempfile
import time
from collections.abc import AsyncGenerator, Callable, Coroutine, Iterable
from pathlib import Path
from typing import Any

import aiohttp

import dspex
from dspex.actors.lm.chunks import LMChunk, LMStreamEnd
from dspex.actors.lm.values import LMRequest, Message
from dspex.actors.providers.messages import OpenStream
from dspex.runtime.stages import Consumer

from .harness import Benchmark
from .lm_server import bytes_sent, lm_server

CHUNKS = 50_000
SIZE = 5
FIRST = 200
Measure = Callable[[str], Coroutine[Any, Any, float]]


def measured(measure: Measure) -> Callable[[], float]:
    """What measures against a fresh server."""

    def run() -> float:
        with lm_server() as url:
            return asyncio.run(measure(url))

    return run


@contextlib.asynccontextmanager
async def application(url: str) -> AsyncGenerator[Any, None]:
    """An application with the provider ``p``."""
    with tempfile.TemporaryDirectory() as folder:
        async with dspex.astart(config={"events": {"path": str(Path(folder) / "bench.db")}}) as app:
            await app.configure_provider("p", kind="openai", base_url=url, default_model="bench", api_key="bench")
            yield app


# -- chunks a second -------------------------------------------------------------------------------


async def bare_loop(url: str) -> float:
    """aiohttp, a split into lines and ``json.loads``, and nothing else."""
    async with aiohttp.ClientSession() as session:
        await bare_read(session, url, 10)
        began = time.perf_counter()
        assert await bare_read(session, url, CHUNKS) == CHUNKS
        return CHUNKS / (time.perf_counter() - began)


async def bare_read(session: aiohttp.ClientSession, url: str, chunks: int) -> int:
    """Read one stream; the number of its chunks with text."""
    texts, rest = 0, b""
    async with session.post(f"{url}/chat/completions", json={"model": f"chunks-{chunks}-{SIZE}"}) as answer:
        async for data in answer.content.iter_any():
            *lines, rest = (rest + data).split(b"\n\n")
            for line in lines:
                if line != b"data: [DONE]":
                    choices = json.loads(line[6:])["choices"]
                    texts += bool(choices and choices[0]["delta"].get("content"))
    return texts


async def sdk(url: str) -> float:
    """The client of OpenAI."""
    library: Any = importlib.import_module("openai")
    count, chunks = 0, CHUNKS // 10
    async with library.AsyncOpenAI(base_url=url, api_key="bench", max_retries=0) as client:
        began = time.perf_counter()
        messages = [{"role": "user", "content": "x"}]
        async for chunk in await client.chat.completions.create(
            model=f"chunks-{chunks}-{SIZE}", messages=messages, stream=True
        ):
            count += bool(chunk.choices and chunk.choices[0].delta.content)
        assert count == chunks
        return chunks / (time.perf_counter() - began)


class Sink(Consumer):
    """Counts what comes, and tells when the end has come."""

    def init(self, target: Any, over: asyncio.Future[float]) -> None:
        self.count, self.over = 0, over
        self.subscribe_to(target, max_demand=1000, cancel="transient")

    def handle_events(self, events: Iterable[Any], subscription: Any) -> None:
        for event in events:
            if isinstance(event, LMChunk):
                self.count += 1
            elif isinstance(event, LMStreamEnd) and not self.over.done():
                assert event.error is None, event.error
                self.over.set_result(self.count)


async def actors(url: str) -> float:
    """From the socket through ``LMStream`` to a consumer actor."""
    async with application(url) as app:
        began = 0.0
        for chunks in (10, CHUNKS):
            began = time.perf_counter()
            request = LMRequest((Message("user", "x"),), model=f"chunks-{chunks}-{SIZE}")
            opened = await app.call("provider/p", OpenStream(request), timeout=10)
            over: asyncio.Future[float] = asyncio.get_running_loop().create_future()
            await app.start_child(dspex.ChildSpec(f"sink-{chunks}", Sink, (opened.address, over), restart="temporary"))
            assert await over == chunks
        return CHUNKS / (time.perf_counter() - began)


async def faces(url: str) -> float:
    """``async for chunk in app.lm.stream(...)``."""
    async with application(url) as app:
        began = 0.0
        for chunks in (10, CHUNKS):
            began = time.perf_counter()
            count = 0
            async with app.lm.stream("p", "x", model=f"chunks-{chunks}-{SIZE}", max_demand=1000) as stream:
                async for chunk in stream:
                    count += bool(chunk.text)
            assert count == chunks
        return CHUNKS / (time.perf_counter() - began)


# -- the first chunk ---------------------------------------------------------------------------------


async def bare_first(url: str) -> float:
    """Milliseconds to the first chunk, bare; the median of many."""
    taken: list[float] = []
    async with aiohttp.ClientSession() as session:
        for _ in range(FIRST):
            began = time.perf_counter()
            async with session.post(f"{url}/chat/completions", json={"model": f"slowly-5-{SIZE}"}) as answer:
                json.loads((await answer.content.readany()).split(b"\n\n", 1)[0][6:])
                taken.append(time.perf_counter() - began)
                await answer.read()
    return statistics.median(taken) * 1000


async def first(url: str) -> float:
    """Milliseconds to the first chunk in the hands of a user."""
    taken: list[float] = []
    async with application(url) as app:
        for _ in range(FIRST):
            began = time.perf_counter()
            async with app.lm.stream("p", "x", model=f"slowly-5-{SIZE}") as stream:
                assert (await anext(stream)).text
                taken.append(time.perf_counter() - began)
                async for _chunk in stream:
                    pass
    return statistics.median(taken) * 1000


async def delay(url: str) -> float:
    """By how many milliseconds the first chunk comes later than bare."""
    return await first(url) - await bare_first(url)


# -- a slow reader ------------------------------------------------------------------------------------


def resident() -> float:
    """Resident memory of this process, in MB."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) / 1024
    raise RuntimeError("no VmRSS in /proc/self/status")


async def slow_reader(url: str) -> tuple[float, float]:
    """One chunk a second out of 100 MB: MB by which memory grew, and MB that the server could send meanwhile."""
    async with application(url) as app:
        async with app.lm.stream("p", "x", model="chunks-10-1000") as stream:
            async for _ in stream:
                pass
        before = resident()
        async with app.lm.stream("p", "x", model="chunks-100000-1000", max_demand=1) as stream:
            for _ in range(3):
                await anext(stream)
                await asyncio.sleep(1)
            sent = await asyncio.to_thread(bytes_sent, url)
            return resident() - before, sent / 1e6


async def grown(url: str) -> float:
    return (await slow_reader(url))[0]


async def taken_off_the_server(url: str) -> float:
    return (await slow_reader(url))[1]


def _benchmarks() -> tuple[Benchmark, ...]:
    found = [Benchmark("stream chunks, bare aiohttp and json", measured(bare_loop), "1/s")]
    if importlib.util.find_spec("openai"):
        found.append(Benchmark("stream chunks, openai SDK", measured(sdk), "1/s"))
    return (
        *found,
        Benchmark("stream chunks to a consumer actor", measured(actors), "1/s", floor=100_000),
        Benchmark("stream chunks by app.lm.stream", measured(faces), "1/s"),
        Benchmark("first chunk, bare aiohttp", measured(bare_first), "ms", better="lower"),
        Benchmark("first chunk, later than bare", measured(delay), "ms", better="lower", floor=1),
        Benchmark("slow reader of 100 MB, memory", measured(grown), "MB", better="lower", floor=5),
        Benchmark("slow reader of 100 MB, sent by the server", measured(taken_off_the_server), "MB", better="lower"),
    )


BENCHMARKS = _benchmarks()
