"""The standard tree survives: every actor in it killed, in turn and at random under load."""

from __future__ import annotations

import asyncio
import random
import threading
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import pytest
from conformance.virtual_loop import LoopClock, VirtualLoop

import dspex
from dspex import Prediction
from dspex.runtime.dispatcher import InlineDispatcher
from dspex.runtime.errors import ActorDied, ApplicationDown, CallError, NoProcess
from dspex.supervisors.app import names
from dspex.supervisors.app.console.picture import TreeNode
from kit.application import Add, Gate, Quick, Slow, Watch, answering, application, configuration, counter, trip
from kit.http_server import HttpServer

STANDARD = (
    names.CORE,
    names.EVENTS,
    names.CONFIG,
    names.BUDGETS,
    names.REGISTRY,
    names.PROVIDERS,
    names.PROVIDER_POOL,
    "supervisor/provider/local",
    "protection/local",
    "provider/local",
    "streams/local",
    names.PROVIDER_KEEPER,
    names.MODULES,
    names.MODULE_POOL,
    "supervisor/module/qa",
    "module/qa",
    "streams/module/qa",
    names.MODULE_KEEPER,
    names.RUNS,
    names.RUN_POOL,
    names.RUN_KEEPER,
    names.OBSERVERS,
    names.TELEMETRY,
    names.CACHE,
    names.CHILDREN,
    "demo/counter",
)
"""All of the tree below its root, in start order."""

PROVIDER = ("supervisor/provider/local", "protection/local", "provider/local", "streams/local")
MODULE = ("supervisor/module/qa", "module/qa", "streams/module/qa")


def since(name: str) -> tuple[str, ...]:
    """This one and everybody right of it."""
    return STANDARD[STANDARD.index(name) :]


RESTARTED_WITH = {
    names.CORE: STANDARD,
    names.EVENTS: (names.EVENTS, names.CONFIG, names.BUDGETS, names.REGISTRY),
    names.CONFIG: (names.CONFIG, names.BUDGETS, names.REGISTRY),
    names.BUDGETS: (names.BUDGETS, names.REGISTRY),
    names.PROVIDERS: since(names.PROVIDERS),
    names.PROVIDER_POOL: (names.PROVIDER_POOL, names.PROVIDER_KEEPER, *PROVIDER),
    PROVIDER[0]: PROVIDER,
    PROVIDER[1]: PROVIDER[1:],
    PROVIDER[2]: PROVIDER[2:],
    names.MODULES: since(names.MODULES),
    names.MODULE_POOL: (names.MODULE_POOL, names.MODULE_KEEPER, *MODULE),
    MODULE[0]: MODULE,
    MODULE[1]: MODULE[1:],
    names.RUNS: since(names.RUNS),
    names.RUN_POOL: (names.RUN_POOL, names.RUN_KEEPER),
    names.OBSERVERS: since(names.OBSERVERS),
    names.CHILDREN: (names.CHILDREN, "demo/counter"),
}
"""Who comes back as a new incarnation when this one is killed, by the strategies; who is not named, alone."""


def labels(node: TreeNode) -> list[str]:
    """Every actor of the tree, parents before children."""
    return [node.label, *(label for child in node.children for label in labels(child))]


def nobody_else(app: dspex.App) -> None:
    """The tree is exactly the standard one, each actor in it alive."""
    assert set(labels(app.tree_data())) == {names.APPLICATION, *STANDARD}


def incarnations(watch: Watch) -> dict[str, int]:
    """Of each name."""
    return {name: watch.incarnation(name) for name in STANDARD}


def test_the_standard_tree_is_what_the_tests_think() -> None:
    """Names, nesting and order are as documented."""
    with application(None, "qa", children=[counter()]) as (app, _):
        assert labels(app.tree_data()) == [names.APPLICATION, *STANDARD]


@pytest.mark.parametrize("victim", STANDARD)
def test_a_killed_actor_comes_back_as_its_strategy_says(victim: str) -> None:
    """Who must restart with it does, everybody else goes on as they were, and all of it answers."""
    with application(None, "qa", children=[counter()]) as (app, _):
        id = app.events.record("before")
        watch, expected = Watch(app), RESTARTED_WITH.get(victim, (victim,))
        before = incarnations(watch)
        app.kill(victim)
        watch.until(lambda: all(watch.running(name, before[name]) for name in expected))
        watch.until(lambda: all(watch.running(name) for name in STANDARD))
        assert incarnations(watch) == {name: n + (name in expected) for name, n in before.items()}
        nobody_else(app)
        assert app.health().ok
        assert app.module("qa")(question="?").answer == "Shakespeare"
        assert app.call("demo/counter", Add()) >= 1
        assert app.events.get(id).type == "before"
        assert app.setting("modules", "qa", "provider") == "local"
        assert app.registry.wait_for("module/qa").metadata["provider"] == "local"


def test_what_was_declared_at_run_time_comes_back_too() -> None:
    """Providers and modules that the configuration file did not name survive the death of the core."""
    with HttpServer(answering()) as server, dspex.start(config={"events": {"in_memory": True}}) as app:
        app.configure_provider("late", kind="openai", base_url=f"{server.url}/v1", default_model="m", api_key="sk-x")
        qa = app.start_module("qa2", "question -> answer", provider="late")
        app.update_setting(("ai", "providers", "late", "timeout"), 9.0)
        watch = Watch(app)
        app.kill(names.EVENTS)
        app.kill(names.CORE)
        watch.until(lambda: watch.running("module/qa2", 1) and watch.running("provider/late", 1))
        assert qa(question="?").answer == "Shakespeare"
        assert server.requests[-1].headers["authorization"] == "Bearer sk-x"
        assert app.setting("ai", "providers", "late", "timeout") == 9.0


class Load:
    """Eight threads that ask and append all the time, and write down how each call ended.

    Args:
        app: whom.
    """

    def __init__(self, app: dspex.App) -> None:
        self._app = app
        self._over = threading.Event()
        self.answers = 0
        self.errors: list[BaseException] = []
        self.acknowledged: list[str] = []

    @contextmanager
    def running(self) -> Any:
        """The load lasts as long as the block."""
        with ThreadPoolExecutor(8) as pool:
            workers: list[Future[None]] = [pool.submit(self._ask if n % 2 else self._append) for n in range(8)]
            try:
                yield
            finally:
                self._over.set()
            for worker in workers:
                worker.result(20)

    def _ask(self) -> None:
        qa = self._app.module("qa").options(timeout=5.0)
        while not self._over.is_set():
            try:
                answer = qa(question="?")
            except dspex.Error as error:
                self.errors.append(error)
            else:
                assert isinstance(answer, Prediction)
                self.answers += 1

    def _append(self) -> None:
        while not self._over.is_set():
            try:
                self.acknowledged.append(self._app.events.record("load"))
            except dspex.Error as error:
                self.errors.append(error)


@pytest.mark.timeout(60)
@pytest.mark.parametrize("seed", [1])
def test_two_hundred_random_kills_under_load(seed: int, tmp_path_factory: pytest.TempPathFactory) -> None:
    """Every call ends with an answer or a typed error, what was acknowledged is there, and all runs again."""
    rng = random.Random(seed)
    events = {"path": str(tmp_path_factory.mktemp("events") / "events.db")}
    config = {"events": events}
    with application(None, "qa", config=config, rng=Quick(seed), children=[counter()]) as (app, _):
        watch, load = Watch(app), Load(app)
        with load.running():
            for _ in range(200):
                victim = rng.choice(STANDARD)
                before = watch.incarnation(victim)
                app.kill(victim)
                if rng.random() < 0.5:  # else the next one dies while this one comes back
                    watch.until(lambda: watch.running(victim, before))  # noqa: B023
            watch.until(lambda: all(watch.running(name) for name in STANDARD))
        assert app.health().ok
        assert app.module("qa")(question="?").answer == "Shakespeare"
        assert load.answers > 0
        assert all(isinstance(error, CallError | dspex.Error) for error in load.errors)
        assert not any(isinstance(error, ApplicationDown) for error in load.errors)
        kept = {event.id for event in everything(app)}
        assert len(load.acknowledged) > 50
        assert set(load.acknowledged) <= kept
        nobody_else(app)


def everything(app: dspex.App) -> list[Any]:
    """All events of the load, page by page."""
    found: list[Any] = []
    cursor: int | None = None
    while True:
        page = app.events.query(type="load", order="oldest", limit=1000, cursor=cursor)
        found += page.events
        if not page.more:
            return found
        cursor = page.cursor


def test_a_module_that_crashes_too_often_is_dead_and_the_rest_goes_on() -> None:
    """Its supervisor gives up, its name is dead with its reason, calls to it fail typed; all others answer."""
    with application(None, "qa", "bad", rng=Slow(), children=[counter()]) as (app, _):
        before = incarnations(Watch(app))
        trip(app, "module/bad")
        entry = app.entry("module/bad")
        assert entry is not None
        assert (entry.state, entry.reason) == ("dead", "killed")
        with pytest.raises(NoProcess, match="killed"):
            app.module("bad")(question="?")
        assert app.module("qa")(question="?").answer == "Shakespeare"
        assert app.health().status == "degraded"
        assert incarnations(Watch(app)) == before


def test_a_module_made_to_crash_a_hundred_times_ends_dead() -> None:
    """The keeper tries again, ever more slowly; after a hundred crashes the name is dead, and the others answered."""

    async def run(server: HttpServer) -> None:
        loop = asyncio.get_running_loop()
        app = await dspex.astart(
            config=configuration(server, "qa", "bad"),
            children=[counter()],
            clock=LoopClock(loop),
            rng=random.Random(1),
            executor=InlineDispatcher(),
        )
        crashes, answers = 0, 0
        while crashes < 100:
            try:
                await app.registry.wait_for("module/bad", timeout=60.0)
            except CallError:
                continue
            app.kill("module/bad")
            crashes += 1
            answers += await app.call("demo/counter", Add()) > 0
            assert (await app.registry.count(kind="provider")) == 1
        bad, good = app.entry("module/bad"), app.entry("module/qa")
        assert bad is not None
        assert good is not None
        assert bad.incarnation == 100
        assert (bad.state, bad.reason) == ("dead", "killed")
        assert answers == 100
        assert (good.state, good.incarnation) == ("running", 1)
        with pytest.raises(NoProcess, match="killed"):
            await app.module("bad")(question="?")
        await app.registry.wait_for("module/bad", timeout=60.0)  # it is tried again nevertheless
        await app.stop()

    loop = VirtualLoop()
    try:
        with HttpServer(answering()) as server:
            loop.run_until_complete(run(server))
    finally:
        loop.close()


def test_a_part_that_cannot_come_back_ends_the_application_with_its_reason(tmp_path_factory: Any) -> None:
    """The event file destroyed while it runs, the core cannot start again: the application ends, and says so."""
    path = tmp_path_factory.mktemp("events") / "events.db"
    with application(config={"events": {"path": str(path)}}) as (app, _):
        for file in path.parent.iterdir():
            file.unlink()  # not overwritten: the old store may still have it open
        path.write_bytes(b"no database" * 1000)
        app.kill(names.EVENTS)
        assert app.wait(15) == "shutdown"
        with pytest.raises(ApplicationDown):
            app.events.query()


def test_a_call_in_progress_hears_of_the_death() -> None:
    """The module killed while the model thinks, its caller is told at once, not at its deadline."""
    gate = Gate()
    with application(gate, "qa") as (app, server), ThreadPoolExecutor(1) as pool:
        answer = pool.submit(app.module("qa"), question="?")
        assert server.arrived.wait(5)
        app.kill("module/qa")
        with pytest.raises(ActorDied) as caught:
            answer.result(5)
        assert caught.value.reason == "killed"
        gate.open.set()
