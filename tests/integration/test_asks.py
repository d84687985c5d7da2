"""Mistakes at the face of an application are typed errors where they are made; nothing is sent, nobody crashes."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any, cast

import pytest

import dspex
from dspex.actors.lm.failures import lm_error
from dspex.runtime.errors import CallTimeout, ConfigError, Error, LMInvalidRequest, UsageError
from dspex.supervisors.app.life import Life
from dspex.supervisors.app.seat import Seat
from kit.application import answering, application

CORE = ("core/config", "core/budgets", "observers/cache", "provider/local", "protection/local", "module/qa")
Do = Callable[[Any], object]


@pytest.fixture(scope="module")
def town() -> Iterator[tuple[dspex.App, Any]]:
    """One application for all mistakes."""
    with application(answering("Oslo"), "qa") as (app, server):
        yield app, server


MISTAKES: list[tuple[str, Do, type[Error], str]] = [
    ("field", lambda app: app.lm.complete("local", "x", temprature=1), UsageError, "did you mean 'temperature'"),
    ("field of a stream", lambda app: next(app.lm.stream("local", "x", modle="m")), UsageError, "mean 'model'"),
    ("range", lambda app: app.lm.complete("local", "x", temperature=-1), LMInvalidRequest, "temperature"),
    ("messages", lambda app: app.lm.complete("local", 5), UsageError, "at messages"),
    ("accounts as a text", lambda app: app.lm.complete("local", "x", accounts="run/r1"), UsageError, "at accounts"),
    ("account", lambda app: app.lm.complete("local", "x", accounts=[5]), UsageError, "got 5 in it"),
    ("on_limit", lambda app: app.lm.complete("local", "x", on_limit="fial"), UsageError, "did you mean 'fail'"),
    ("user", lambda app: app.lm.complete("local", "x", user=5), UsageError, "at user"),
    ("timeout", lambda app: app.lm.complete("local", "x", timeout="5"), UsageError, "at timeout"),
    ("function", lambda app: app.protection.run("local", 5), UsageError, "expected a function"),
    ("tokens", lambda app: app.protection.run("local", int, tokens=-1), UsageError, "at tokens"),
    ("seconds", lambda app: app.protection.run("local", int, timeout="5"), UsageError, "at timeout"),
    ("wait or fail", lambda app: app.protection.run("local", int, on_limit="no"), UsageError, "at on_limit"),
    ("budget", lambda app: app.budgets.set("run/r", 5), UsageError, "a Budget or None"),
    ("route", lambda app: app.configure_route("r", ["local"]), ConfigError, "each target"),
    ("demand", lambda app: app.module("qa").options(max_demand=0), ConfigError, "at max_demand"),
]


@pytest.mark.parametrize(("do", "error", "said"), [row[1:] for row in MISTAKES], ids=[row[0] for row in MISTAKES])
def test_a_mistake_is_a_typed_error(town: tuple[dspex.App, Any], do: Do, error: type[Error], said: str) -> None:
    """What was expected, what came and where; no request, and every actor is the one it was."""
    app, server = town
    with pytest.raises(error, match=said):
        do(app)
    assert server.requests == []
    entries = [app.entry(name) for name in CORE]
    assert [(entry.state, entry.incarnation) for entry in entries if entry] == [("running", 1)] * len(CORE)


def test_a_coroutine_function_needs_the_awaitable_view(town: tuple[dspex.App, Any]) -> None:
    """In plain code it would never run; the awaitable view awaits it."""
    app, _ = town

    async def work() -> int:
        return 42

    with pytest.raises(UsageError, match="await"):
        _ = app.protection.run("local", work)
    assert asyncio.run(app.aio.protection.run("local", work)) == 42


def test_who_gives_up_waiting_for_room_holds_none(town: tuple[dspex.App, Any]) -> None:
    """Cancelled while it waits, timed out, or refused: nothing is held, and nothing speaks against the provider."""
    app, _ = town
    app.protection.configure("local", rate_limit={"limit": "none", "concurrency": 1}, failure_threshold=1)

    async def run() -> None:
        protection, free = app.aio.protection, asyncio.Event()
        first = asyncio.create_task(protection.run("local", free.wait))
        while (await protection.status("local")).in_flight == 0:
            pass
        second = asyncio.create_task(protection.run("local", free.wait))
        while (await protection.status("local")).waiting == 0:
            pass
        second.cancel()
        with pytest.raises(asyncio.CancelledError):
            await second
        with pytest.raises((dspex.errors.LMRateLimited, TimeoutError)):
            await protection.run("local", free.wait, timeout=0.05)
        with pytest.raises(dspex.errors.LMRateLimited):
            await protection.run("local", free.wait, on_limit="fail")
        while (await protection.status("local")).waiting:
            pass
        free.set()
        assert await first
        report = await protection.status("local")
        assert (report.in_flight, report.waiting, report.breaker.state) == (0, 0, "closed")

    asyncio.run(run())
    app.protection.configure("local", rate_limit=None, failure_threshold=5)


@pytest.mark.parametrize(
    ("taken", "error", "failure"),
    [
        (False, CallTimeout("too late"), "cancelled"),
        (False, KeyboardInterrupt(), "cancelled"),
        (True, None, None),
        (True, TimeoutError(), "timeout"),
        (True, ConnectionResetError(), "connection"),
        (True, ZeroDivisionError(), "server"),
        (True, lm_error("quota", "no money"), "quota"),
        (True, KeyboardInterrupt(), "cancelled"),
    ],
)
def test_how_a_seat_is_settled(
    town: tuple[dspex.App, Any],
    monkeypatch: pytest.MonkeyPatch,
    taken: bool,
    error: BaseException | None,
    failure: str | None,
) -> None:
    """By the failure's row; who never learnt of its admission says nothing against the provider."""
    engine, told = town[0].engine, list[Any]()
    monkeypatch.setattr(engine, "cast", lambda target, message: told.append((target, message.failure)))
    seat = Seat(cast("Life", SimpleNamespace(engine=engine)), "local", None, 0, 5.0, None)
    with contextlib.ExitStack() as stack:
        if error is not None:
            stack.enter_context(pytest.raises(type(error)))
        with seat:
            seat.taken = taken
            if error is not None:
                raise error
    assert told == [("protection/local", failure)]


def test_the_awaitable_view_refuses_the_same(town: tuple[dspex.App, Any]) -> None:
    """Of the checks there is one."""
    app, server = town

    async def run() -> None:
        with pytest.raises(UsageError, match="at accounts"):
            await app.aio.lm.complete("local", "x", accounts="run/r1")
        with pytest.raises(UsageError, match="did you mean 'model'"):
            await anext(app.aio.lm.stream("local", "x", modle="m"))

    asyncio.run(run())
    assert server.requests == []


def test_what_users_need_is_at_the_top() -> None:
    """Errors by name, the conversation, limits and budgets, and stages."""
    assert issubclass(dspex.errors.LMRateLimited, dspex.Error)
    assert dspex.Message("user", "Hi").role == "user"
    assert dspex.Budget(requests=3).requests == 3
    assert dspex.RateLimit(limit=3).limit == 3
    assert issubclass(dspex.ProducerConsumer, dspex.GenServer)
    assert callable(dspex.stream)
