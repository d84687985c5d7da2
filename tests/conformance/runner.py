"""Runs one scenario against our supervisors and makes its trace (see ``README.md`` beside the data)."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Mapping
from typing import Any

from dspex.runtime.address import LocalAddress
from dspex.runtime.child_spec import ChildSpec, StartChild
from dspex.runtime.engine import Engine
from dspex.runtime.errors import AlreadyStarted, CallError, NoProcess, SpecError, StartError, SupervisorError
from dspex.runtime.gen_server import Ignored, Started, StartFailed
from dspex.runtime.messages import Resume, Suspend
from dspex.supervisors.messages import (
    ChildCounts,
    ChildInfo,
    CountChildren,
    DeleteChild,
    GetChildSpec,
    RestartChild,
    StartInstance,
    TerminateChild,
    WhichChildren,
)

from .canonical import canonical_events, canonical_reports
from .virtual_loop import LoopClock, VirtualLoop
from .world import Boot, End, Json, Parent, Process, Signal, World, child_mapping, from_json, to_json

DEATHS = ("crash", "exit", "kill")
ORPHAN_STEP, ORPHAN_STEPS = 0.001, 1000


def run_scenario(scenario: Mapping[str, Any]) -> dict[str, Json]:
    """The trace of a scenario, in virtual time."""
    loop = VirtualLoop()
    try:
        return loop.run_until_complete(_run(scenario))
    finally:
        loop.close()


async def _run(scenario: Mapping[str, Any]) -> dict[str, Json]:
    loop = asyncio.get_running_loop()
    engine = Engine(loop="current", clock=LoopClock(loop))
    try:
        return {"name": scenario["name"], "trace": await Runner(engine, scenario).run()}
    finally:
        await engine.astop()


class Runner:
    """One run of one scenario."""

    def __init__(self, engine: Engine, scenario: Mapping[str, Any]) -> None:
        self.engine = engine
        self.scenario = scenario
        self.world = World(engine)
        self.top: LocalAddress | None = None
        self.top_reason: Json = None
        self.killed: list[tuple[Process, list[Process]]] = []

    async def run(self) -> list[Json]:
        """All observations."""
        self.parent = await self._spawn_parent()
        self.stranger = await self._spawn_parent()
        trace = [await self._boot()]
        for step in self.scenario["steps"]:
            if trace[-1]["top"] != "up":
                return trace
            ret = await self._step(step)
            trace.append(await self._observe(step["op"], ret))
        if trace[-1]["top"] == "up":
            await self._stop("shutdown")
            trace.append(await self._observe("teardown"))
        return trace

    async def _spawn_parent(self) -> LocalAddress:
        outcome = await self.engine.spawn(Parent)
        assert isinstance(outcome, Started)
        return outcome.address

    # -- steps ---------------------------------------------------------------------------------

    async def _boot(self) -> Json:
        outcome = await self._call(self.parent, Boot(self.world, self.scenario["top"]))
        if isinstance(outcome, Started):
            self.top = outcome.address
            return await self._observe("boot", ["ok", self._label(outcome.address)])
        assert isinstance(outcome, StartFailed)
        self.top_reason = to_json(outcome.reason)
        return await self._observe("boot", ["error", self.top_reason])

    async def _step(self, step: Mapping[str, Any]) -> Json:
        op = step["op"]
        if op == "wait":
            await asyncio.sleep(step["ms"] / 1000)
            return None
        if op == "stop":
            await self._stop(step["reason"])
            return None
        if op == "batch":
            return await self._batch(step)
        if op in DEATHS:
            return await self._end(step)
        if op in ("exit_signal", "message"):
            return await self._disturb(step)
        supervisor = self.world.latest.get(step["sup"])
        if supervisor is None or not supervisor.alive:
            return ["not_alive"]
        return await self._manage(supervisor, step)

    async def _stop(self, reason: Json) -> None:
        assert self.top is not None
        await self._call(self.parent, Signal(self.top, from_json(reason)))
        await self.engine.wait_down(self.top, None)

    async def _end(self, step: Mapping[str, Any]) -> Json:
        process = self.world.latest.get(step["id"])
        if process is None or not process.alive:
            return ["not_alive"]
        if step["op"] == "kill":
            if process.kind != "worker":
                self.killed.append((process, self.world.below(process.address)))
            self.engine.kill(process.address)
        else:
            self.engine.cast(process.address, End(from_json(step.get("reason", "crash"))))
        await self.engine.wait_down(process.address, None)
        return ["ok"]

    async def _disturb(self, step: Mapping[str, Any]) -> Json:
        process = self.world.latest.get(step["id"])
        if process is None or not process.alive:
            return ["not_alive"]
        if step["op"] == "exit_signal":
            await self._call(self.stranger, Signal(process.address, from_json(step["reason"])))
        else:
            self.engine.send(process.address, "an unknown message", None)
        return ["ok"]

    async def _batch(self, step: Mapping[str, Any]) -> Json:
        supervisor = self.world.latest.get(step["sup"])
        if supervisor is None or not supervisor.alive:
            return [["not_alive"] for _ in step["ops"]]
        await self._call(supervisor.address, Suspend())
        waiting: list[asyncio.Future[Json]] = []
        for op in step["ops"]:
            task = asyncio.ensure_future(self._step(op))
            waiting.append(task)
            if op["op"] in DEATHS:
                await task
            else:
                await asyncio.sleep(0)  # the call is in the mailbox now
        with contextlib.suppress(NoProcess):  # it was killed meanwhile
            await self._call(supervisor.address, Resume())
        return await asyncio.gather(*waiting)

    # -- management calls ------------------------------------------------------------------------

    async def _manage(self, supervisor: Process, step: Mapping[str, Any]) -> Json:
        message = self._message(supervisor, step)
        if message is None:
            return ["no_such_id"]
        try:
            answer = await self._call(supervisor.address, message)
        except (SpecError, StartError, SupervisorError) as error:
            return self._refusal(supervisor, step["op"], error)
        except CallError as error:
            return ["exit", to_json(error.facts.get("reason", error.code))]
        return self._answer(supervisor, step["op"], answer)

    def _message(self, supervisor: Process, step: Mapping[str, Any]) -> Any:
        op = step["op"]
        if op == "start_child":
            if "instance" in step:
                return StartInstance((step["instance"],))
            return StartChild(child_mapping(self.world, step["child"]))
        if op == "terminate_child":
            if supervisor.kind == "static" or step.get("by") == "spec_id":
                return TerminateChild(step["id"])
            last = self.world.latest.get(step["id"])
            return None if last is None else TerminateChild(last.address)
        by_id = {"restart_child": RestartChild, "delete_child": DeleteChild, "get_childspec": GetChildSpec}
        if op in by_id:
            return by_id[op](step["id"])
        return {"count_children": CountChildren, "which_children": WhichChildren}[op]()

    def _refusal(self, supervisor: Process, op: str, error: Any) -> Json:
        if isinstance(error, AlreadyStarted):
            return ["error", "already_started", self._label(error.address)]
        if isinstance(error, StartError) and op == "start_child" and supervisor.kind == "static":
            return ["error", "start_failed", to_json(error.reason[0])]
        return ["error", to_json(error.reason)]

    def _answer(self, supervisor: Process, op: str, answer: Any) -> Json:
        if isinstance(answer, Started):
            return ["ok", self._label(answer.address), *([] if answer.info is None else [answer.info])]
        if isinstance(answer, Ignored):
            return ["ignore"] if supervisor.kind == "dynamic" else ["ok", None]
        if isinstance(answer, ChildCounts):
            return self._counts(answer)
        if isinstance(answer, ChildSpec):
            return ["ok", self._spec(answer)]
        return self._rows(supervisor, answer) if op == "which_children" else ["ok"]

    def _spec(self, spec: ChildSpec) -> Json:
        shutdown = round(spec.shutdown * 1000) if isinstance(spec.shutdown, float) else spec.shutdown
        values = {"id": spec.id, "restart": spec.restart, "shutdown": shutdown}
        return {**values, "significant": spec.significant, "type": spec.type}

    def _counts(self, counts: ChildCounts) -> Json:
        return [counts.specs, counts.active, counts.supervisors, counts.workers]

    def _rows(self, supervisor: Process, children: tuple[ChildInfo, ...]) -> Json:
        rows = [self._label(child.address) if child.address else f"{child.id}:{child.state}" for child in children]
        return rows if supervisor.kind == "static" else sorted(rows)

    def _label(self, address: Any) -> str:
        return self.world.processes[address].label

    async def _call(self, target: LocalAddress, message: Any) -> Any:
        return await self.engine.outside.call_async(target, message, timeout=None)

    # -- observation -------------------------------------------------------------------------------

    def _supervisors(self) -> list[Process]:
        return [process for process in self.world.alive() if process.kind != "worker"]

    async def _settle(self) -> None:
        """Wait until every supervisor is idle with nothing restarting, and no orphan is left."""
        for _ in range(ORPHAN_STEPS):
            seen = -1
            while seen != len(self.world.events):
                seen = len(self.world.events)
                for supervisor in self._supervisors():
                    while await self._restarting(supervisor):
                        seen = -1
            if not any(self._is_orphan(process) for process in self.world.alive()):
                return
            await asyncio.sleep(ORPHAN_STEP)

    async def _restarting(self, supervisor: Process) -> bool:
        try:
            children = await self._call(supervisor.address, WhichChildren())
        except CallError:
            return False
        return any(child.state == "restarting" for child in children)

    def _is_orphan(self, process: Process) -> bool:
        cell = process.parent.cell if process.parent is not None else None
        return cell is None or not cell.alive

    async def _observe(self, op: str, ret: Json = None) -> dict[str, Json]:
        await self._settle()
        world, killed = self.world, self.killed
        seen: dict[str, Json] = {"op": op}
        if ret is not None:
            seen["ret"] = ret
        seen["events"] = canonical_events(world.events, killed)
        if world.reports:
            seen["reports"] = canonical_reports(world.reports, killed)
        world.events, world.reports, self.killed = [], [], []
        seen["alive"] = {process.id: process.number for process in world.alive() if process.kind == "worker"}
        top_cell = self.top.cell if self.top is not None else None
        if top_cell is None or not top_cell.alive:
            seen["top"] = ["down", self.top_reason if top_cell is None else to_json(top_cell.reason)]
            return seen
        seen["top"] = "up"
        seen["children"], seen["counts"] = {}, {}
        for supervisor in self._supervisors():
            rows = await self._call(supervisor.address, WhichChildren())
            seen["children"][supervisor.id] = self._rows(supervisor, rows)
            seen["counts"][supervisor.id] = self._counts(await self._call(supervisor.address, CountChildren()))
        return seen
