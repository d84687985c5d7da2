"""What grows without end elsewhere is bounded here: a slow reader, many streams, many calls that wait."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

import dspex
from benchmarks.lm_server import bytes_sent, lm_server, release
from dspex.actors.protection.messages import ProtectionReport, ProtectionStatus
from dspex.runtime.errors import LMRateLimited
from kit.application import IN_MEMORY

STATUS = Path("/proc/self/status")
MEGABYTE = 2**20
WHOLE = 100_000  # chunks of 1,000 characters: 100 MB, and more in JSON
BUFFERS = 20 * MEGABYTE
"""More than all buffers: the sockets here and there take 4 to 10 MB."""
STREAMS = 1000
WAITING = 10_000


@pytest.fixture
def url() -> Iterator[str]:
    """The address of a server in a process of its own, so that its memory is not ours."""
    with lm_server() as url:
        yield url


@asynccontextmanager
async def application(url: str, **provider: Any) -> AsyncIterator[Any]:
    """An application with the provider ``p`` and no cache."""
    async with dspex.astart(config={**IN_MEMORY, "ai": {"caching": {"enabled": False}}}) as app:
        await app.configure_provider("p", kind="openai", base_url=url, default_model="m", api_key="key", **provider)
        yield app


def resident() -> int:
    """Bytes of memory that this process holds."""
    (line,) = [line for line in STATUS.read_text().splitlines() if line.startswith("VmRSS:")]
    return int(line.split()[1]) * 1024


async def protection(app: Any) -> ProtectionReport:
    """How the provider's protection is."""
    report: ProtectionReport = await app.call("protection/p", ProtectionStatus())
    return report


async def stands_still(url: str) -> int:
    """What the server could send, once that has stopped growing."""
    seen, last = 0, -1
    while seen < 25:
        now = await asyncio.to_thread(bytes_sent, url)
        seen, last = (seen + 1, last) if now == last else (0, now)
    return last


@pytest.mark.skipif(not STATUS.exists(), reason="memory is read from /proc")
@pytest.mark.parametrize("max_demand", [1, 8])
def test_a_slow_reader_costs_no_memory_and_stops_the_server(url: str, max_demand: int) -> None:
    """Of a stream of 100 MB only what is read, and the sockets' buffers, leaves the server; our memory stays."""

    async def run() -> None:
        async with application(url) as app:
            async with app.lm.stream("p", "warm up", model="chunks-1000-1000") as stream:
                assert len([chunk async for chunk in stream]) == 1000
            before, ahead = resident(), await stands_still(url)
            async with app.lm.stream("p", "x", model=f"chunks-{WHOLE}-1000", max_demand=max_demand) as stream:
                for _ in range(5):
                    assert len((await anext(stream)).text) == 1000
                assert await stands_still(url) - ahead < BUFFERS
                for _ in range(25):
                    await anext(stream)
                    assert await asyncio.to_thread(bytes_sent, url) - ahead < BUFFERS
                assert await stands_still(url) - ahead < BUFFERS
                assert resident() - before < 5 * MEGABYTE

    asyncio.run(run())


def test_a_thousand_streams_at_once(url: str) -> None:
    """All are open together and each gets its own answer; one more is refused at once, with a typed error."""

    async def run() -> None:
        limits = {"limit": None, "concurrency": STREAMS, "on_limit": "fail"}
        async with application(url, max_connections=STREAMS, rate_limit=limits) as app:
            streams = [app.lm.stream("p", "x", model=f"held-{2 + number % 3}-5") for number in range(STREAMS)]
            for start in range(0, STREAMS, 100):
                await asyncio.gather(*(stream.__aenter__() for stream in streams[start : start + 100]))
            assert (await protection(app)).in_flight == STREAMS
            with pytest.raises(LMRateLimited) as refused:
                await app.lm.stream("p", "one more").__aenter__()
            assert refused.value.facts["local"]
            assert await asyncio.to_thread(release, url) == STREAMS
            counts = await asyncio.gather(*(read(stream) for stream in streams))
            assert counts == [2 + number % 3 for number in range(STREAMS)]
            while (await protection(app)).in_flight:
                pass

    async def read(stream: Any) -> int:
        return len([chunk async for chunk in stream])

    asyncio.run(run())


@pytest.mark.timeout(60)
def test_ten_thousand_calls_wait_and_one_more_is_refused(url: str) -> None:
    """Calls behind a full limiter wait up to the bound; the next is refused typed; those that give up leave nothing."""

    async def run() -> None:
        limits = {"limit": 1, "window": 600.0, "max_waiting": WAITING}
        async with application(url, timeout=300.0, rate_limit=limits) as app:
            assert (await app.lm.complete("p", "the one")).text
            calls: list[asyncio.Task[Any]] = []
            for start in range(0, WAITING, 500):
                calls += [asyncio.create_task(app.lm.complete("p", "x", timeout=300.0)) for _ in range(500)]
                while (await protection(app)).waiting < start + 500:
                    assert not any(call.done() for call in calls)
            with pytest.raises(LMRateLimited, match=f"{WAITING} wait already") as refused:
                await app.lm.complete("p", "one more", timeout=300.0)
            assert refused.value.facts["local"]
            assert (await protection(app)).waiting == WAITING
            for start in range(0, WAITING, 500):
                for call in calls[start : start + 500]:
                    call.cancel()
                await asyncio.gather(*calls[start : start + 500], return_exceptions=True)
                while (await protection(app)).waiting > WAITING - start - 500:
                    pass
            while (await protection(app)).in_flight:
                pass

    asyncio.run(run())
