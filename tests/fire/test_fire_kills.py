"""Actors killed under fire: at each stage of a call and of a stream, and at random under load."""

from __future__ import annotations

import contextlib
import os
import random
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

import dspex
from dspex import ChildSpec, Supervisor
from dspex.actors.protection.actor import ProtectionActor
from dspex.actors.protection.memory import ProtectionMemories
from dspex.actors.providers.actor import ProviderActor
from dspex.runtime.errors import ApplicationDown, LMCircuitOpen, LMRateLimited
from dspex.supervisors.app.tree import declared
from dspex.supervisors.dynamic_supervisor import DynamicSupervisor
from kit.application import Quick, Watch
from kit.fire import MODES, Fire, Mode, error_body, fire, pieces, whole
from kit.http_server import Exchange, HttpServer, Script

KILLS = int(os.environ.get("FIRE", "30"))
modes = pytest.mark.parametrize("mode", MODES)


def sturdy(id: str, memories: ProtectionMemories) -> ChildSpec:
    """The supervisor of a provider as the application makes it, but that it never gives up."""
    spec = declared_spec(id, memories)
    children = [
        ChildSpec("protection", ProtectionActor, (id,), {"memory": memories.of(id)}, name=f"protection/{id}"),
        ChildSpec("provider", ProviderActor, (id,), name=f"provider/{id}"),
        DynamicSupervisor.child_spec("streams", name=f"streams/{id}"),
    ]
    made = Supervisor.child_spec(
        spec.id, children, strategy="rest_for_one", restart=spec.restart, name=spec.name, max_restarts=100_000
    )
    assert (made.id, made.name, made.restart) == (spec.id, spec.name, spec.restart)
    return made


declared_spec = declared.provider_spec


@pytest.fixture
def burning(monkeypatch: pytest.MonkeyPatch) -> Iterator[Fire]:
    """An application whose providers may be killed as often as a test likes."""
    monkeypatch.setattr(declared, "provider_spec", sturdy)
    monkeypatch.setattr("dspex.supervisors.app.awaitable.provider_spec", sturdy)
    with fire(rng=Quick(1)) as made:
        yield made


def answer(ex: Exchange) -> None:
    """A whole answer, or one in pieces, that repeats the question."""
    text: str = ex.request.json()["messages"][0]["content"]
    if ex.request.json().get("stream"):
        ex.head()
        for part in pieces("openai", *(f"{text} " for _ in range(5))):
            ex.chunk(part)
        ex.chunk(b"")
    else:
        ex.reply(200, whole("openai", text))


def killed(burning: Fire, id: str, victim: str = "provider") -> None:
    """Kill an actor, and wait until it is back."""
    watch, name = Watch(burning.app), f"{victim}/{id}"
    before = watch.incarnation(name)
    burning.app.kill(name)
    watch.until(lambda: watch.running(name, before) and watch.running(f"streams/{id}"))


# -- at each stage ---------------------------------------------------------------------------------


class Stage:
    """A place on a request's way where it stays until the provider is killed.

    Args:
        settings: of the provider.
        script: what the server does with the first request.
        reached: tells that the request is there.
    """

    def __init__(self, script: Script, *, after_read: int = 0, **settings: Any) -> None:
        self.script, self.after_read, self.settings = script, after_read, settings
        self.reached = threading.Event()


def begin(ex: Exchange, count: int) -> None:
    """The head of a stream and so many of its pieces."""
    ex.head()
    for part in pieces("openai", "one ", "two ", "three ")[:count]:
        ex.chunk(part)


def half_an_answer(ex: Exchange) -> None:
    """The head and the first bytes of a whole answer."""
    ex.reply(200, b'{"choices":[{"mess', length=500)


STAGES: dict[str, tuple[Mode, Callable[[], Stage]]] = {
    "the server does not answer": ("whole", lambda: Stage(lambda ex: None)),
    "half an answer is there": ("whole", lambda: Stage(half_an_answer)),
    "it pauses before the next attempt": (
        "whole",
        lambda: Stage(lambda ex: ex.reply(500), retry_base_delay=3600.0, retry_max_delay=3600.0),
    ),
    "the stream's head is not there": ("stream", lambda: Stage(lambda ex: None)),
    "the stream's first text is not there": ("stream", lambda: Stage(lambda ex: begin(ex, 1))),
    "the stream pauses before the next attempt": (
        "stream",
        lambda: Stage(lambda ex: ex.reply(500), retry_base_delay=3600.0, retry_max_delay=3600.0),
    ),
    "the stream waits for its next text": ("stream", lambda: Stage(lambda ex: begin(ex, 3), after_read=2)),
}


@pytest.mark.parametrize("name", STAGES)
def test_killed_at_a_stage(burning: Fire, name: str) -> None:
    """The caller hears of it, the connection is closed, everything is given back, the breaker did not move."""
    mode, make = STAGES[name]
    stage = make()

    def script(ex: Exchange) -> None:
        if len(server.requests) > 1:
            answer(ex)
            return
        stage.script(ex)
        if not stage.after_read:
            stage.reached.set()
        if ex.closed or "pauses" in name:
            return
        ex.hang()

    with HttpServer(script) as server, ThreadPoolExecutor(1) as threads:
        id = burning.provider(server.url, failure_threshold=1, timeout=30.0, **stage.settings)
        caller = threads.submit(ask, burning, id, mode, stage)
        assert stage.reached.wait(5)
        if "pauses" in name:
            burning.until(lambda: burning.protection(id).in_flight == 0)
        protection = Watch(burning.app).incarnation(f"protection/{id}")
        state = burning.protection(id).breaker.state
        killed(burning, id)
        with pytest.raises(dspex.Error):
            caller.result(5)
        if "pauses" not in name:
            assert server.client_closed.wait(5)
        burning.quiet(id)
        assert Watch(burning.app).incarnation(f"protection/{id}") == protection
        assert burning.protection(id).breaker.state == state
        if state == "closed":
            assert burning.ask(id, mode, "again").text.startswith("again")


def ask(burning: Fire, id: str, mode: Mode, stage: Stage) -> None:
    """Ask, and tell when so many pieces were read."""
    if mode == "whole":
        burning.ask(id, mode)
        return
    with burning.app.lm.stream(id, "Hi") as stream:
        for number, _ in enumerate(stream, 1):
            if number == stage.after_read:
                stage.reached.set()


@modes
def test_killed_while_it_waits_for_room(burning: Fire, mode: Mode) -> None:
    """A request in the queue of the limits: it is gone from there, its caller is told, and nothing was sent."""
    with HttpServer(Exchange.hang) as server, ThreadPoolExecutor(2) as threads:
        limits = {"limit": 10, "concurrency": 1, "on_limit": "wait"}
        id = burning.provider(server.url, rate_limit=limits)
        first = threads.submit(burning.ask, id)
        assert server.arrived.wait(5)
        second = threads.submit(burning.ask, id, mode)
        burning.until(lambda: burning.protection(id).waiting == 1)
        killed(burning, id)
        for caller in (first, second):
            with pytest.raises(dspex.Error):
                caller.result(5)
        burning.quiet(id)
        assert len(server.requests) == 1


@pytest.mark.parametrize("sent", [0, 1, 2], ids=["no head", "no text", "some text"])
def test_many_streams_of_a_killed_provider_are_no_failures_of_the_server(burning: Fire, sent: int) -> None:
    """Their connections are closed by us: that says nothing of the provider, and the breaker stays closed."""
    reading, count = threading.Semaphore(0), 20

    def read(burning: Fire, id: str) -> None:
        with burning.app.lm.stream(id, "Hi") as stream:
            for _ in stream:
                reading.release()

    def script(ex: Exchange) -> None:
        if sent:
            begin(ex, sent)
        if sent < 2:
            reading.release()
        ex.hang()

    with HttpServer(script) as server, ThreadPoolExecutor(count) as threads:
        id = burning.provider(server.url, failure_threshold=1)
        readers = [threads.submit(read, burning, id) for _ in range(count)]
        for _ in readers:
            assert reading.acquire(timeout=5)
        killed(burning, id)
        for reader in readers:
            with pytest.raises(dspex.Error):
                reader.result(5)
        burning.quiet(id)
        assert burning.protection(id).breaker.state == "closed"
        assert burning.protection(id).breaker.failures == 0


# -- what survives ---------------------------------------------------------------------------------


@modes
def test_an_open_breaker_survives(burning: Fire, mode: Mode) -> None:
    """A restart of the provider is no way to hammer one that is down."""
    with HttpServer(lambda ex: ex.reply(500, error_body("openai"))) as server:
        id = burning.provider(server.url, failure_threshold=2, retry_attempts=1, recovery_time=60.0)
        for _ in range(2):
            with pytest.raises(dspex.Error):
                burning.ask(id)
        for _ in range(3):
            killed(burning, id)
            with pytest.raises(LMCircuitOpen):
                burning.ask(id, mode)
        assert len(server.requests) == 2


@modes
def test_limits_survive(burning: Fire, mode: Mode) -> None:
    """A window that is used up stays so."""
    with HttpServer(answer) as server:
        id = burning.provider(server.url, rate_limit={"limit": 2, "on_limit": "fail"})
        for _ in range(2):
            burning.ask(id)
        killed(burning, id)
        with pytest.raises(LMRateLimited) as caught:
            burning.ask(id, mode)
        assert caught.value.facts["local"]
        assert len(server.requests) == 2


# -- at random under load --------------------------------------------------------------------------


@dataclass
class Load:
    """Callers that ask all the time, whole and in pieces, each question once; and how each ended."""

    burning: Fire
    id: str
    over: threading.Event = field(default_factory=threading.Event)
    answers: Counter[str] = field(default_factory=Counter[str])
    errors: Counter[str] = field(default_factory=Counter[str])
    asked: int = 0

    @contextmanager
    def running(self, workers: int = 8) -> Iterator[None]:
        """The load lasts as long as the block."""
        with ThreadPoolExecutor(workers) as pool:
            futures: list[Future[None]] = [pool.submit(self._work, number) for number in range(workers)]
            try:
                yield
            finally:
                self.over.set()
            for future in futures:
                future.result(20)

    def _work(self, worker: int) -> None:
        mode = MODES[worker % 2]
        number = 0
        while not self.over.is_set():
            number += 1
            text = f"{worker}-{number}"
            self.asked += 1
            try:
                found = self.burning.ask(self.id, mode, text, timeout=5.0).text
            except dspex.Error as error:
                self.errors[type(error).__name__] += 1
            else:
                assert found == (text if mode == "whole" else f"{text} " * 5)
                self.answers[mode] += 1


@pytest.mark.timeout(120)
def test_random_kills_under_load(burning: Fire) -> None:
    """Each caller gets one answer or one typed error; no socket, admission or reservation is left; nobody pays twice.

    The provider is killed 30 times, or as often as ``FIRE`` says.
    """
    rng, served, came = random.Random(7), Counter[str](), threading.Condition()

    def script(ex: Exchange) -> None:
        text: str = ex.request.json()["messages"][0]["content"]
        with came:
            served[text] += 1
            came.notify_all()
            fate = rng.random()
        if fate < 0.1:
            ex.reply(500, error_body("openai"))
        elif fate < 0.15:
            ex.reset()
        else:
            ex.server.stopping.wait(fate / 100)
            answer(ex)

    with HttpServer(script) as server:
        id = burning.provider(server.url, failure_threshold=0, rate_limit={"limit": 100_000, "concurrency": 6})
        before = sockets()
        protection, watch = Watch(burning.app).incarnation(f"protection/{id}"), Watch(burning.app)
        load = Load(burning, id)
        with load.running():
            for _ in range(KILLS):
                enough = len(served) + rng.randrange(40)
                with came:
                    assert came.wait_for(lambda: len(served) > enough, 10)  # noqa: B023
                killed(burning, id, rng.choice(("provider", "provider", "streams")))
        burning.quiet(id)
        assert watch.incarnation(f"protection/{id}") == protection
        assert load.answers["whole"] > 0 < load.answers["stream"]
        assert ApplicationDown.__name__ not in load.errors
        assert load.asked == load.answers.total() + load.errors.total()
        assert max(served.values()) <= 3  # attempts of one call, and never of two
        spent = burning.budget(f"provider/{id}").spent
        assert load.answers.total() <= spent.requests <= load.asked
        (requests,) = [bucket for bucket in burning.protection(id).buckets if bucket.limit == "requests"]
        assert len(served) <= requests.used <= burning.protection(id).admitted
        burning.app.remove_provider(id)
        burning.until(lambda: sockets() <= before)
        print(f"{KILLS} kills: {dict(load.answers)} answered, {dict(load.errors)}, {server.connections} connections")


def sockets() -> int:
    """How many sockets this process has open; those of the server, too."""
    count = 0
    for file in Path("/proc/self/fd").iterdir():
        with contextlib.suppress(OSError):  # closed meanwhile
            count += str(file.readlink()).startswith("socket:")
    return count
