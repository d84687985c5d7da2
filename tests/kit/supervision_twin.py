"""A real supervision tree in virtual time beside its model: each operation is done to both, then they are compared."""

from __future__ import annotations

import itertools
import random
from collections import Counter
from collections.abc import Iterator
from typing import Any

from dspex.runtime.address import LocalAddress
from dspex.runtime.child_spec import ChildSpec, StartChild
from dspex.runtime.errors import AlreadyStarted, StartError, SupervisorError
from dspex.runtime.gen_server import Exit, GenServer, Ignore, Ignored, cast
from dspex.runtime.testing import VirtualSystem
from dspex.supervisors.dynamic_supervisor import DynamicSupervisor
from dspex.supervisors.messages import DeleteChild, RestartChild, TerminateChild, WhichChildren
from dspex.supervisors.supervisor import Supervisor
from kit.supervision import End
from kit.supervision_model import AutoShutdown, Model, Outcome, Spec, Strategy, Sup, SupSpec, WorkerSpec, difference

REASONS: tuple[Any, ...] = ("normal", "shutdown", ("shutdown", "done"), "boom", "killed")
OUTCOMES: tuple[Outcome, ...] = ("failed", "failed", "ignored", "started")
STRATEGIES: tuple[Strategy, ...] = ("one_for_one", "one_for_all", "rest_for_one")
AUTO_SHUTDOWNS: tuple[AutoShutdown, ...] = ("never", "never", "any_significant", "all_significant")


class World:
    """What the members of a real tree share with their test."""

    def __init__(self) -> None:
        self.log: list[tuple[str, str]] = []
        self.plans: dict[str, list[Outcome]] = {}
        self.started: list[tuple[str, LocalAddress]] = []


class Member(GenServer):
    """A worker that writes down its life, starts as planned and ends as told."""

    trap_exit = True

    def init(self, key: str, world: World) -> Ignore | None:
        self.key, self.world = key, world
        plan = world.plans.get(key)
        outcome = plan.pop(0) if plan else "started"
        world.log.append(("start" if outcome == "started" else outcome, key))
        if outcome == "failed":
            raise Exit("boom")
        if outcome == "ignored":
            return Ignore()
        assert isinstance(self.myAddress, LocalAddress)
        world.started.append((key, self.myAddress))
        return None

    @cast
    def end(self, message: End) -> None:
        raise Exit(message.reason)

    def terminate(self, reason: Any) -> None:
        self.world.log.append(("stop", self.key))


class Twin:
    """A tree and its model. After each operation they are compared; a difference is an AssertionError."""

    def __init__(self, system: VirtualSystem, root: SupSpec) -> None:
        self.system, self.world, self.model = system, World(), Model(root)
        self.model.now = system.now
        self._keys = (f"new{number}" for number in itertools.count())
        self._names = set[str]()
        spec = self._spec(root)
        assert isinstance(spec.start, type)
        system.spawn(spec.start, name=spec.name, **spec.kwargs)
        self._compare()

    # -- what there is ---------------------------------------------------------------------------

    @property
    def workers(self) -> list[str]:
        """Keys of running workers."""
        return [child.spec.key for child in self.model.running() if isinstance(child.spec, WorkerSpec)]

    @property
    def supervisors(self) -> list[str]:
        """Keys of running supervisors, the root's first."""
        return [child.spec.key for child in self.model.running() if isinstance(child.spec, SupSpec)]

    def children(self, sup: str) -> list[str]:
        """Keys of a supervisor's children, and one of nobody."""
        return [*(child.spec.key for child in self.model.supervisor(sup).children), "nobody"]

    def new_key(self) -> str:
        """A key nobody has."""
        return next(self._keys)

    # -- operations ------------------------------------------------------------------------------

    def plan(self, key: str, outcomes: list[Outcome]) -> None:
        """What the next starts of a worker come to."""
        self.world.plans[key], self.model.plans[key] = list(outcomes), list(outcomes)

    def advance(self, seconds: float) -> None:
        """Time passes."""
        self.system.advance(seconds)
        self.model.now = self.system.now
        self._compare()

    def end(self, key: str, reason: Any) -> None:
        """A worker ends."""
        if reason == "killed":
            self.system.kill(f"w/{key}")
        else:
            self.system.cast(f"w/{key}", End(reason))
        self.model.end(key, reason)
        self._compare()

    def kill_supervisor(self, key: str) -> None:
        """A supervisor is killed; in which order those below it end, nobody promises."""
        self.system.kill(f"s/{key}")
        self.model.kill(key)
        self.model.log = [entry for entry in self.model.log if isinstance(entry, tuple) and entry[0] != "stop"]
        self.world.log = [entry for entry in self.world.log if entry[0] != "stop"]
        self._compare()

    def start_child(self, sup: str, spec: Spec) -> None:
        """start_child."""
        self._answers(sup, StartChild(self._spec(spec)), self.model.start_child(sup, spec))

    def terminate_child(self, sup: str, key: str) -> None:
        """terminate_child."""
        dynamic = self.model.supervisor(sup).spec.strategy == "dynamic"
        child = self.model.supervisor(sup).find(key)
        letter = "s" if child is not None and isinstance(child.spec, SupSpec) else "w"
        message = TerminateChild(f"{letter}/{key}" if dynamic else key)
        self._answers(sup, message, self.model.terminate_child(sup, key))

    def restart_child(self, sup: str, key: str) -> None:
        """restart_child; of static supervisors only."""
        if self.model.supervisor(sup).spec.strategy != "dynamic":
            self._answers(sup, RestartChild(key), self.model.restart_child(sup, key))

    def delete_child(self, sup: str, key: str) -> None:
        """delete_child; of static supervisors only."""
        if self.model.supervisor(sup).spec.strategy != "dynamic":
            self._answers(sup, DeleteChild(key), self.model.delete_child(sup, key))

    def _answers(self, sup: str, message: Any, expected: str) -> None:
        try:
            answer = self.system.call(f"s/{sup}", message, timeout=None)
        except AlreadyStarted:
            got = "already_started"
        except StartError:
            got = "failed"
        except SupervisorError as error:
            got = error.reason
        else:
            got = "ok" if answer is None else "ignored" if isinstance(answer, Ignored) else "started"
        assert got == expected, f"{message}: expected {expected!r}, got {got!r}"
        self.system.settle()
        self._compare()

    # -- the real tree ---------------------------------------------------------------------------

    def _spec(self, spec: Spec) -> ChildSpec:
        if isinstance(spec, WorkerSpec):
            name = f"w/{spec.key}"
            self._names.add(name)
            shutdown = "brutal_kill" if spec.brutal else None
            return ChildSpec(
                spec.key,
                Member,
                (spec.key, self.world),
                restart=spec.restart,
                shutdown=shutdown,  # type: ignore[arg-type]
                significant=spec.significant,
                name=name,
            )
        name = f"s/{spec.key}"
        self._names.add(name)
        options: dict[str, Any] = {"max_restarts": spec.max_restarts, "max_seconds": spec.max_seconds}
        options |= {"restart": spec.restart, "significant": spec.significant, "name": name}
        if spec.strategy == "dynamic":
            return DynamicSupervisor.child_spec(spec.key, max_children=spec.max_children, **options)
        children = [self._spec(child) for child in spec.children]
        flags: dict[str, Any] = {"strategy": spec.strategy, "auto_shutdown": spec.auto_shutdown}
        return Supervisor.child_spec(spec.key, children, **flags, **options)

    # -- the comparison --------------------------------------------------------------------------

    def _compare(self) -> None:
        found = difference(self.model.log, self.world.log)
        assert found is None, f"log: {found}"
        self.model.log, self.world.log = [], []
        trips = [(each.supervisor, each.child) for each in self.system.decisions if each.kind == "shutdown"]
        assert trips == [(f"s/{sup}", key) for sup, key in self.model.trips]
        self._compare_names()
        self._compare_incarnations()
        if self.model.root.sup is not None:
            self._compare_rows(self.model.root.sup)

    def _compare_names(self) -> None:
        running = {f"w/{key}" for key in self.workers} | {f"s/{key}" for key in self.supervisors}
        for name in sorted(self._names):
            state = self.system.state(name)
            wanted = ("running",) if name in running else ("dead", "unknown")
            assert state in wanted, f"{name} is {state}, expected it to be {' or '.join(wanted)}"

    def _compare_incarnations(self) -> None:
        alive = {key: address for key, address in self.world.started if self.system.engine.alive(address)}
        assert sorted(alive) == sorted(self.workers), "who lives"
        started = Counter(key for key, _ in self.world.started)
        last = dict(self.world.started)
        for key, address in alive.items():
            assert started[key] == self.model.incarnations[key], f"incarnation of {key}"
            assert address == last[key] == self.system.address(f"w/{key}"), f"address of {key}"

    def _compare_rows(self, sup: Sup) -> None:
        rows = self.system.call(f"s/{sup.spec.key}", WhichChildren(), timeout=None)
        got = [(row.name.partition("/")[2], row.state) for row in reversed(rows)]
        wanted = [(child.spec.key, child.state) for child in sup.children]
        if sup.spec.strategy == "dynamic":  # which has no order
            got, wanted = sorted(got), sorted(wanted)
        assert got == wanted, f"children of {sup.spec.key}"
        for child in sup.children:
            if child.sup is not None:
                self._compare_rows(child.sup)


# -- at random -----------------------------------------------------------------------------------


def grow(lots: random.Random, depth: int = 2) -> SupSpec:
    """A random tree: a static root, below it workers and supervisors, so many levels of them."""
    keys = (f"k{number}" for number in itertools.count())
    return _grow_static(lots, keys, depth, {"max_restarts": lots.randint(1, 5)})


def grow_child(lots: random.Random, key: str) -> Spec:
    """A random child to be started later: mostly a worker, now and then a small tree."""
    if lots.random() < 0.75:
        return WorkerSpec(key, lots.choice(("permanent", "transient", "temporary")), lots.random() < 0.2)
    keys = (f"{key}.{number}" for number in itertools.count())
    return _grow_static(lots, keys, 0, {"restart": lots.choice(("permanent", "transient", "temporary"))})


def _grow_static(lots: random.Random, keys: Iterator[str], depth: int, given: dict[str, Any]) -> SupSpec:
    auto = lots.choice(AUTO_SHUTDOWNS)
    key = next(keys)
    children = tuple(_grow_member(lots, keys, depth, auto) for _ in range(lots.randint(1, 4)))
    options: dict[str, Any] = {"max_restarts": lots.randint(0, 3), "max_seconds": lots.choice((0.5, 2.0, 5.0)), **given}
    return SupSpec(key, lots.choice(STRATEGIES), children=children, auto_shutdown=auto, **options)


def _grow_member(lots: random.Random, keys: Iterator[str], depth: int, auto: str) -> Spec:
    restart = lots.choice(("permanent", "permanent", "transient", "temporary"))
    significant = auto != "never" and restart != "permanent" and lots.random() < 0.7
    given: dict[str, Any] = {"restart": restart, "significant": significant}
    kind = lots.random() if depth else 0.0
    if kind < 0.6:
        return WorkerSpec(next(keys), brutal=lots.random() < 0.2, **given)
    if kind < 0.8:
        limit = lots.choice((None, 1, 3))
        return SupSpec(next(keys), "dynamic", max_restarts=lots.randint(0, 3), max_children=limit, **given)
    return _grow_static(lots, keys, depth - 1, given)


def step(twin: Twin, lots: random.Random) -> None:
    """One random operation; nothing once the root has ended."""
    sups, workers = twin.supervisors, twin.workers
    if not sups:
        return
    sup = lots.choice(sups)
    what = lots.random()
    if what < 0.4 and workers:
        key = lots.choice(workers)
        if lots.random() < 0.3:
            twin.plan(key, [lots.choice(OUTCOMES) for _ in range(lots.randint(1, 3))])
        twin.end(key, lots.choice(REASONS))
    elif what < 0.55:
        twin.start_child(sup, grow_child(lots, twin.new_key()))
    elif what < 0.6 and sup != sups[0]:
        twin.kill_supervisor(sup)
    elif what < 0.85:
        operation = lots.choice((twin.terminate_child, twin.restart_child, twin.delete_child))
        operation(sup, lots.choice(twin.children(sup)))
    else:
        twin.advance(lots.choice((0.5, 1.0, 2.0, 5.5)))
