"""For tests of optimization runs against ``kill -9``: moments at which a process dies, and what it leaves behind."""

from __future__ import annotations

import subprocess
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any, Literal, TypeAlias

from dspex.actors.runs.messages import Wish
from dspex.actors.runs.store import RunStore, StoredRun
from kit.http_server import HttpServer
from kit.runs import Model, optimizer_process

Begin: TypeAlias = Callable[..., subprocess.Popen[str]]
Since: TypeAlias = Literal["start", "request", "answer"]


@dataclass(frozen=True)
class Moment:
    """When a process is killed.

    Attributes:
        since: its own start, a request that has no answer yet, or an answer that has been sent.
        call: which request or answer, from 1.
        delay: seconds after that.
    """

    since: Since
    call: int = 1
    delay: float = 0.0


def any_moment(rng: Random, *, left: int, duration: float) -> Moment:
    """A moment at random: at a request, while its answer is written down, at any time at all, or near the end.

    Args:
        rng: draws it.
        left: calls that the run has still to make.
        duration: seconds that an undisturbed process lives.
    """
    call = rng.randint(1, max(1, left // 3))
    moments: list[Callable[[], Moment]] = [
        lambda: Moment("request", call),
        lambda: Moment("answer", call, rng.uniform(0, 0.004)),
        lambda: Moment("start", delay=rng.uniform(0, duration)),
        lambda: Moment("answer", max(1, left - rng.randint(0, 2)), rng.uniform(0, 0.03)),
    ]
    return rng.choices(moments, (3, 3, 3, 1))[0]()


def killed_at(
    script: Model, server: HttpServer, folder: Path, moment: Moment, begin: Begin = optimizer_process, **how: Any
) -> bool:
    """Start or go on with a run, and kill its process -9 at this moment; whether it lived so long."""
    last = script.calls + moment.call
    timer = threading.Timer(moment.delay, lambda: process.kill())

    def kill(number: int) -> None:
        if number != last:
            return
        if moment.delay:
            timer.start()
        else:
            process.kill()

    if moment.since == "request":
        script.on_call = kill
    elif moment.since == "answer":
        script.on_answer = kill
    process: subprocess.Popen[str] = begin(server, folder, **how)
    if moment.since == "start":
        timer.start()
    try:
        out, err = process.communicate(timeout=60)
    finally:
        timer.cancel()
        process.kill()
        script.on_call = script.on_answer = lambda number: None
    assert process.returncode in (0, -9), err
    return process.returncode == -9 and not out


def killed_once(
    script: Model,
    server: HttpServer,
    folder: Path,
    wish: Wish,
    wanted: Callable[[StoredRun], bool],
    begin: Begin = optimizer_process,
    **how: Any,
) -> StoredRun:
    """What the file says of the run ``r`` that was asked for something, and killed when ``wanted`` was true of it."""
    held, go = threading.Event(), threading.Event()

    def hold(number: int) -> None:
        if number == 20:
            held.set()
            go.wait(15)

    script.on_call = hold
    process = begin(server, folder, **how)
    store = RunStore(folder / "app.runs.db")
    try:
        assert held.wait(40)
        found = store.wish("r", wish)
        while not wanted(found):
            found = store.get("r")
        process.kill()
        process.communicate(timeout=30)
        return store.get("r")
    finally:
        script.on_call = lambda number: None
        go.set()
        process.kill()
        store.close()


def paid_calls(folder: Path) -> int:
    """Calls that the run ``r`` has written down by now."""
    store = RunStore(folder / "app.runs.db")
    try:
        found = store.find("r")
        return 0 if found is None else found.paid.calls
    finally:
        store.close()


def journal_of(folder: Path) -> dict[str, Any]:
    """What the run ``r`` has in its journal: rows, trials and steps as they are, and the places of its calls."""
    store = RunStore(folder / "app.runs.db")
    try:
        kept = {kind: {each.key: each.value for each in store.entries("r", kind)} for kind in ("row", "trial", "step")}
        return {**kept, "call": {each.key for each in store.entries("r", "call")}}
    finally:
        store.close()
