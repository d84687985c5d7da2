"""The name table: states, incarnations, namespaces, metadata, and what becomes of names whose owner is gone."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Any

import pytest

from dspex.runtime.address import LocalAddress
from dspex.runtime.errors import NoProcess, UsageError
from dspex.runtime.gen_server import GenServer, Started, call, info
from dspex.runtime.messages import ExitSignal
from dspex.runtime.names import MAX_DEAD, NameTable, qualify
from kit.engine import Lab, Probe, in_lab


@dataclass(frozen=True)
class Spawn:
    cls: type[Any]
    options: dict[str, Any]
    args: tuple[Any, ...] = ()


@dataclass(frozen=True)
class GiveUp:
    address: Any


class Owner(GenServer):
    """Starts children with names; brings none back unless told."""

    trap_exit = True

    def init(self) -> None:
        self.lost: list[Any] = []

    @call
    async def spawn(self, message: Spawn) -> Any:
        return await self.spawn_link(message.cls, *message.args, **message.options)

    @call
    def forget(self, message: GiveUp) -> None:
        self.give_up(message.address)

    @info
    def ended(self, message: ExitSignal) -> None:
        self.lost.append(message)


class Rebuilder(Owner):
    rebuilds = True


def state(lab: Lab, name: str) -> str:
    """A name's state."""
    entry = lab.engine.names.get(name)
    return "unknown" if entry is None else entry.state


async def child(lab: Lab, parent: Any, cls: type[Any] = Probe, **options: Any) -> Any:
    """Have ``parent`` start a child; its address."""
    outcome = await lab.call(parent, Spawn(cls, options))
    assert isinstance(outcome, Started), outcome
    return outcome.address


# -- the table itself ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("namespace", "name", "expected"),
    [
        ("", "module/qa", "module/qa"),
        ("t1", "module/qa", "t1:module/qa"),
        ("t1", "t2:module/qa", "t2:module/qa"),
        ("t1", ":module/qa", "module/qa"),
        ("", ":module/qa", "module/qa"),
        ("t1", "core/events", "core/events"),
        ("t1", "observers/telemetry", "observers/telemetry"),
        ("t1", "corex/events", "t1:corex/events"),
    ],
)
def test_qualified_names(namespace: str, name: str, expected: str) -> None:
    """A name is looked up in its actor's namespace, unless it says another, or its kind is shared by all."""
    assert qualify(namespace, name) == expected


def test_the_parts_of_a_name() -> None:
    """Namespace, kind and id of a name, where it has them."""

    async def test(lab: Lab) -> None:
        names = lab.engine.names
        address = await lab.start(Probe)
        parts = {}
        for name in ("t1:module/qa", "module/qa", "plain"):
            entry = names.begin(name, address)
            parts[name] = (entry.namespace, entry.kind, entry.id)
        assert parts == {
            "t1:module/qa": ("t1", "module", "qa"),
            "module/qa": ("", "module", "qa"),
            "plain": ("", "", "plain"),
        }

    in_lab(test)


def test_incarnations_and_restarts_are_counted() -> None:
    """Each new actor of a name is an incarnation; one that follows restarting or backing_off is a restart."""

    async def test(lab: Lab) -> None:
        names = lab.engine.names
        address = await lab.start(Probe)
        assert names.begin("a/b", address)[1:3] == ("starting", 1)
        names.set_state("a/b", "running")
        names.set_state("a/b", "restarting", "why")
        names.begin("a/b", address)
        names.set_state("a/b", "dead", "for good")
        entry = names.begin("a/b", address)
        assert (entry.incarnation, entry.restarts, entry.reason) == (3, 1, "for good")

    in_lab(test)


def test_metadata_outlives_its_actor() -> None:
    """Metadata merges, can be replaced, and survives incarnations; of an unknown name it is refused."""

    async def test(lab: Lab) -> None:
        names = lab.engine.names
        address = await lab.start(Probe, name="a/b")
        names.set_metadata("a/b", {"x": 1, "y": 1})
        names.set_metadata("a/b", {"y": 2})
        lab.engine.kill(address)
        await lab.start(Probe, name="a/b")
        assert names.metadata("a/b") == {"x": 1, "y": 2}
        names.set_metadata("a/b", {"z": 3}, replace=True)
        assert names.metadata("a/b") == {"z": 3}
        assert names.metadata("no/body") == {}
        with pytest.raises(UsageError, match="'no/body'"):
            names.set_metadata("no/body", {})

    in_lab(test)


def test_watchers_see_every_change_and_may_fail() -> None:
    """A subscriber is told of each change in order, until it unsubscribes; one that raises harms nobody."""

    async def test(lab: Lab) -> None:
        names = lab.engine.names
        seen: list[Any] = []

        def fail(entry: Any, change: str) -> None:
            raise ValueError("a bug of the watcher's")

        names.subscribe(fail)
        stop = names.subscribe(lambda entry, change: seen.append((entry.name, change, entry.state)))
        address = await lab.start(Probe, name="a/b")
        lab.engine.kill(address)
        names.drop("a/b")
        assert seen == [
            ("a/b", "bound", "starting"),
            ("a/b", "state", "running"),
            ("a/b", "state", "dead"),
            ("a/b", "dropped", "dead"),
        ]
        stop()
        await lab.start(Probe, name="a/b")
        assert len(seen) == 4

    in_lab(test)


def test_dead_names_are_bounded() -> None:
    """Of dead names the last 10,000 are kept."""
    table = NameTable(lambda: 0.0)
    for number in range(MAX_DEAD + 10):
        table.begin(f"n/{number}", None)  # type: ignore[arg-type]
        table.set_state(f"n/{number}", "dead")
    assert len(list(table.entries())) == MAX_DEAD
    assert table.get("n/9") is None
    assert table.get("n/10") is not None


# -- names of actors ----------------------------------------------------------------------------------------


def test_the_name_of_an_unsupervised_actor() -> None:
    """Starting while init runs, running, dead with the reason after its end; free for another."""

    async def test(lab: Lab) -> None:
        address = await lab.start(Probe, name="a/b")
        assert state(lab, "a/b") == "running"
        assert await lab.engine.wait_down("a/b", 0.0) == (False, None)
        lab.engine.kill(address, "why")
        entry = lab.engine.names.get("a/b")
        assert (entry.state, entry.reason, entry.address) == ("dead", "why", address)  # type: ignore[union-attr]
        error = await lab.error("a/b", 1)
        assert isinstance(error, NoProcess)
        assert error.reason == "why"
        await lab.start(Probe, name="a/b")

    in_lab(test)


def test_the_name_of_a_supervised_actor() -> None:
    """Restarting from its end until its parent starts it again, or says what it is."""

    async def test(lab: Lab) -> None:
        owner = await lab.start(Owner)
        lab.engine.kill(await child(lab, owner, name="a/b"), "why")
        assert state(lab, "a/b") == "restarting"
        await child(lab, owner, name="a/b")
        entry = lab.engine.names.get("a/b")
        assert (entry.state, entry.incarnation, entry.restarts) == ("running", 2, 1)  # type: ignore[union-attr]

    in_lab(test)


def test_a_child_nobody_restarts() -> None:
    """A child started with supervised=False leaves its name dead."""

    async def test(lab: Lab) -> None:
        owner = await lab.start(Owner)
        lab.engine.kill(await child(lab, owner, name="a/b", supervised=False))
        assert state(lab, "a/b") == "dead"

    in_lab(test)


class FailsWhenTold(GenServer):
    """Does not start while the test's list is not empty; takes its time if told."""

    async def init(self, failures: list[Any]) -> None:
        await asyncio.sleep(1)
        if failures:
            raise ValueError(failures.pop())


def test_a_first_start_that_fails_is_dead() -> None:
    """A supervised child's first start that fails is dead; a restart that fails is restarting again."""

    async def test(lab: Lab) -> None:
        owner = await lab.start(Owner)
        failures = ["first"]
        await lab.call(owner, Spawn(FailsWhenTold, {"name": "a/b"}, (failures,)))
        assert state(lab, "a/b") == "dead"
        started = await lab.call(owner, Spawn(FailsWhenTold, {"name": "a/b"}, (failures,)))
        lab.engine.kill(started.address)
        failures.append("a restart")
        await lab.call(owner, Spawn(FailsWhenTold, {"name": "a/b"}, (failures,)))
        assert state(lab, "a/b") == "restarting"

    in_lab(test)


def test_callers_of_a_restart_that_fails_wait_on() -> None:
    """A call in the mailbox of an incarnation that fails to start waits for the next one, in its place."""

    class Answers(FailsWhenTold):
        @call
        def ask(self, message: int) -> int:
            return message

    async def test(lab: Lab) -> None:
        owner = await lab.start(Owner)
        failures: list[Any] = []
        spawn = Spawn(Answers, {"name": "a/b"}, (failures,))
        lab.engine.kill((await lab.call(owner, spawn)).address)
        failures.append("a restart")
        failing = asyncio.ensure_future(lab.call(owner, spawn))
        await lab.settle()
        assert state(lab, "a/b") == "starting"
        asking = [asyncio.ensure_future(lab.call("a/b", number)) for number in range(3)]
        await failing
        assert state(lab, "a/b") == "restarting"
        await lab.call(owner, spawn)
        assert await asyncio.gather(*asking) == [0, 1, 2]

    in_lab(test)


# -- when a supervisor is gone --------------------------------------------------------------------------------


def test_names_of_a_dead_supervisor_are_dead() -> None:
    """Names that were restarting or backing off when their supervisor ended do not wait for ever."""

    async def test(lab: Lab) -> None:
        owner = await lab.start(Owner)
        for name in ("a/restarting", "a/backing", "a/running"):
            address = await child(lab, owner, name=name)
            if name != "a/running":
                lab.engine.kill(address, "why")
        lab.engine.names.set_state("a/backing", "backing_off")
        asking = asyncio.ensure_future(lab.error("a/restarting", 1, timeout=None))
        await lab.settle()
        lab.engine.kill(owner)
        assert [state(lab, name) for name in ("a/restarting", "a/backing", "a/running")] == ["dead"] * 3
        error = await asking
        assert isinstance(error, NoProcess)
        assert error.reason == "why"

    in_lab(test)


async def nested(lab: Lab, top: type[Any]) -> tuple[Any, Any]:
    """A supervisor with a supervisor that has two named children, one of which is restarting."""
    above = await lab.start(top)
    below = await child(lab, above, Owner)
    await child(lab, below, name="a/running")
    lab.engine.kill(await child(lab, below, name="a/restarting"), "why")
    return above, below


def test_names_below_a_supervisor_that_is_started_again() -> None:
    """With somebody above who rebuilds, names below wait; what the new incarnation does not bring back is dead."""

    class Again(Owner):
        async def init(self) -> None:  # type: ignore[override]
            super().init()
            await self.spawn_link(Probe, name="a/running")

    async def test(lab: Lab) -> None:
        above, below = await nested(lab, Rebuilder)
        lab.engine.kill(below)
        assert [state(lab, name) for name in ("a/running", "a/restarting")] == ["restarting"] * 2
        asking = asyncio.ensure_future(lab.error("a/restarting", 1, timeout=None))
        await lab.settle()
        assert not asking.done()
        await child(lab, above, Again, replaces=below)
        assert [state(lab, name) for name in ("a/running", "a/restarting")] == ["running", "dead"]
        assert isinstance(await asking, NoProcess)

    in_lab(test)


def test_names_below_a_supervisor_that_is_given_up() -> None:
    """give_up: what waited for that child is dead."""

    async def test(lab: Lab) -> None:
        above, below = await nested(lab, Rebuilder)
        lab.engine.kill(below)
        await lab.call(above, GiveUp(below))
        assert [state(lab, name) for name in ("a/running", "a/restarting")] == ["dead"] * 2

    in_lab(test)


def test_names_below_when_nobody_rebuilds() -> None:
    """Above an ordinary parent, names below a dead supervisor are dead at once."""

    async def test(lab: Lab) -> None:
        _, below = await nested(lab, Owner)
        lab.engine.kill(below)
        assert [state(lab, name) for name in ("a/running", "a/restarting")] == ["dead"] * 2

    in_lab(test)


def test_names_left_to_a_supervisor_that_ends_too() -> None:
    """Names pass from heir to heir, and are dead when the last one is gone."""

    async def test(lab: Lab) -> None:
        top = await lab.start(Rebuilder)
        middle = await child(lab, top, Rebuilder)
        below = await child(lab, middle, Owner)
        await child(lab, below, name="a/b")
        lab.engine.kill(below)
        assert state(lab, "a/b") == "restarting"
        lab.engine.kill(middle)
        assert state(lab, "a/b") == "restarting"
        lab.engine.kill(top)
        assert state(lab, "a/b") == "dead"

    in_lab(test)


def test_a_supervisor_with_many_restarts_remembers_no_old_ones() -> None:
    """What a supervisor owes is forgotten when the name has a new actor."""

    async def test(lab: Lab) -> None:
        owner = await lab.start(Owner)
        for _ in range(20):
            lab.engine.kill(await child(lab, owner, name="a/b"))
        assert len(owner.cell.estate) == 1  # type: ignore[union-attr, arg-type]

    in_lab(test)


# -- namespaces ---------------------------------------------------------------------------------------------------


class Caller(GenServer):
    """Casts and calls by name."""

    @call
    async def ask(self, message: str) -> Any:
        return await self.call(message, 1, timeout=1.0)


class Tells(GenServer):
    """Answers with its name."""

    @call
    def ask(self, message: int) -> Any:
        return self.name


def test_actors_look_up_names_in_their_namespace() -> None:
    """Names resolve in the actor's namespace; others by their full name; shared kinds from everywhere."""

    async def test(lab: Lab) -> None:
        for name, space in (("a/b", ""), ("a/b", "t1"), ("core/c", "t1")):
            await lab.start(Tells, name=name, namespace=space)
        caller = await lab.start(Caller, namespace="t1")
        assert await lab.call(caller, "a/b") == "t1:a/b"
        assert await lab.call(caller, ":a/b") == "a/b"
        assert await lab.call(caller, "core/c") == "core/c"
        assert await lab.call("a/b", 1, namespace="t1") == "t1:a/b"
        other = await lab.start(Caller, namespace="t2")
        assert isinstance(await lab.error(other, "a/b"), Exception)
        assert await lab.call(await lab.start(Caller, namespace="t2"), "t1:a/b") == "t1:a/b"

    in_lab(test)


def test_children_inherit_the_namespace() -> None:
    """A child lives in its parent's namespace, and its name is bound there."""

    async def test(lab: Lab) -> None:
        owner = await lab.start(Owner, namespace="t1")
        await child(lab, owner, Tells, name="a/b")
        assert await lab.call("t1:a/b", 1) == "t1:a/b"
        assert lab.engine.names.get("a/b") is None

    in_lab(test)


def test_a_call_waits_for_a_restarting_name_in_a_namespace() -> None:
    """A call by a short name waits for the right name, and its time-out tells that name's state."""

    async def test(lab: Lab) -> None:
        owner = await lab.start(Owner, namespace="t1")
        lab.engine.kill(await child(lab, owner, Tells, name="a/b"))
        caller = await lab.start(Caller, namespace="t1")
        reason = (await lab.error(caller, "a/b")).reason
        assert reason.error.state == "restarting"
        assert reason.error.target == "t1:a/b"

    in_lab(test)


@pytest.mark.parametrize(
    ("asked", "hint"),
    [
        ("provider/locl", "provider/local"),
        ("module/aq", "module/qa"),
        ("modul/qa", "module/qa"),
        ("qa", "module/qa"),
        ("provider/qa", "module/qa"),
        ("shop:module/qb", "shop:module/qc"),
        ("plian", "plain"),
        ("provider/nope", None),
        ("module/local", "provider/local"),
        ("elsewhere/zz", None),
    ],
)
def test_a_hint_compares_kind_and_id_each_for_itself(asked: str, hint: str | None) -> None:
    """A name is near if both its parts are; that two names begin with the same kind makes no hint."""
    table = NameTable(lambda: 0.0)
    for number, name in enumerate(("provider/any", "provider/local", "module/qa", "shop:module/qc", "plain")):
        table.begin(name, LocalAddress("e", number))
    assert table.near(asked) == ("" if hint is None else f"; did you mean {hint!r}?")
