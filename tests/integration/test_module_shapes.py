"""What a module does, it does alike: alone, with workers, and in processes of its own."""

from __future__ import annotations

import asyncio
import os
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any

import pytest

import dspex
from dspex.actors.modules.messages import Predict
from dspex.actors.modules.program_state import PredictorState
from dspex.runtime.child_spec import ChildSpec
from dspex.runtime.errors import (
    CallTimeout,
    ConfigError,
    LMInvalidRequest,
    NoProcess,
    RemoteError,
    SignatureError,
)
from dspex.supervisors.app.console.observer import Observer
from kit.application import Watch, application
from kit.module_shapes import (
    SHAPES,
    Asks,
    Chain,
    Look,
    Model,
    Pid,
    Shape,
    Shelf,
    at_once,
    pids,
    process_of,
    shaped,
)


class Scene:
    """One application, shared by the tests of one shape; each leaves the module ``qa`` as it was."""

    def __init__(self, shape: Shape, app: dspex.App, model: Model, server: Any) -> None:
        self.shape, self.app, self.model, self.server = shape, app, model, server

    @property
    def qa(self) -> dspex.ModuleHandle:
        """The module."""
        return self.app.module("qa")

    def until(self, check: Any) -> None:
        """Ask again and again."""
        end = time.monotonic() + 10
        while not check():
            assert time.monotonic() < end, "it never came"


@pytest.fixture(scope="module", params=SHAPES, ids=lambda shape: f"{shape.workers}-{shape.placement}")
def scene(request: pytest.FixtureRequest) -> Iterator[Scene]:
    """An application whose module has one of the shapes."""
    with shaped(request.param) as (app, model, server):
        yield Scene(request.param, app, model, server)


@pytest.fixture(scope="module")
def chain(scene: Scene) -> dspex.ModuleHandle:
    """A module of the same shape whose answers stream."""
    return scene.app.start_program("chain", Chain, provider="local", **scene.shape.settings)


@pytest.fixture(scope="module")
def tight(scene: Scene) -> dspex.ModuleHandle:
    """A module of the same shape that serves one call at a time, each of its workers."""
    return scene.app.start_program("tight", Asks, provider="local", max_concurrency=1, **scene.shape.settings)


def test_it_answers_where_it_was_placed(scene: Scene) -> None:
    """Calls at once are served by all actors of the module, each in the process that it belongs to."""
    answers = at_once(scene.app, ["sleep 0.1"] * (3 * scene.shape.workers))
    served = [int(each.answer.split()[0]) for each in answers]
    assert set(served) == set(pids(scene.app, scene.shape))
    assert (os.getpid() in served) == (scene.shape.placement == "local")
    assert len(set(served)) == (scene.shape.workers if scene.shape.placement == "process" else 1)


def test_what_goes_wrong_is_a_typed_error(scene: Scene) -> None:
    """Of the inputs, the provider and the program, with their facts; the module lives on."""
    with pytest.raises(SignatureError, match="question"):
        scene.qa(question=3)
    with pytest.raises(LMInvalidRequest) as refused:
        scene.qa(question="refuse")
    assert refused.value.facts["provider"] == "local"
    with pytest.raises(RemoteError, match="ZeroDivisionError: it"):
        scene.qa(question="fail it")
    assert scene.qa(question="x").answer.endswith("long")


def test_a_deadline_is_kept(scene: Scene) -> None:
    """The caller is told in time, and the request to the model ends with the call."""
    scene.server.client_closed.clear()
    with pytest.raises(dspex.Error) as late:
        scene.qa.options(timeout=1.0)(question="hang")
    assert late.value.code in ("call_timeout", "lm_timeout")
    assert scene.server.client_closed.wait(5)
    scene.until(lambda: scene.qa.status().running == 0)


def test_a_caller_who_gives_up_ends_the_work(scene: Scene) -> None:
    """Down to the request to the model."""
    scene.server.client_closed.clear()
    before = len(scene.model.bodies)

    async def give_up() -> None:
        asked = asyncio.ensure_future(scene.app.aio.module("qa")(question="hang"))
        await asyncio.to_thread(scene.until, lambda: len(scene.model.bodies) > before)
        asked.cancel()
        await asyncio.wait([asked])

    asyncio.run(give_up())
    assert scene.server.client_closed.wait(5)
    scene.until(lambda: scene.qa.status().running == 0)


def test_a_call_is_one_trace(scene: Scene) -> None:
    """Events of the module and of its requests, below one another; the source names the actor that worked."""
    info = scene.qa(question="x").info
    scene.until(lambda: scene.app.events.query(trace_id=info.correlation_id, type="module_execution").events)
    events = scene.app.events.query(trace_id=info.correlation_id, limit=100).events
    assert {"lm_request", "lm_response", "module_execution"} <= {event.type for event in events}
    whole = next(event for event in events if event.type == "module_execution" and event.model_dump()["module"] == "qa")
    assert whole.source in scene.shape.names("qa")
    assert (info.provider, [attempt.status for attempt in info.attempts]) == ("local", [200])
    assert (info.correlation_id, info.span_id) == (whole.trace_id, whole.span_id)


def test_an_answer_streams(scene: Scene, chain: dspex.ModuleHandle) -> None:
    """In pieces, in order, with a whole at its end; streams run beside one another."""
    with ExitStack() as opened:
        streams = [opened.enter_context(chain.stream(question="x")) for _ in range(2 * scene.shape.workers)]
        begun = [(stream, next(iter(stream))) for stream in streams]
        read = [(stream, [first, *stream]) for stream, first in begun]
    for stream, pieces in read:
        assert "".join(piece.text for piece in pieces) == stream.result.answer == "long"
        assert [piece.index for piece in pieces] == list(range(len(pieces)))
        assert len(stream.result.info.attempts) == 3
    scene.until(lambda: chain.status().running == 0)
    assert chain.status().executions == 2 * scene.shape.workers


def test_a_stream_that_is_left_ends(scene: Scene, chain: dspex.ModuleHandle) -> None:
    """Its request ends, and its place is free again."""
    scene.server.client_closed.clear()
    with chain.stream(question="stall") as stream:
        assert next(iter(stream)).field == "answer"
        assert (chain.status().streams, chain.status().running) == (1, 1)
    assert scene.server.client_closed.wait(5)
    scene.until(lambda: chain.status().running == 0)


def test_a_stream_outlives_the_pool_and_another_worker(scene: Scene, chain: dspex.ModuleHandle) -> None:
    """It is between its worker and its reader; it ends when the reader leaves."""
    if scene.shape.workers == 1:
        pytest.skip("it has no pool")
    app, watch = scene.app, Watch(scene.app)
    with chain.stream(question="stall") as one, chain.stream(question="stall") as other:
        assert (next(iter(one)).field, next(iter(other)).field) == ("answer", "answer")
        for name, left in (("module/chain", {2}), (scene.shape.names("chain")[0], {1, 2})):
            since = watch.incarnation(name)
            app.kill(name)
            watch.until(partial(watch.running, name, since))
            assert chain.status().streams in left
        scene.server.client_closed.clear()
    assert scene.server.client_closed.wait(5)
    scene.until(lambda: chain.status().streams == 0)


def test_a_reader_is_told_of_the_end_of_a_streaming_worker(scene: Scene, chain: dspex.ModuleHandle) -> None:
    """A stream ends with the worker whose it is."""
    with chain.stream(question="stall") as stream:
        next(iter(stream))
        for name in scene.shape.names("chain"):
            scene.app.kill(name)
        with pytest.raises(dspex.Error):
            list(stream)
    scene.app.stop_module("chain")


def test_an_update_holds_for_every_call_behind_it(scene: Scene) -> None:
    """Whoever of the workers answers; what is in work ends as it began; back again as well."""
    before = scene.qa.state()
    many = ["x"] * (4 * scene.shape.workers)
    for instructions, said in (("Be brief.", "brief"), (None, "long"), ("Be brief.", "brief")):
        scene.qa.update(instructions=instructions)
        assert scene.qa.state().predictors["ask"].instructions == instructions or instructions is None
        assert {each.answer.split()[1] for each in at_once(scene.app, many)} == {said}
    with pytest.raises(ConfigError, match="expected one of the predictors ask"):
        scene.qa.update(dspex.ProgramState({"other": PredictorState("x")}))
    assert {each.answer.split()[1] for each in at_once(scene.app, many)} == {"brief"}
    scene.qa.update(before)
    assert {each.answer.split()[1] for each in at_once(scene.app, many)} == {"long"}


def test_the_state_is_saved_loaded_and_that_of_one_call(scene: Scene, tmp_path: Path) -> None:
    """A file holds it; a call may be asked as if another one held."""
    before = scene.qa.state()
    brief = dspex.ProgramState({"ask": PredictorState("Be brief.")})
    answer = scene.app.call("module/qa", Predict({"question": "x"}, state=brief, trace=True))
    assert answer.answer.endswith("brief")
    assert [each.predictor for each in answer.info.calls] == ["ask"]
    assert scene.qa(question="x").answer.endswith("long")
    scene.qa.save(tmp_path / "qa.json")
    scene.qa.update(brief)
    scene.qa.load(tmp_path / "qa.json")
    assert scene.qa.state() == before


def test_settings_follow_the_configuration(scene: Scene) -> None:
    """A change is every worker's; limits are those of each."""
    scene.app.update_setting(("modules", "qa", "max_concurrency"), 2)
    scene.until(lambda: scene.qa.status().max_concurrency == 2 * scene.shape.workers)
    scene.app.update_setting(("modules", "qa", "timeout"), 9.0)
    scene.until(lambda: scene.app.registry.lookup("module/qa").metadata["timeout"] == 9.0)  # type: ignore[union-attr]
    scene.app.update_setting(("modules", "qa", "max_concurrency"), 16)
    scene.app.update_setting(("modules", "qa", "timeout"), 30.0)
    scene.until(lambda: scene.qa.status().max_concurrency == 16 * scene.shape.workers)


def test_more_than_may_be_in_work_wait_in_turn(scene: Scene, tight: dspex.ModuleHandle) -> None:
    """``max_concurrency`` is that of each worker; how busy each is stands in the engine's books, also of a process."""
    calls = 3 * scene.shape.workers
    answers: list[Any] = []
    asking = threading.Thread(target=lambda: answers.extend(at_once(scene.app, ["sleep 0.3"] * calls, "tight")))
    asking.start()
    scene.until(lambda: tight.status().waiting >= scene.shape.workers)
    assert tight.status().running <= scene.shape.workers
    assert sum(map(scene.app.engine.router.load, scene.shape.names("tight"))) > scene.shape.workers
    asking.join(20)
    assert [each.answer.split()[1] for each in answers] == ["0.3"] * calls
    scene.until(lambda: not any(map(scene.app.engine.router.load, scene.shape.names("tight"))))
    assert tight.status().executions == calls


def test_a_program_that_asks_itself_waits_for_no_turn_of_its_own(scene: Scene, tight: dspex.ModuleHandle) -> None:
    """However few it may serve at a time, and wherever it is."""
    answers = at_once(scene.app, ["down 2"] * (2 * scene.shape.workers + 1), "tight", timeout=5.0)
    assert {str(getattr(each, "answer", each)).split()[-1] for each in answers} == {"long"}
    scene.until(lambda: tight.status().running == 0)


def test_another_module_is_reached(scene: Scene, tight: dspex.ModuleHandle) -> None:
    """Wherever it is."""
    mine, other, text = tight(question="other x").answer.split()
    assert int(mine) in pids(scene.app, scene.shape, "tight")
    assert int(other) in pids(scene.app, scene.shape)
    assert text == "long"


def test_a_stopped_module_is_forgotten_with_all_its_workers(scene: Scene, tight: dspex.ModuleHandle) -> None:
    """Nobody answers, no name of it is left, and its processes end."""
    scene.app.stop_module("tight")
    with pytest.raises(NoProcess):
        tight(question="x")
    assert not [entry.name for entry in scene.app.engine.names.entries() if "tight" in entry.name]


def test_it_is_evaluated(scene: Scene) -> None:
    """Every example once, as many at once as all workers take together."""
    data = [dspex.Example(question="x", answer="long").with_inputs("question") for _ in range(12)]
    report = scene.app.evaluate("qa", data, metric="contains", workers="auto")
    assert (report.score, len(report.rows), report.errors) == (1.0, 12, {})


def test_a_run_optimizes_it_and_goes_on_without_paying_twice(scene: Scene) -> None:
    """Its answers are journaled wherever they were asked for."""
    data = [dspex.Example(question=f"q{number}", answer="brief").with_inputs("question") for number in range(8)]
    how: dict[str, Any] = {"metric": "contains", "method": "bootstrap", "run_id": "r", "seed": 1}
    result = scene.app.optimize("qa", data, **how).result(30)
    assert result.outcome == "completed"
    assert result.state.predictors["ask"].demos
    asked = len(scene.model.bodies)
    assert scene.app.optimize("qa", data, **how).result(30).state == result.state
    assert len(scene.model.bodies) == asked


def test_tools_are_reached(scene: Scene) -> None:
    """A function runs where the module does; an actor answers wherever it is."""
    scene.app.start_child(ChildSpec("shelf", Shelf, name=f"tool/{id(scene)}"))
    options: Any = {"kind": "react", "tools": [process_of, {"actor": f"tool/{id(scene)}", "message": Look}]}
    tools = scene.app.start_module("tools", "question -> answer", provider="local", **options, **scene.shape.settings)
    answer = tools(question="x")
    first, second = (step["observation"] for step in answer.trajectory[:2])
    assert int(first.split()[-1]) in pids(scene.app, scene.shape, "tools")
    assert second == answer.answer == "hat is on the shelf"
    scene.app.stop_module("tools")


def test_what_is_shown_of_it_is_true(scene: Scene) -> None:
    """Status, registry, tree and health know the workers, and where they run."""
    workers, placement = scene.shape
    status = scene.qa.status()
    assert (status.workers, status.ready, status.max_concurrency) == (workers, workers, 16 * workers)
    row = scene.app.registry.lookup("module/qa")
    assert row is not None
    assert (row.metadata["type"], row.metadata["kind"], row.metadata["status"]) == ("module", "program", "ready")
    assert "module/qa" in {each.name for each in scene.app.registry.select(kind="module")}
    assert not {each.name for each in scene.app.registry.select(kind="module")} & set(scene.shape.names("qa")[1:])
    if workers > 1:
        assert (row.metadata["workers"], row.metadata["ready"]) == (workers, workers)
    assert row.metadata.get("placement", "local") == placement
    tree, health = scene.app.tree(), scene.app.health()
    for name in scene.shape.names("qa"):
        shown = Observer(scene.app.engine, "test").show(name)
        assert (shown["state"]["_id"], shown["state_error"]) == ("'qa'", "")
        assert f"{name} " in tree
        assert health.parts[name].state == "running"
    assert health.ok
    assert "dead" not in tree


def test_workers_and_placement_hold_until_it_is_stopped(scene: Scene) -> None:
    """A change of them while it runs is refused, and says what to do; other settings of it may be given anew."""
    workers, placement = scene.shape
    for path, value in ((("modules", "qa", "workers"), 7), (("modules", "qa", "placement"), "nowhere")):
        with pytest.raises(ConfigError):
            scene.app.update_setting(path, value)
    with pytest.raises(ConfigError, match=f"the module was started with, {workers}, got {workers + 1}, at modules.qa"):
        scene.app.start_program("qa", Pid, provider="local", workers=workers + 1, placement=placement)
    scene.app.start_program("qa", Pid, provider="local", **scene.shape.settings)
    assert scene.qa(question="x").answer.endswith("long")


def test_a_crash_of_one_leaves_the_others(scene: Scene) -> None:
    """Calls of the one that ends are told so; it comes again, and the whole is healthy."""
    name = scene.shape.names("qa")[-1]
    watch = Watch(scene.app)
    since = watch.incarnation(name)
    scene.app.kill(name)
    watch.until(lambda: watch.running(name, since))
    answers = at_once(scene.app, ["x"] * (2 * scene.shape.workers))
    assert all(each.answer.endswith("long") for each in answers)
    assert scene.app.health().ok


def test_the_end_of_the_pool_loses_no_answer(scene: Scene) -> None:
    """What the workers have in work is answered; the workers are the same as before."""
    if scene.shape.workers == 1:
        pytest.skip("it has no pool")
    app, watch, before = scene.app, Watch(scene.app), pids(scene.app, scene.shape)
    born = watch.incarnation(scene.shape.names("qa")[0])
    answers: list[Any] = []
    thread = threading.Thread(target=lambda: answers.extend(at_once(app, ["sleep 0.5"] * 4)))
    thread.start()
    scene.until(lambda: scene.qa.status().running == 4)
    since = watch.incarnation("module/qa")
    app.kill("module/qa")
    watch.until(lambda: watch.running("module/qa", since))
    thread.join(10)
    assert [each.answer.split()[1] for each in answers] == ["0.5"] * 4
    assert pids(app, scene.shape) == before
    assert watch.incarnation(scene.shape.names("qa")[0]) == born


def test_a_program_that_cannot_start_there_says_why(scene: Scene) -> None:
    """The error of the child is the caller's, and nothing is left of it."""
    options: Any = {**scene.shape.settings, "kind": "best_of_n", "metric": "kit.module_shapes:nobody"}
    with pytest.raises(ConfigError, match="nobody"):
        scene.app.start_module("bad", "question -> answer", provider="local", **options)
    assert not [entry.name for entry in scene.app.engine.names.entries() if "bad" in entry.name]


def test_a_time_out_is_a_call_time_out(scene: Scene) -> None:
    """Who waits longer than the caller allows is named in the error."""
    with pytest.raises(CallTimeout, match=scene.shape.names("qa")[0].rpartition("1")[0] or "module/qa"):
        scene.app.call("module/qa", Predict({"question": "sleep 5"}), timeout=1.0)
    scene.until(lambda: scene.qa.status().running == 0)


def test_a_run_goes_on_with_other_workers() -> None:
    """How many there are, and where, is no part of what a run was begun with: nothing is paid for again."""
    data = [dspex.Example(question=f"q{number}", answer="brief").with_inputs("question") for number in range(8)]
    with shaped(SHAPES[0]) as (app, model, _):
        found = app.optimize("qa", data, metric="contains", method="bootstrap", run_id="r", seed=1).result(30)
        first = app.evaluate("qa", data, metric="contains", run_id="e")
        asked = len(model.bodies)
        app.stop_module("qa")
        app.start_program("qa", Pid, provider="local", **SHAPES[3].settings)
        again = app.optimize("qa", data, metric="contains", method="bootstrap", run_id="r", seed=1).result(30)
        assert again.state == found.state
        assert app.evaluate("qa", data, metric="contains", run_id="e").score == first.score
        assert len(model.bodies) == asked


def test_a_file_may_say_it() -> None:
    """``workers`` and ``placement`` of a declared module; a misspelt one is refused with a hint."""
    table = {"kind": "program", "program": "kit.module_shapes:Pid", "signature": "question -> answer"}
    module = {**table, "provider": "local", "workers": 2, "placement": "process"}
    with application(Model(), config={"modules": {"qa": module}}) as (app, _):
        assert app.module("qa").status().workers == 2
        assert app.module("qa")(question="x").answer.split()[0] != str(os.getpid())
        app.stop_module("qa")
        app.start_program("qa", Pid, provider="local")
        assert app.module("qa").status().workers == 1
    for wrong in ({"workers": 0}, {"placement": "prozess"}, {"wokers": 2}):
        with pytest.raises(ConfigError), application(Model(), config={"modules": {"qa": {**module, **wrong}}}):
            pass
