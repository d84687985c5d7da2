"""Modules in processes of their own, and what kill -9 does to them: typed errors, restarts, nothing left behind."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest

import dspex
from dspex.actors.modules import pool
from dspex.runtime.errors import ActorDied, StartError
from dspex.supervisors.app.tree import declared
from kit.application import Watch, application
from kit.module_shapes import SHAPES, Model, Pid, Shape, at_once, pids, shaped
from kit.processes import children, exists, wait_ended, wait_reaped

ROOT = Path(__file__).resolve().parents[2]
ALONE, POOL = SHAPES[2], SHAPES[3]


def until(check: Any) -> None:
    """Ask again and again."""
    end = time.monotonic() + 10
    while not check():
        assert time.monotonic() < end, "it never came"


def killed_at_work(app: dspex.App, shape: Shape, calls: int) -> tuple[int, list[Any]]:
    """Have the last actor of the module killed while so many calls are in work; its old process, and the outcomes."""
    outcomes: list[Any] = []
    thread = threading.Thread(target=lambda: outcomes.extend(at_once(app, ["sleep 3"] * calls)))
    thread.start()
    until(lambda: app.module("qa").status().running == calls)
    pid = pids(app, shape)[-1]
    os.kill(pid, signal.SIGKILL)
    thread.join(10)
    assert not thread.is_alive()
    return pid, outcomes


@pytest.mark.parametrize("shape", [ALONE, POOL], ids=["alone", "pool"])
def test_kill_9_of_a_child_costs_its_calls_only(shape: Shape) -> None:
    """Those are told so, at once; the others are answered; it comes again, in the state that it was given."""
    with shaped(shape) as (app, _, _):
        app.module("qa").update(instructions="Be brief.")
        watch = Watch(app)
        name = shape.names("qa")[-1]
        pid, outcomes = killed_at_work(app, shape, 4)
        lost = [each for each in outcomes if isinstance(each, Exception)]
        assert len(lost) in ({4} if shape is ALONE else {1, 2, 3})
        assert all(isinstance(each, ActorDied) and each.reason == ("process_died", "SIGKILL") for each in lost)
        assert all(name in str(each) for each in lost)
        watch.until(lambda: watch.running(name, 1))
        until(lambda: app.module("qa").status().ready == shape.workers)
        assert pid not in pids(app, shape)
        answers = at_once(app, ["x"] * 4)
        assert {int(each.answer.split()[0]) for each in answers} == set(pids(app, shape))
        assert {each.answer.split()[1] for each in answers} == {"brief"}
        assert app.health().ok
        asyncio.run(wait_reaped(pid))


def test_while_one_is_away_the_others_are_asked() -> None:
    """A call that comes between the end of a worker and its return does not wait for it."""
    with shaped(POOL) as (app, _, _):
        first, second = pids(app, POOL)
        os.kill(first, signal.SIGKILL)
        watch = Watch(app)
        watch.until(lambda: not watch.running("module/qa/1") or watch.incarnation("module/qa/1") > 1)
        if watch.state("module/qa/1") != "running":
            assert int(app.module("qa")(question="x").answer.split()[0]) == second
            assert app.health().status == "degraded"
        watch.until(lambda: watch.running("module/qa/1", 1))


def test_a_program_that_ends_its_interpreter() -> None:
    """Its caller is told; with all workers gone at once, the next call waits for one."""
    with shaped(POOL) as (app, _, _):
        outcomes = at_once(app, ["die now", "die now"])
        assert all(isinstance(each, ActorDied) for each in outcomes)
        assert app.module("qa")(question="x").answer.endswith("long")


def test_a_worker_that_ends_again_and_again_does_not_end_the_module() -> None:
    """Its own supervisor gives up, and the one above begins it anew; the other workers answer meanwhile."""
    with shaped(SHAPES[1]) as (app, _, _):
        watch = Watch(app)
        for _ in range(5):
            since = watch.incarnation("module/qa/1")
            app.kill("module/qa/1")
            watch.until(lambda since=since: watch.running("module/qa/1", since))  # type: ignore[misc]
            assert app.module("qa")(question="x").answer.endswith("long")
        assert watch.incarnation("supervisor/module/qa/1") == 2
        assert watch.incarnation("module/qa/2") == watch.incarnation("module/qa") == 1
        until(lambda: app.health().ok)


def test_a_worker_that_computes_holds_up_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    """The others answer and are updated, the status leaves it out; a kill ends it, though its loop is held."""
    monkeypatch.setattr(pool, "_PATIENCE", 1.0)
    with shaped(POOL) as (app, _, _):
        stuck = threading.Thread(target=lambda: outcome.extend(at_once(app, ["burn 60"])))
        outcome: list[Any] = []
        stuck.start()
        until(lambda: app.module("qa").status().ready == 1)
        busy = {name for name in POOL.names("qa") if app.engine.router.load(name)}
        assert len(busy) == 1
        assert app.module("qa")(question="x").answer.endswith("long")
        assert app.module("qa").status().max_concurrency == 32
        app.module("qa").update(instructions="Be brief.")
        assert app.module("qa")(question="x").answer.endswith("brief")
        app.kill(busy.pop())
        stuck.join(10)
        assert isinstance(outcome[0], ActorDied)
        until(lambda: app.module("qa").status().ready == 2)
        assert {each.answer.split()[1] for each in at_once(app, ["x"] * 4)} == {"brief"}


def test_an_evaluation_outlives_a_worker() -> None:
    """What was in flight there is a failure that is counted; all other rows are as ever."""
    with shaped(POOL) as (app, _, _):
        data = [dspex.Example(question="sleep 1.0", answer="1.0").with_inputs("question") for _ in range(24)]
        reports: list[Any] = []
        work = threading.Thread(target=lambda: reports.append(app.evaluate("qa", data, metric="contains", workers=8)))
        work.start()
        until(lambda: app.module("qa").status().running == 8)
        os.kill(pids(app, POOL)[0], signal.SIGKILL)
        work.join(20)
        (report,) = reports
        assert set(report.errors) == {"actor_died"}
        assert report.errors["actor_died"] <= 8
        assert sum(row.score for row in report.rows) == 24 - report.errors["actor_died"]


def test_a_start_that_never_ends_is_killed_at_its_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """A program whose module blocks at import; the caller is told, and no process is left."""
    monkeypatch.setattr(declared, "START_TIMEOUT", 1.0)
    before = children()
    with application(Model()) as (app, _):
        table = {"kind": "program", "program": "kit.blocks_at_import:Blocks", "placement": "process"}
        with pytest.raises(StartError, match="timeout"):
            app.start_module("bad", "question -> answer", provider="local", **table)
        assert app.start_program("qa", Pid, provider="local")(question="x").answer.endswith("long")
    asyncio.run(wait_reaped(*(children() - before)))


def test_a_start_that_never_ends_holds_up_no_stop() -> None:
    """Its process is killed as soon as the application stops, and whoever waits for the start is told."""
    before = children()
    outcome: list[Any] = []
    with application(Model()) as (app, _):
        table = {"kind": "program", "program": "kit.blocks_at_import:Blocks", "placement": "process"}

        def start() -> None:
            with pytest.raises(dspex.Error) as refused:
                app.start_module("bad", "question -> answer", provider="local", **table)
            outcome.append(refused.value)

        starting = threading.Thread(target=start)
        starting.start()
        until(lambda: children() - before)
        app.stop()
        starting.join(10)
        assert [type(each) for each in outcome] == [StartError]
    asyncio.run(wait_reaped(*(children() - before)))


PARENT = """
import sys
from kit.module_shapes import SHAPES, pids, shaped
with shaped(SHAPES[3]) as (app, _, _):
    print(*pids(app, SHAPES[3]), flush=True)
    sys.stdin.read()
"""


def test_the_workers_die_with_their_parent() -> None:
    """On kill -9 of the application's process no child of it is left."""
    parent = subprocess.Popen(
        [sys.executable, "-c", PARENT],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": f"{ROOT}:{ROOT / 'tests'}"},
    )
    assert parent.stdout is not None
    with parent:
        workers = [int(each) for each in parent.stdout.readline().split()]
        assert len(workers) == 2
        assert all(exists(pid) for pid in workers)
        parent.kill()
    try:
        wait_ended(*workers)
    finally:
        for pid in workers:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
