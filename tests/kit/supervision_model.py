"""A supervision tree as a pure model: what runs, in which incarnation, in which order all comes about, who trips.

It knows nothing of the engine: lists of children, and OTP's rules as its manual words them. Each operation happens
as a whole: what follows from it at the same moment (restarts, retries, trips, what they do further up) is in it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any, Literal

Restart = Literal["permanent", "transient", "temporary"]
Strategy = Literal["one_for_one", "one_for_all", "rest_for_one", "dynamic"]
AutoShutdown = Literal["never", "any_significant", "all_significant"]
Outcome = Literal["started", "ignored", "failed"]
State = Literal["running", "undefined"]


@dataclass(frozen=True)
class WorkerSpec:
    """A worker. ``brutal``: it is killed, not asked to stop."""

    key: str
    restart: Restart = "permanent"
    brutal: bool = False
    significant: bool = False


@dataclass(frozen=True)
class SupSpec:
    """A supervisor with the children it boots with (a dynamic one has none)."""

    key: str
    strategy: Strategy
    max_restarts: int = 3
    max_seconds: float = 5.0
    children: tuple[Spec, ...] = ()
    restart: Restart = "permanent"
    significant: bool = False
    auto_shutdown: AutoShutdown = "never"
    max_children: int | None = None


Spec = WorkerSpec | SupSpec


@dataclass(frozen=True)
class Together:
    """Parts of the log that come about at the same time, each in its own order."""

    parts: tuple[tuple[Entry, ...], ...]


Entry = tuple[str, str] | Together


@dataclass(eq=False)
class Sup:
    """One incarnation of a supervisor."""

    spec: SupSpec
    above: Child | None
    children: list[Child] = field(default_factory=list)
    restarts: list[float] = field(default_factory=list)

    def find(self, key: str) -> Child | None:
        """The child with this key."""
        return next((child for child in self.children if child.spec.key == key), None)


@dataclass(eq=False)
class Child:
    """A child in its supervisor's list; ``sup`` is the one that runs, if it is a supervisor."""

    spec: Spec
    inside: Sup | None
    state: State = "undefined"
    sup: Sup | None = None


class Model:
    """The tree, and what became of it.

    Attributes:
        now: seconds; whoever drives the model sets it.
        plans: outcomes of the next starts of a worker, by key; without one it starts.
        log: starts, failed starts and stops of workers, in order.
        incarnations: how often each worker or supervisor has started.
        trips: (supervisor, child) of each restart that was one too many.
    """

    def __init__(self, root: SupSpec) -> None:
        self.now = 0.0
        self.plans: dict[str, list[Outcome]] = {}
        self.log: list[Entry] = []
        self.incarnations: Counter[str] = Counter()
        self.trips: list[tuple[str, str]] = []
        self.root = Child(root, None)
        assert self._start(self.root) == "started"

    # -- what is ---------------------------------------------------------------------------------

    def running(self) -> Iterator[Child]:
        """All that run, the root first."""
        yield from _running(self.root)

    def supervisor(self, key: str) -> Sup:
        """The supervisor with this key; it must run."""
        sup = next(child.sup for child in self.running() if child.spec.key == key)
        assert sup is not None
        return sup

    # -- what happens ----------------------------------------------------------------------------

    def end(self, key: str, reason: Any) -> None:
        """A worker ends by itself; ``killed`` leaves it no time for its last words."""
        child = self._find(key)
        if reason != "killed":
            self.log.append(("stop", key))
        self._ended(child, reason)

    def kill(self, key: str) -> None:
        """A supervisor is killed; those below it die too, in no order (the log says nothing of their stops)."""
        self._ended(self._find(key), "killed")

    def start_child(self, key: str, spec: Spec) -> str:
        """The answer to start_child."""
        sup = self.supervisor(key)
        known = sup.find(spec.key)
        if sup.spec.strategy == "dynamic":
            if sup.spec.max_children is not None and len(sup.children) >= sup.spec.max_children:
                return "max_children"
        elif known is not None:
            return "already_started" if known.state == "running" else "already_present"
        child = Child(spec, sup)
        outcome = self._start(child)
        kept = outcome == "started" or (
            outcome == "ignored" and spec.restart != "temporary" and sup.spec.strategy != "dynamic"
        )
        if kept:
            sup.children.append(child)
        return outcome

    def terminate_child(self, key: str, child_key: str) -> str:
        """The answer to terminate_child."""
        sup = self.supervisor(key)
        child = sup.find(child_key)
        if child is None:
            return "not_found"
        self._stop(child)
        self._down(child)
        return "ok"

    def restart_child(self, key: str, child_key: str) -> str:
        """The answer to restart_child."""
        child = self.supervisor(key).find(child_key)
        if child is None:
            return "not_found"
        if child.state == "running":
            return "running"
        outcome = self._start(child)
        if outcome == "ignored":
            self._down(child)
        return outcome

    def delete_child(self, key: str, child_key: str) -> str:
        """The answer to delete_child."""
        sup = self.supervisor(key)
        child = sup.find(child_key)
        if child is None:
            return "not_found"
        if child.state == "running":
            return "running"
        sup.children.remove(child)
        return "ok"

    # -- starts and stops ------------------------------------------------------------------------

    def _start(self, child: Child) -> Outcome:
        spec = child.spec
        if isinstance(spec, WorkerSpec):
            plan = self.plans.get(spec.key)
            outcome: Outcome = plan.pop(0) if plan else "started"
            self.log.append(("start" if outcome == "started" else outcome, spec.key))
        else:
            outcome = self._boot(child, spec)
        if outcome == "started":
            child.state = "running"
            self.incarnations[spec.key] += 1
        return outcome

    def _boot(self, child: Child, spec: SupSpec) -> Outcome:
        sup = Sup(spec, child)
        sup.children = [Child(each, sup) for each in spec.children]
        for each in tuple(sup.children):
            outcome = self._start(each)
            if outcome == "failed":
                self._stop_all(sup)
                return "failed"
            if outcome == "ignored":
                self._down(each)
        child.sup = sup
        return "started"

    def _stop(self, child: Child) -> None:
        if child.state != "running":
            return
        child.state = "undefined"
        if child.sup is not None:
            sup, child.sup = child.sup, None
            self._stop_all(sup)
        elif isinstance(child.spec, WorkerSpec) and not child.spec.brutal:
            self.log.append(("stop", child.spec.key))

    def _stop_all(self, sup: Sup) -> None:
        if sup.spec.strategy != "dynamic":
            for child in reversed(sup.children):
                self._stop(child)
            return
        before, parts = self.log, list[tuple[Entry, ...]]()
        for child in sup.children:
            self.log = []
            self._stop(child)
            parts.append(tuple(self.log))
        self.log = before
        self.log.append(Together(tuple(parts)))

    # -- ends and restarts -----------------------------------------------------------------------

    def _ended(self, child: Child, reason: Any) -> None:
        child.state, child.sup = "undefined", None
        sup = child.inside
        if sup is None:
            return
        wordless = reason in ("normal", "shutdown") or (isinstance(reason, tuple) and reason[0] == "shutdown")
        if child.spec.restart == "permanent" or (child.spec.restart == "transient" and not wordless):
            self._restart(sup, child)
            return
        self._down(child)
        if child.spec.significant and sup.spec.auto_shutdown != "never":
            others = any(each.spec.significant and each.state == "running" for each in sup.children)
            if sup.spec.auto_shutdown == "any_significant" or not others:
                self._end_supervisor(sup)

    def _down(self, child: Child) -> None:
        """It stays down: a temporary child is forgotten, and so is every one of a dynamic supervisor."""
        sup = child.inside
        child.state = "undefined"
        if sup is not None and (child.spec.restart == "temporary" or sup.spec.strategy == "dynamic"):
            sup.children = [each for each in sup.children if each is not child]

    def _restart(self, sup: Sup, child: Child) -> None:
        """Restart, and again while a start fails, until it is one too many."""
        failed: Child | None = child
        while failed is not None:
            sup.restarts = [at for at in sup.restarts if self.now - at <= sup.spec.max_seconds] + [self.now]
            if len(sup.restarts) > sup.spec.max_restarts:
                self.trips.append((sup.spec.key, failed.spec.key))
                self._down(failed)
                self._end_supervisor(sup)
                return
            failed = self._start_group(sup, self._group(sup, failed), failed)

    def _group(self, sup: Sup, failed: Child) -> list[Child]:
        if sup.spec.strategy == "one_for_all":
            return list(sup.children)
        if sup.spec.strategy == "rest_for_one":
            return sup.children[sup.children.index(failed) :]
        return [failed]

    def _start_group(self, sup: Sup, group: list[Child], failed: Child) -> Child | None:
        """Stop a group backwards, start it forwards; the child whose start failed, if one did."""
        for child in reversed(group):
            self._stop(child)
        for child in group:
            if child.spec.restart == "temporary" and child is not failed:
                self._down(child)
                continue
            outcome = self._start(child)
            if outcome == "failed":
                return child
            if outcome == "ignored":
                self._down(child)
        return None

    def _end_supervisor(self, sup: Sup) -> None:
        self._stop_all(sup)
        assert sup.above is not None
        self._ended(sup.above, "shutdown")

    def _find(self, key: str) -> Child:
        return next(child for child in self.running() if child.spec.key == key)


def _running(child: Child) -> Iterator[Child]:
    if child.state == "running":
        yield child
        for below in child.sup.children if child.sup is not None else ():
            yield from _running(below)


def difference(expected: Iterable[Entry], got: list[tuple[str, str]]) -> str | None:
    """Where a real log is not as expected, as text; None if it is."""
    place = 0
    for entry in expected:
        if not isinstance(entry, Together):
            have = got[place] if place < len(got) else None
            if have != entry:
                return f"entry {place}: expected {entry}, got {have} in {got}"
            place += 1
            continue
        size = sum(map(_size, entry.parts))
        for part in entry.parts:
            keys = set(_keys(part))
            found = difference(part, [each for each in got[place : place + size] if each[1] in keys])
            if found is not None:
                return f"entries {place} to {place + size}: {found}"
        place += size
    return None if place == len(got) else f"entry {place}: expected no more, got {got[place:]}"


def _size(entries: Iterable[Entry]) -> int:
    return sum(sum(map(_size, each.parts)) if isinstance(each, Together) else 1 for each in entries)


def _keys(entries: Iterable[Entry]) -> Iterator[str]:
    for entry in entries:
        if isinstance(entry, Together):
            for part in entry.parts:
                yield from _keys(part)
        else:
            yield entry[1]
