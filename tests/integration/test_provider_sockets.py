"""A provider actor on real sockets: requests end with their caller, down to the connection."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import pytest

from dspex.runtime.errors import ActorDied, CallTimeout, LMError, LMProtocolError, LMServerError, LMTimeout
from kit.http_server import Exchange, HttpServer, completion
from kit.promptness import prompt, tried_again
from kit.providers import World, with_world

SOON = 0.05


async def closed_within(server: HttpServer, moment: float) -> None:
    """The server saw its client close, at most ``SOON`` after ``moment``."""
    assert await asyncio.to_thread(server.client_closed.wait, 5)
    prompt(abs(server.closed_at - moment), SOON)


async def waiting(world: World, server: HttpServer, **fields: Any) -> asyncio.Task[Any]:
    """A request that the server has and does not answer."""
    await world.provider(fake=False, base_url=server.url, **fields)
    task = asyncio.ensure_future(world.complete())
    assert await asyncio.to_thread(server.arrived.wait, 5)
    return task


def test_a_request_is_answered() -> None:
    """A completion arrives; the wire shows exactly what was asked, with the key."""

    async def run(world: World, server: HttpServer) -> None:
        await world.provider(fake=False, base_url=f"{server.url}/v1", api_key="k-123456")
        answer = await world.complete("Hello?", max_tokens=5)
        assert (answer.text, answer.usage.total_tokens) == ("Hello", 14)
        (request,) = server.requests
        assert request.path == "/v1/chat/completions"
        assert request.headers["authorization"] == "Bearer k-123456"
        assert request.json() == {"model": "m", "messages": [{"role": "user", "content": "Hello?"}], "max_tokens": 5}

    with HttpServer(lambda ex: ex.reply(200, completion())) as server:
        asyncio.run(with_world(lambda world: run(world, server)))


@tried_again
def test_the_timeout_closes_the_connection() -> None:
    """After the provider's timeout the server sees the connection close."""

    async def run(world: World, server: HttpServer) -> None:
        task = await waiting(world, server, timeout=1.0)
        with pytest.raises(LMTimeout):
            await task
        await closed_within(server, time.monotonic())

    with HttpServer(Exchange.hang) as server:
        asyncio.run(with_world(lambda world: run(world, server)))


@tried_again
def test_the_callers_deadline_closes_the_connection() -> None:
    """When the caller's time is up the server sees the connection close."""

    async def run(world: World, server: HttpServer) -> None:
        await world.provider(fake=False, base_url=server.url)
        with pytest.raises((LMTimeout, CallTimeout)):
            await world.complete(timeout=1.0)
        await closed_within(server, time.monotonic())

    with HttpServer(Exchange.hang) as server:
        asyncio.run(with_world(lambda world: run(world, server)))


@tried_again
def test_a_caller_that_gives_up_closes_the_connection() -> None:
    """When the caller cancels its call the server sees the connection close."""

    async def run(world: World, server: HttpServer) -> None:
        task = await waiting(world, server)
        task.cancel()
        cancelled = time.monotonic()
        with pytest.raises(asyncio.CancelledError):
            await task
        await closed_within(server, cancelled)

    with HttpServer(Exchange.hang) as server:
        asyncio.run(with_world(lambda world: run(world, server)))


@tried_again
def test_a_killed_provider_closes_the_connection() -> None:
    """When the actor is killed the server sees the connection close."""

    async def run(world: World, server: HttpServer) -> None:
        task = await waiting(world, server)
        entry = world.engine.names.get("provider/p")
        assert entry is not None
        killed = time.monotonic()
        assert world.engine.kill(entry.address)
        with pytest.raises(ActorDied):
            await task
        await closed_within(server, killed)

    with HttpServer(Exchange.hang) as server:
        asyncio.run(with_world(lambda world: run(world, server)))


def truncate(ex: Exchange) -> None:
    """Half an answer."""
    ex.reply(200, b'{"choices":[{"message":', length=500)
    ex.close()


@pytest.mark.parametrize(
    ("script", "expected"),
    [
        (lambda ex: ex.reply(200, b"<html>Sign in</html>", content_type="text/html"), LMProtocolError),
        (lambda ex: ex.reply(307, b"", headers={"Location": "http://elsewhere.example/"}), LMProtocolError),
        (lambda ex: ex.reply(502, b"<html>Bad gateway</html>", content_type="text/html"), LMServerError),
        (truncate, LMProtocolError),
    ],
    ids=["html", "redirect", "bad gateway", "truncated"],
)
def test_what_goes_wrong_is_typed(script: Any, expected: type[LMError]) -> None:
    """Each kind of bad answer is a typed error with status, provider and attempt, and the provider lives on."""

    async def run(world: World, server: HttpServer) -> None:
        address = await world.provider(fake=False, base_url=server.url)
        with pytest.raises(expected) as caught:
            await world.complete()
        assert caught.value.provider == "p"
        assert caught.value.attempts[0].error_code == caught.value.code
        assert world.engine.alive(address)

    with HttpServer(script) as server:
        asyncio.run(with_world(lambda world: run(world, server)))


def test_many_at_once() -> None:
    """A hundred requests at once are a hundred answers, over no more connections than allowed."""

    async def run(world: World, server: HttpServer) -> None:
        await world.provider(fake=False, base_url=server.url, max_connections=10)
        answers = await asyncio.gather(*(world.complete(str(number)) for number in range(100)))
        assert [answer.text for answer in answers] == [f"echo {number}" for number in range(100)]
        assert server.connections <= 10

    def echo(ex: Exchange) -> None:
        ex.reply(200, completion(f"echo {ex.request.json()['messages'][0]['content']}"))

    with HttpServer(echo) as server:
        asyncio.run(with_world(lambda world: run(world, server)))
