"""Storms of 429, clocks that jump, keys that change, callers that give up: over real sockets, many callers at once."""

from __future__ import annotations

import asyncio
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

import dspex
from dspex.actors.protection.messages import ProtectionReport, ProtectionStatus
from dspex.runtime.errors import LMAuthError, LMCircuitOpen, LMRateLimited, LMServerError
from kit.application import IN_MEMORY, Watch
from kit.fire import MODES, QUICK, Fire, Latest, Mode, error_body, fire, pieces, whole
from kit.http_server import Exchange, HttpServer
from kit.promptness import prompt, tried_again

modes = pytest.mark.parametrize("mode", MODES)
CALLERS = 40
ASKED = 0.4
TICK = 0.005
"""What a clock's resolution may make of a time."""


@pytest.fixture(scope="module")
def burning() -> Iterator[Fire]:
    """One application for the tests that share one."""
    with fire(rng=Latest()) as made:
        yield made


def answer(ex: Exchange) -> None:
    """A whole answer, or one in pieces."""
    if ex.request.json().get("stream"):
        ex.head()
        for part in pieces("openai", "Hello ", "there"):
            ex.chunk(part)
        ex.chunk(b"")
    else:
        ex.reply(200, whole("openai"))


class Storm:
    """A server that refuses the first wave, all at once when all of it is there, and notes who comes when.

    Args:
        size: of the wave.
        asked: seconds after which the refused may come again.

    Attributes:
        refused: when each question was refused, if it was.
        later: when each question came that was answered.
    """

    def __init__(self, size: int = CALLERS, asked: float = ASKED) -> None:
        self._wave = threading.Barrier(size)
        self._lock = threading.Lock()
        self._left = size
        self._asked = asked
        self.refused: dict[str, float] = {}
        self.later: dict[str, float] = {}

    def __call__(self, ex: Exchange) -> None:
        """Refuse, or answer."""
        question: str = ex.request.json()["messages"][0]["content"]
        with self._lock:
            self._left -= 1
            late = self._left < 0
            if late:
                self.later[question] = time.monotonic()
        if late:
            answer(ex)
            return
        self._wave.wait(10)
        self.refused[question] = time.monotonic()
        headers = {"retry-after-ms": f"{self._asked * 1000:g}"}
        ex.reply(429, error_body("openai", code="rate_limit_exceeded"), headers=headers)


@modes
def test_a_storm(burning: Fire, mode: Mode) -> None:
    """Forty callers refused at once: each comes back once, none before the time, and all are answered."""
    storm = Storm()
    with HttpServer(storm) as server, ThreadPoolExecutor(CALLERS) as threads:
        id = burning.provider(server.url)
        found = list(threads.map(lambda number: burning.ask(id, mode, str(number)), range(CALLERS)))
        assert {one.text for one in found} == {"Hello there"}
        assert all([attempt.status for attempt in one.attempts] == [429, 200] for one in found)
        assert len(server.requests) == 2 * len(storm.later) == 2 * CALLERS
        assert all(storm.later[each] - moment >= ASKED - TICK for each, moment in storm.refused.items())
        for one in found:
            first, second = one.attempts
            assert second.waited >= ASKED - TICK
            assert first.error_code == "lm_rate_limited"
        assert burning.protection(id).breaker.failures == 0
        burning.quiet(id)


@modes
def test_whoever_comes_during_the_storm_waits_too(burning: Fire, mode: Mode) -> None:
    """A 429 to one holds back all: newcomers wait its time, or fail at once if they must not wait."""
    asked = 2.0  # there is much to do meanwhile
    storm = Storm(1, asked)
    with HttpServer(storm) as server, ThreadPoolExecutor(CALLERS) as threads:
        id = burning.provider(server.url)
        first = threads.submit(burning.ask, id, mode, "first")
        burning.until(lambda: burning.protection(id).pause_left > 0)
        with pytest.raises(LMRateLimited) as caught:
            burning.ask(id, mode, "cannot wait", on_limit="fail")
        assert 0.0 < caught.value.retry_after <= asked
        with pytest.raises(LMRateLimited):
            burning.ask(id, mode, "has no time", timeout=0.5)
        late = [threads.submit(burning.ask, id, mode, str(number)) for number in range(10)]
        assert {one.result(10).text for one in (first, *late)} == {"Hello there"}
        assert len(storm.later) == 11
        assert min(storm.later.values()) - storm.refused["first"] >= asked - TICK
        assert max(Counter(request.body for request in server.requests).values()) == 2


@modes
def test_a_server_that_wants_too_long(burning: Fire, mode: Mode) -> None:
    """Longer than the caller has, or than is ever waited: told at once, and not tried again."""
    with HttpServer(lambda ex: ex.reply(429, error_body("openai"), headers={"retry-after": "60"})) as server:
        several: tuple[dict[str, Any], ...] = ({}, {"retry_after_max": 10.0, "timeout": 100.0})
        for settings in several:
            id = burning.provider(server.url, **settings)
            server.requests.clear()
            with pytest.raises(LMRateLimited) as caught:
                burning.ask(id, mode, timeout=90.0 if settings else 5.0)
            assert caught.value.retry_after == 60.0
            assert len(server.requests) == 1


class Jumping:
    """A clock whose wall time jumps when told.

    Attributes:
        by: seconds that the wall clock is wrong.
    """

    def __init__(self) -> None:
        self.by = 0.0

    def monotonic(self) -> float:
        """Never jumps."""
        return time.monotonic()

    def time(self) -> float:
        """Jumps."""
        return time.time() + self.by


DAY = 86_400.0


@pytest.mark.parametrize("jump", [DAY, -DAY, 365 * DAY])
def test_the_wall_clock_jumps(jump: float) -> None:
    """Breaker, limits and deadlines go by a clock that does not: what was closed stays closed, and no longer."""
    clock = Jumping()
    down = threading.Event()
    down.set()

    def script(ex: Exchange) -> None:
        if down.is_set():
            ex.reply(500, error_body("openai"))
        else:
            answer(ex)

    with fire(clock=clock) as burning, HttpServer(script) as server:
        id = burning.provider(server.url, retry_attempts=1, failure_threshold=1, recovery_time=1.0)
        window = {"limit": 2, "window": 3600.0, "on_limit": "fail"}
        limited = burning.provider(server.url, retry_attempts=1, failure_threshold=0, rate_limit=window)
        for _ in range(2):
            with pytest.raises(LMServerError):
                burning.ask(limited)
        began = time.monotonic()
        with pytest.raises(LMServerError):
            burning.ask(id)
        clock.by = jump
        with pytest.raises(LMCircuitOpen) as refused:
            burning.ask(id)
        assert 0.0 < refused.value.retry_after <= 1.0
        with pytest.raises(LMRateLimited):
            burning.ask(limited)
        down.clear()
        burning.until(lambda: burning.protection(id).breaker.next_probe in (None, 0.0))
        assert time.monotonic() - began >= 1.0
        assert burning.ask(id).text == "Hello there"
        # A hung server meets its deadline in real seconds, neither at once nor never.
        server.script = Exchange.hang
        began = time.monotonic()
        with pytest.raises(dspex.Error):
            burning.ask(id, timeout=0.3)
        assert time.monotonic() - began > 0.2


@modes
def test_a_key_is_rotated_live(burning: Fire, mode: Mode) -> None:
    """The old key is refused and closes the gate; the new one opens it at once; nobody restarts."""
    valid = ["sk-old-0123456789"]

    def script(ex: Exchange) -> None:
        if ex.request.headers["authorization"] == f"Bearer {valid[0]}":
            answer(ex)
        else:
            ex.reply(401, error_body("openai", "Incorrect API key provided", code="invalid_api_key"))

    with HttpServer(script) as server:
        id = burning.provider(server.url, api_key="sk-old-0123456789")
        assert burning.ask(id, mode).text
        valid[0] = "sk-new-0123456789"
        for _ in range(2):  # the second is refused by our own gate
            with pytest.raises(LMAuthError):
                burning.ask(id, mode)
        assert len(server.requests) == 2
        watch = Watch(burning.app)
        before = watch.incarnation(f"provider/{id}")
        burning.app.update_setting(("ai", "providers", id, "api_key"), "sk-new-0123456789")
        burning.until(lambda: all(gate.state == "open" for gate in burning.protection(id).gates))
        assert burning.ask(id, mode).text
        assert watch.incarnation(f"provider/{id}") == before


def test_a_key_in_the_environment_is_rotated_live(burning: Fire, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is read with each request."""
    with HttpServer(answer) as server:
        monkeypatch.setenv("FIRE_KEY", "sk-old-0123456789")
        id = burning.provider(server.url, api_key={"system": "FIRE_KEY"})
        burning.ask(id)
        monkeypatch.setenv("FIRE_KEY", "sk-new-0123456789")
        for mode in MODES:
            burning.ask(id, mode)
        assert [request.headers["authorization"] for request in server.requests] == [
            "Bearer sk-old-0123456789",
            "Bearer sk-new-0123456789",
            "Bearer sk-new-0123456789",
        ]


def test_a_key_rotated_under_load(burning: Fire) -> None:
    """While many ask, the key changes ten times: every request carries one that was set, and all are answered."""
    with HttpServer(answer) as server, ThreadPoolExecutor(8) as threads:
        id = burning.provider(server.url, api_key="sk-0-0123456789")
        over = threading.Event()

        def load(number: int) -> int:
            count = 0
            while not over.is_set():
                assert burning.ask(id, MODES[number % 2]).text == "Hello there"
                count += 1
            return count

        workers = [threads.submit(load, number) for number in range(8)]
        for number in range(1, 11):
            key = f"sk-{number}-0123456789"
            burning.app.update_setting(("ai", "providers", id, "api_key"), key)
            burning.until(lambda: server.requests[-1].headers["authorization"] == f"Bearer {key}")  # noqa: B023
        over.set()
        assert sum(worker.result(5) for worker in workers) == len(server.requests)


async def protection(app: dspex.AsyncApp, check: Callable[[ProtectionReport], bool]) -> ProtectionReport:
    """Ask the provider's protection how it is, until that is so."""
    async with asyncio.timeout(5):
        while True:
            report: ProtectionReport = await app.call("protection/p", ProtectionStatus())
            if check(report):
                return report


@pytest.mark.parametrize("where", ["head", "body", "stream", "queue", "pause"])
@tried_again
def test_a_caller_that_gives_up_ends_the_request_within_50_ms(where: str) -> None:
    """At whatever stage: the connection is closed, the place in the queue is free, and nothing more is sent."""

    def script(ex: Exchange) -> None:
        if where == "pause":
            ex.reply(500, error_body("openai"), headers={"retry-after": "5"})
            return
        if where == "body":
            ex.reply(200, b"{", length=100)
        elif where == "stream":
            ex.head()
            ex.chunk(pieces("openai", "x")[0])
        ex.hang()

    async def ask(app: dspex.AsyncApp) -> None:
        if where == "stream":
            async with app.lm.stream("p", "Hi") as stream:
                async for _ in stream:
                    pass
        else:
            await app.lm.complete("p", "Hi")

    async def run(server: HttpServer) -> None:
        limits = {"limit": 10, "concurrency": 1} if where == "queue" else None
        settings = {**QUICK, "kind": "openai", "base_url": server.url, "rate_limit": limits}
        config = {**IN_MEMORY, "ai": {"providers": {"p": settings}, "caching": {"enabled": False}}}
        async with dspex.astart(config=config) as app:
            task = asyncio.ensure_future(ask(app))
            assert await asyncio.to_thread(server.arrived.wait, 5)
            last = task
            if where == "queue":
                last = asyncio.ensure_future(ask(app))
                await protection(app, lambda report: report.waiting == 1)
            if where == "pause":
                await protection(app, lambda report: report.in_flight == 0)
            last.cancel()
            left = time.monotonic()
            with pytest.raises(asyncio.CancelledError):
                await last
            if where not in ("queue", "pause"):
                assert await asyncio.to_thread(server.client_closed.wait, 5)
                prompt(server.closed_at - left, 0.05)
            report = await protection(app, lambda report: (report.waiting, report.in_flight) == (0, where == "queue"))
            prompt(time.monotonic() - left, 0.1)
            assert report.breaker.failures == (where == "pause")
            assert len(server.requests) == 1
            task.cancel()

    with HttpServer(script) as server:
        asyncio.run(run(server))
