"""Requests a second against a server that answers at once, one at a time and 64 at once.

The transport of dspex with all it adds (deadline, bounds, typed errors) beside the libraries bare, and beside the
client of OpenAI if it is installed.
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib
import importlib.util
import json
import time
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from typing import Any

import aiohttp
import httpx

from dspex.actors.http.http_transport import HttpTransport
from dspex.actors.http.transport import HttpRequest

from .harness import Benchmark
from .transport_server import instant_server

Request = Callable[[], Awaitable[object]]
Client = Callable[[str], AbstractAsyncContextManager[Request]]

BODY = json.dumps({"model": "bench", "messages": [{"role": "user", "content": "x" * 300}]}).encode()
HEADERS = {"authorization": "Bearer bench", "content-type": "application/json"}
TIMEOUT = 30.0


@contextlib.asynccontextmanager
async def dspex_transport(url: str) -> AsyncGenerator[Request, None]:
    transport = HttpTransport(url)
    request = HttpRequest(f"{url}/chat/completions", HEADERS, BODY)
    yield lambda: transport.send(request, timeout=TIMEOUT)
    await transport.aclose()


@contextlib.asynccontextmanager
async def bare_httpx(url: str) -> AsyncGenerator[Request, None]:
    async with httpx.AsyncClient(timeout=TIMEOUT) as client:
        yield lambda: client.post(f"{url}/chat/completions", content=BODY, headers=HEADERS)


@contextlib.asynccontextmanager
async def httpx_over_aiohttp(url: str) -> AsyncGenerator[Request, None]:
    library: Any = importlib.import_module("httpx_aiohttp")
    async with httpx.AsyncClient(timeout=TIMEOUT, transport=library.AiohttpTransport()) as client:
        yield lambda: client.post(f"{url}/chat/completions", content=BODY, headers=HEADERS)


@contextlib.asynccontextmanager
async def bare_aiohttp(url: str) -> AsyncGenerator[Request, None]:
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=TIMEOUT)) as session:

        async def one() -> bytes:
            async with session.post(f"{url}/chat/completions", data=BODY, headers=HEADERS) as answer:
                return await answer.read()

        yield one


@contextlib.asynccontextmanager
async def openai_sdk(url: str) -> AsyncGenerator[Request, None]:
    library: Any = importlib.import_module("openai")
    async with library.AsyncOpenAI(base_url=url, api_key="bench", timeout=TIMEOUT, max_retries=0) as client:
        messages = [{"role": "user", "content": "x" * 300}]
        yield lambda: client.chat.completions.create(model="bench", messages=messages)


def rate(client: Client, concurrency: int, requests: int) -> Callable[[], float]:
    """What measures the requests a second of ``concurrency`` workers that share ``requests``."""

    async def workers(one: Request, count: int) -> None:
        turns = iter(range(count))

        async def worker() -> None:
            for _ in turns:
                await one()

        await asyncio.gather(*(worker() for _ in range(concurrency)))

    async def measure(url: str) -> float:
        async with client(url) as one:
            await workers(one, concurrency)  # connections are made
            began = time.perf_counter()
            await workers(one, requests)
            return requests / (time.perf_counter() - began)

    def run() -> float:
        with instant_server() as url:
            return asyncio.run(measure(url))

    return run


def _benchmarks() -> tuple[Benchmark, ...]:
    peers: dict[str, Client] = {"bare httpx": bare_httpx, "bare aiohttp": bare_aiohttp}
    if importlib.util.find_spec("httpx_aiohttp"):
        peers["httpx over httpx-aiohttp"] = httpx_over_aiohttp
    if importlib.util.find_spec("openai"):
        peers["openai SDK"] = openai_sdk
    found: list[Benchmark] = []
    for concurrency, requests, floor in ((1, 500, 1.5), (64, 1500, 4.0)):
        for name, client in peers.items():
            found.append(Benchmark(f"{name}, {concurrency} at once", rate(client, concurrency, requests), "1/s"))
        found.append(
            Benchmark(
                f"dspex transport, {concurrency} at once",
                rate(dspex_transport, concurrency, requests),
                "1/s",
                baseline=f"bare httpx, {concurrency} at once",
                floor=floor,
            )
        )
    return tuple(found)


BENCHMARKS = _benchmarks()
