"""The processes of a scenario: workers and supervisors that do what it says and tell what happens.

Events are noted at the moment they happen, on the engine's thread, so their order is the real one.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from dspex.runtime.address import LocalAddress
from dspex.runtime.child_spec import ChildSpec
from dspex.runtime.engine import Engine
from dspex.runtime.gen_server import Exit, GenServer, Ignored, Info, Started, StartFailed, call, cast
from dspex.runtime.reasons import Crash, Reason
from dspex.supervisors.dynamic_supervisor import DynamicSupervisor
from dspex.supervisors.reports import REPORT_EVENT
from dspex.supervisors.simple import SimpleSupervisor
from dspex.supervisors.supervisor import Supervisor

Json = Any


@dataclass
class Process:
    """One incarnation of one id."""

    id: str
    number: int
    address: LocalAddress
    kind: str
    parent: LocalAddress | None
    stopped_with: Any = None
    """The parallel stop that may end it: its simple_one_for_one incarnation, or any dynamic supervisor's."""

    @property
    def alive(self) -> bool:
        """Whether it runs."""
        cell = self.address.cell
        return cell is not None and cell.alive

    @property
    def label(self) -> str:
        """``id#incarnation``."""
        return f"{self.id}#{self.number}"


@dataclass
class Noted:
    """One event, with the process it is about."""

    event: list[Json]
    process: Process | None = None


@dataclass
class NotedReport:
    """One supervisor report, with the supervisor that made it."""

    report: list[Json]
    supervisor: LocalAddress


@dataclass
class World:
    """What the runner knows of a scenario's processes."""

    engine: Engine
    events: list[Noted] = field(default_factory=list)
    reports: list[NotedReport] = field(default_factory=list)
    processes: dict[LocalAddress, Process] = field(default_factory=dict)
    latest: dict[str, Process] = field(default_factory=dict)
    attempts: Counter[str] = field(default_factory=Counter)
    incarnations: Counter[str] = field(default_factory=Counter)

    def __post_init__(self) -> None:
        self.engine.telemetry.attach("conformance", REPORT_EVENT, self._on_report)

    def _on_report(self, event: Any, measurements: Any, metadata: Mapping[str, Any], config: Any) -> None:
        child = metadata["child"]
        last = self.processes.get(child.address)
        name: Json = last.id if last is not None else child.id
        if child.count is not None:
            name = ["nb_children", child.count]
        supervisor = metadata["address"]
        label = self.processes[supervisor].id
        self.reports.append(NotedReport([metadata["kind"], label, name, to_json(metadata["reason"])], supervisor))

    def began(self, actor: GenServer, id: str, kind: str) -> None:
        """A process runs; be told of its end."""
        self.incarnations[id] += 1
        address = actor._myRef.address
        parent = actor._myRef.parent
        process = Process(id, self.incarnations[id], address, kind, parent.address if parent is not None else None)
        above = self.processes.get(process.parent) if process.parent is not None else None
        if above is not None and above.kind in ("simple", "dynamic"):
            process.stopped_with = above.address if above.kind == "simple" else "dynamic"
        self.processes[address] = self.latest[id] = process
        worker = kind == "worker"
        self.note(["start" if worker else "sup_start", id, process.number], process)

        def ended(address: LocalAddress | None, reason: Reason) -> None:
            self.note(["stop" if worker else "sup_stop", id, process.number, to_json(reason)], process)

        actor._myRef.watch(self.engine.next_number(), ended)

    def note(self, event: list[Json], process: Process | None = None) -> None:
        """Something happened."""
        self.events.append(Noted(event, process))

    def alive(self) -> list[Process]:
        """The processes that run, oldest first."""
        return [process for process in self.processes.values() if process.alive]

    def below(self, address: LocalAddress) -> list[Process]:
        """The processes that run below a supervisor."""
        found = {address: None}
        members = []
        for process in self.processes.values():
            if process.parent in found and process.alive:
                found[process.address] = None
                members.append(process)
        return members


@dataclass(frozen=True)
class End:
    """To a worker: end by yourself."""

    reason: Reason


class Worker(GenServer):
    """A worker that traps exits."""

    trap_exit = True

    def init(self, world: World, definition: Mapping[str, Any], id: str, says: str) -> Info | None:
        self.on_shutdown: Mapping[str, Any] = definition.get("on_shutdown", {})
        self.by_itself = False
        world.began(self, id, "worker")
        return Info("info") if says == "ok_info" else None

    @cast
    def end(self, message: End) -> None:
        self.by_itself = True
        raise Exit(message.reason)

    async def terminate(self, reason: Reason) -> None:
        mode = self.on_shutdown.get("mode", "trap")
        if self.by_itself:
            return
        if mode == "odd":
            raise Exit(from_json(self.on_shutdown.get("reason", "odd")))
        if mode == "slow":
            await asyncio.sleep(self.on_shutdown["ms"] / 1000)
        if mode == "stubborn":
            await asyncio.Event().wait()


class NoTrapWorker(Worker):
    """One that dies at once of a signal."""

    trap_exit = False


async def start_worker(
    start_link: Any, world: World, definition: Mapping[str, Any], instance: str | None = None
) -> Started | Ignored | StartFailed | str:
    """A worker's start function: does what the scenario says for this attempt."""
    id = instance or definition["id"]
    world.attempts[id] += 1
    attempt = world.attempts[id]
    says = action(definition.get("start", {}), attempt)
    if says == "ignore":
        world.note(["start_ignore", id, attempt])
        return Ignored()
    if says in ("ok", "ok_info"):
        mode = definition.get("on_shutdown", {}).get("mode")
        cls = NoTrapWorker if mode == "no_trap" else Worker
        outcome: Started | Ignored | StartFailed = await start_link(cls, world, definition, id, says)
        return outcome
    world.note(["start_error", id, attempt])
    if says == "raise":
        raise ValueError("raised")
    if says == "exit":
        raise Exit("exited")
    return {"error": StartFailed("boom"), "error_shutdown": StartFailed("shutdown")}.get(says, "bad_value")


def action(start: Mapping[str, Any], attempt: int) -> str:
    """What a start function does at an attempt: ``at`` wins over ``from`` over ``default``."""
    at: str | None = start.get("at", {}).get(str(attempt))
    since = start.get("from")
    if at is None and since is not None and attempt >= since[0]:
        at = since[1]
    return at or start.get("default", "ok")


class StaticSupervisor(Supervisor):
    """The static supervisor, telling of its boot."""

    async def init(self, world: World, id: str, **options: Any) -> Any:  # type: ignore[override]
        world.began(self, id, "static")
        return await super().init(**options)


class Dynamic(DynamicSupervisor):
    """The dynamic supervisor, telling of its boot."""

    def init(self, world: World, id: str, **options: Any) -> Any:  # type: ignore[override]
        world.began(self, id, "dynamic")
        return super().init(**options)


class Simple(SimpleSupervisor):
    """The simple_one_for_one supervisor, telling of its boot."""

    def init(self, world: World, id: str, **options: Any) -> Any:  # type: ignore[override]
        world.began(self, id, "simple")
        return super().init(**options)


def child_mapping(world: World, definition: Mapping[str, Any]) -> dict[str, Any]:
    """A child of a scenario as a child spec in OTP's map form."""
    if "raw" in definition:
        raw = dict(definition["raw"])
        if isinstance(raw.get("start"), list):
            raw["start"] = (start_worker, (world, definition))
        return raw
    keys = ("id", "type", "restart", "significant")
    mapping = {key: definition[key] for key in keys if key in definition}
    shutdown = definition.get("shutdown")
    if shutdown is not None:
        mapping["shutdown"] = shutdown / 1000 if isinstance(shutdown, (int, float)) else shutdown
    if definition["type"] == "worker":
        return {**mapping, "start": (start_worker, (world, definition))}
    cls, options = supervisor_class(world, definition)
    return {**mapping, "start": (cls, (world, definition["id"]), options)}


def supervisor_class(world: World, definition: Mapping[str, Any]) -> tuple[type[GenServer], dict[str, Any]]:
    """Which class a scenario's supervisor is, and its options."""
    intensity = {"max_restarts": definition["intensity"], "max_seconds": definition["period"]}
    children = tuple(child_mapping(world, child) for child in definition["children"])
    if definition["strategy"] == "dynamic":
        return Dynamic, {**intensity, "max_children": definition.get("max_children")}
    auto_shutdown = definition.get("auto_shutdown", "never")
    if definition["strategy"] == "simple_one_for_one":
        return Simple, {**intensity, "template": children, "auto_shutdown": auto_shutdown}
    options = {"children": children, "strategy": definition["strategy"], "auto_shutdown": auto_shutdown}
    return StaticSupervisor, {**intensity, **options}


@dataclass(frozen=True)
class Boot:
    """To the parent of ``top``: start it."""

    world: World
    definition: Mapping[str, Any]


@dataclass(frozen=True)
class Signal:
    """Send an exit signal."""

    to: LocalAddress
    reason: Reason


class Parent(GenServer):
    """The parent of ``top``, and, a second one, a stranger to everybody."""

    trap_exit = True

    @call
    async def boot(self, message: Boot) -> Started | Ignored | StartFailed:
        cls, options = supervisor_class(message.world, message.definition)
        return await self.spawn_link(cls, message.world, message.definition["id"], **options)

    @call
    def signal(self, message: Signal) -> None:
        self.exit(message.to, message.reason)

    def unhandled(self, message: Any) -> None:
        """Exits of ``top`` are seen by the recorder."""


def to_json(reason: Reason) -> Json:
    """A reason as the traces write it."""
    if isinstance(reason, Crash):
        return [str(reason.error), "$stack"]
    if isinstance(reason, ChildSpec):
        return "$spec"
    if isinstance(reason, (tuple, list)):
        if len(reason) == 2 and reason[0] == "bad_start_spec":
            return ["bad_start_spec", "$specs"]
        return [to_json(each) for each in reason]
    return reason


def from_json(reason: Json) -> Reason:
    """A reason from a scenario."""
    return tuple(from_json(each) for each in reason) if isinstance(reason, list) else reason
