"""A hosted program with workers: what it does alone it does with several, here and in processes of their own."""

from __future__ import annotations

import asyncio
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import pytest

import dspex
from dspex.actors.modules.messages import ModuleInfo, ModuleStatus, Predict
from dspex.actors.modules.program_state import PredictorState, ProgramState
from dspex.dspy import hosted_spec
from dspex.runtime.errors import (
    ActorDied,
    CallTimeout,
    ConfigError,
    LMInvalidRequest,
    NoProcess,
    RemoteError,
    SignatureError,
    StartError,
)
from kit.application import Watch
from kit.dspy_scene import Model, marked, scene
from kit.module_shapes import Shape, at_once, pids
from kit.processes import wait_reaped

LOCAL, APART = Shape(3, "local"), Shape(2, "process")
SINGS = ProgramState({"ask": PredictorState("Sing.")})
LONG = "It is Paris. " * 50

pytestmark = pytest.mark.timeout(120)


class Singer(Model):
    """Says Paris, or la if it is told to sing or, where a question is odd, was shown how; waits at a gate if asked."""

    def __init__(self) -> None:
        super().__init__(self._say)
        self.gate = threading.Event()

    def _say(self, request: dict[str, Any]) -> str:
        question = str(request["messages"][-1]["content"])
        if "wait" in question:
            self.gate.wait(20)
        sings = "Sing." in request["messages"][0]["content"] or ("odd" in question and len(request["messages"]) > 2)
        return marked(LONG if "long" in question else "la" if sings else "Paris")


class Pool:
    """An application whose module ``qa`` is a hosted program with workers."""

    def __init__(self, app: dspex.App, shape: Shape, model: Singer) -> None:
        self.app, self.shape, self.model = app, shape, model
        self.qa, self.names = app.module("qa"), shape.names("qa")

    def until(self, check: Callable[[], object]) -> None:
        """Ask again and again."""
        end = time.monotonic() + 30
        while not check():
            assert time.monotonic() < end, "it never came"

    def statuses(self) -> list[ModuleStatus]:
        """What each worker says of itself."""
        return [self.app.call(name, ModuleInfo(), timeout=10) for name in self.names]

    @contextmanager
    def held(self, count: int) -> Iterator[list[Any]]:
        """So many calls are in work within the block; behind it, their outcomes. No worker is asked meanwhile."""
        outcomes: list[Any] = []
        self.model.gate.clear()
        wanted = len(self.model.requests) + count
        asking = threading.Thread(target=lambda: outcomes.extend(at_once(self.app, ["wait"] * count)))
        asking.start()
        self.until(lambda: len(self.model.requests) == wanted)
        try:
            yield outcomes
        finally:
            self.model.gate.set()
            asking.join(20)

    def said(self, count: int) -> set[str]:
        """What so many calls at once are answered."""
        return {each.answer.split()[1] for each in at_once(self.app, ["x"] * count)}


def host(app: dspex.App, shape: Shape, factory: str = "Placed") -> None:
    """Host a program as ``module/qa``."""
    app.start_child(hosted_spec("qa", f"kit.dspy_programs:{factory}", provider="local", **shape.settings))


@contextmanager
def pooled(shape: Shape, factory: str = "Placed") -> Iterator[Pool]:
    """A pool of its own."""
    model = Singer()
    with scene(model) as app:
        host(app, shape, factory)
        yield Pool(app, shape, model)
        model.gate.set()


@pytest.fixture(scope="module", params=[LOCAL, APART], ids=lambda shape: f"{shape.workers}-{shape.placement}")
def pool(request: pytest.FixtureRequest) -> Iterator[Pool]:
    """A pool that the tests share; each leaves it as it was."""
    with pooled(request.param) as made:
        yield made


def test_calls_are_spread_evenly(pool: Pool) -> None:
    """Each worker has as many as the others; in processes, each answers from its own."""
    with pool.held(4 * pool.shape.workers) as answers:
        assert [each.running for each in pool.statuses()] == [4] * pool.shape.workers
        assert pool.qa.status().running == 4 * pool.shape.workers
    served = [int(each.answer.split()[0]) for each in answers]
    if pool.shape.placement == "local":
        assert set(served) == {os.getpid()}
    else:
        assert {each: served.count(each) for each in served} == dict.fromkeys(pids(pool.app, pool.shape), 4)


def test_streams_are_counted(pool: Pool) -> None:
    """Of as many streams as there are workers each has one; while one of them streams, calls go to the others."""
    handle = pool.qa.options(max_demand=1)
    with ExitStack() as left:
        streams = [left.enter_context(handle.stream(question="long")) for _ in pool.names]
        for stream in streams:
            next(iter(stream))
        assert [each.streams for each in pool.statuses()] == [1] * pool.shape.workers
        assert pool.qa.status().streams == pool.shape.workers
    pool.until(lambda: pool.qa.status().streams == 0)
    with handle.stream(question="long") as stream:
        next(iter(stream))
        before = pool.statuses()
        assert sum(each.streams for each in before) == 1
        for _ in range(2 * pool.shape.workers):
            pool.qa(question="x")
        for old, new in zip(before, pool.statuses(), strict=True):
            assert (new.executions == old.executions) == (old.streams == 1)
    pool.until(lambda: pool.qa.status().running == 0)


def test_a_stream_gives_the_whole(pool: Pool) -> None:
    """In pieces, from whichever worker; its end is the prediction."""
    many = [pool.qa.stream(question="long") for _ in range(2 * pool.shape.workers)]
    for stream in many:
        with stream:
            text = "".join(piece.text for piece in stream)
        assert text.split() == LONG.split() == stream.result.answer.split()[1:]


def test_what_goes_wrong_is_a_typed_error(pool: Pool) -> None:
    """Of the inputs and of time; nothing is left in work."""
    with pytest.raises(SignatureError, match="question"):
        pool.qa(questoin="x")
    pool.model.gate.clear()
    with pytest.raises(CallTimeout):
        pool.app.call("module/qa", Predict({"question": "wait"}), timeout=0.5)
    pool.model.gate.set()
    pool.until(lambda: pool.qa.status().running == 0)
    assert pool.said(1) == {"Paris"}


def test_an_update_reaches_all_and_outlives_a_worker(pool: Pool) -> None:
    """What is behind it is answered so by every worker; one that is started again goes on with it."""
    before, many, watch = pool.qa.state(), 4 * pool.shape.workers, Watch(pool.app)
    pool.qa.update(SINGS)
    assert pool.said(many) == {"la"}
    with pytest.raises(ConfigError, match="ask"):
        pool.qa.update(ProgramState({"aks": PredictorState("x")}))
    for name in pool.names:
        since = watch.incarnation(name)
        pool.app.kill(name)
        assert pool.said(1) == {"la"}  # by another one
        watch.until(lambda name=name, since=since: watch.running(name, since))  # type: ignore[misc]
    pool.until(lambda: pool.qa.status().ready == pool.shape.workers)
    assert pool.said(many) == {"la"}
    pool.qa.update(before)
    assert pool.said(many) == {"Paris"}


def test_what_is_shown_of_it_is_true(pool: Pool) -> None:
    """Status, registry, tree and health know the workers, and where they run."""
    workers, placement = pool.shape
    assert pool.said(workers) == {"Paris"}
    status, row = pool.qa.status(), pool.app.registry.lookup("module/qa")
    assert (status.module, status.workers, status.ready, status.max_concurrency) == (
        "qa",
        workers,
        workers,
        8 * workers,
    )
    assert {each.module for each in pool.statuses()} == {"qa"}
    assert row is not None
    told = [row.metadata[key] for key in ("type", "kind", "status", "workers", "ready", "placement")]
    assert told == ["module", "dspy", "ready", workers, workers, placement]
    pool.until(lambda: pool.app.registry.lookup("module/qa").metadata["executions"] == pool.qa.status().executions)  # type: ignore[union-attr]
    tree, health = pool.app.tree(), pool.app.health()
    assert all(f"{name} " in tree and health.parts[name].state == "running" for name in pool.names)
    assert health.ok


def test_it_is_evaluated_and_optimized(pool: Pool) -> None:
    """As many calls at once as all workers take; a run's answers are journaled wherever they were asked for."""
    kinds = (("even", "Paris"), ("odd", "la")) * 4
    data = [
        dspex.Example(question=f"{kind} {number}", answer=answer).with_inputs("question")
        for number, (kind, answer) in enumerate(kinds)
    ]
    assert pool.app.evaluate("qa", data, metric="contains", workers="auto").score == 0.5
    how: dict[str, Any] = {"metric": "contains", "method": "bootstrap", "run_id": f"r-{pool.shape.placement}"}
    result = pool.app.optimize("qa", data, **how).result(30)
    assert (result.outcome, result.score) == ("completed", 1.0)
    assert result.state.predictors["ask"].demos
    asked = len(pool.model.requests)
    assert pool.app.optimize("qa", data, **how).result(30).state == result.state
    assert len(pool.model.requests) == asked


def test_a_worker_that_ends_again_and_again_does_not_end_the_module() -> None:
    """Its own supervisor gives up, and the one above begins it anew; the other workers answer meanwhile."""
    with pooled(LOCAL) as pool:
        watch = Watch(pool.app)
        for _ in range(5):
            since = watch.incarnation("module/qa/1")
            pool.app.kill("module/qa/1")
            assert pool.said(1) == {"Paris"}
            watch.until(lambda since=since: watch.running("module/qa/1", since))  # type: ignore[misc]
        assert watch.incarnation("supervisor/module/qa/1") == 2
        assert watch.incarnation("module/qa/2") == watch.incarnation("module/qa") == 1
        pool.until(lambda: pool.app.health().ok)


def test_kill_9_of_a_worker_costs_its_calls_only() -> None:
    """Those are told so, at once; the others are answered; it comes again, and nothing of it is left at the end."""
    with pooled(APART) as pool:
        with pool.held(4) as answers:
            first, second = pids(pool.app, APART)
            os.kill(first, signal.SIGKILL)
            pool.until(lambda: pool.qa.status().ready == 1)
            assert int(pool.qa(question="x").answer.split()[0]) == second
        lost = [each for each in answers if isinstance(each, Exception)]
        assert len(lost) == 2
        assert all(isinstance(each, ActorDied) and each.reason == ("process_died", "SIGKILL") for each in lost)
        pool.until(lambda: pool.qa.status().ready == 2)
        died = at_once(pool.app, ["die", "die"])
        assert all(isinstance(each, ActorDied) for each in died)
        assert pool.said(1) == {"Paris"}  # by the first one that is back
        pool.until(lambda: pool.qa.status().ready == 2)
        ends = pids(pool.app, APART)
    asyncio.run(wait_reaped(first, second, *ends))


@pytest.mark.parametrize("shape", [Shape(1, "local"), Shape(2, "local")], ids=["alone", "pool"])
def test_it_is_stopped_and_started_again(shape: Shape) -> None:
    """Under one id, however many workers it has: nobody answers, no name of it is left, nothing looks broken."""
    with pooled(shape) as pool:
        pool.app.stop_child("module/qa")
        with pytest.raises(NoProcess):
            pool.qa(question="x")
        assert not any(map(pool.app.entry, pool.names))
        assert pool.app.health().ok
        host(pool.app, Shape(3, "local"))
        assert (pool.qa(question="x").answer.split()[1], pool.qa.status().workers) == ("Paris", 3)


@pytest.mark.parametrize("shape", [Shape(1, "local"), Shape(2, "local")], ids=["alone", "pool"])
def test_it_belongs_to_a_namespace(shape: Shape) -> None:
    """There it is found, by its name; outside it is not."""
    with scene(Singer()) as app:
        tenant = app.namespace("tenant")
        spec = hosted_spec("qa", "kit.dspy_programs:build", provider="local", **shape.settings)
        tenant.start_child(spec)
        assert tenant.call("module/qa", Predict({"question": "x"}), timeout=10).answer == "Paris"
        assert tenant.call("module/qa", ModuleInfo()).ready == shape.workers
        with pytest.raises(NoProcess):
            app.call("module/qa", ModuleInfo())


@pytest.mark.parametrize("workers", [0, -1, 1001, True, "3", 2.0, None])
def test_a_wrong_number_of_workers_is_refused_at_once(workers: Any) -> None:
    """Before anything is started."""
    with pytest.raises(ConfigError, match=r"expected a whole number from 1 to 1000, got .*, at workers"):
        hosted_spec("qa", "kit.dspy_programs:build", provider="local", workers=workers)


@pytest.mark.parametrize("seconds", [0, -1.0, True, "3", float("nan")])
def test_a_wrong_start_timeout_is_refused_at_once(seconds: Any) -> None:
    """Before anything is started."""
    with pytest.raises(ConfigError, match=r"expected seconds above 0, got .*, at start_timeout"):
        hosted_spec("qa", "kit.dspy_programs:build", provider="local", start_timeout=seconds)


@pytest.mark.parametrize(
    ("name", "value"), [("signature", 3), ("timeout", -1), ("temperature", "hot"), ("max_tokens", 0)]
)
def test_a_wrong_setting_is_refused_at_once(name: str, value: Any) -> None:
    """Before anything is started, those of the model calls too."""
    with pytest.raises((ConfigError, LMInvalidRequest), match=name):
        hosted_spec("qa", "kit.dspy_programs:build", provider="local", **{name: value})


def test_a_mistake_of_a_worker_is_a_failed_start() -> None:
    """The start of the whole fails, and says in a sentence where and why."""
    text = "child 'workers/module/qa/1/module' failed: ConfigError: .* did you mean 'build'"
    with scene(Singer()) as app, pytest.raises(StartError, match=text):
        host(app, LOCAL, "biuld")


def test_a_defect_of_the_program_is_told_to_its_caller() -> None:
    """By the worker that met it."""
    with pooled(LOCAL, "Clumsy") as pool:
        outcomes = at_once(pool.app, ["x"] * 6)
        assert {type(each) for each in outcomes} == {RemoteError}
        assert [each.failures for each in pool.statuses()] == [2, 2, 2]
        assert pool.qa.status().failures == 6
