"""The registry actor: a view of the name table and of what actors announce."""

from __future__ import annotations

import asyncio
import json
import pickle
from collections.abc import Awaitable, Callable
from dataclasses import FrozenInstanceError, dataclass
from enum import StrEnum
from typing import Any

import pytest
from pydantic import SecretStr
from thespian.actors import Actor

from dspex.actors.events.kinds import Event, Registered, Unregistered
from dspex.actors.events.store import Append
from dspex.actors.registry.actor import (
    Announce,
    BulkAnnounce,
    Count,
    HealthCheck,
    ListNames,
    Lookup,
    NameEvent,
    RegistryActor,
    RegistryStats,
    Select,
    Unannounce,
    Unwatch,
    WaitForName,
    Watch,
    WhereIs,
    announce,
)
from dspex.actors.registry.metadata import MAX_BYTES, checked_metadata
from dspex.runtime.child_spec import ChildSpec
from dspex.runtime.context import Context
from dspex.runtime.errors import CallTimeout, RegistryError
from dspex.runtime.gen_server import Exit, Fail, GenServer, call, cast, info
from dspex.runtime.registry_terms import ANY
from dspex.runtime.secret import Secret, SecretRef
from dspex.supervisors.supervisor import Supervisor
from kit.supervision import House, in_house

REGISTRY = "core/registry"


@dataclass(frozen=True)
class Nothing:
    """A call that only waits its turn."""


class Events(GenServer):
    """An event store that keeps its events in a list it is given."""

    def init(self, events: list[Event]) -> None:
        self.events = events

    @cast
    def append(self, msg: Append) -> None:
        self.events.extend(msg.events)

    @call
    def nothing(self, msg: Nothing) -> None:
        return None


@dataclass(frozen=True)
class Tell:
    """Announce this; with what function."""

    metadata: Any
    replace: bool = False


@dataclass(frozen=True)
class Seen:
    """What name events came?"""


@dataclass(frozen=True)
class Check:
    """A health check that is answered by what it says."""

    answer: Any


class Odd:
    """A value that answers no question."""

    def __eq__(self, other: object) -> bool:
        raise ValueError("which of them?")

    def __repr__(self) -> str:
        raise ValueError("no words")


class Worker(GenServer):
    """Announces itself, watches, and is as well as it is told to be."""

    def init(self, metadata: Any = None) -> None:
        self.seen: list[NameEvent] = []
        if metadata is not None:
            announce(self, metadata)

    @cast
    def tell(self, msg: Tell) -> None:
        announce(self, msg.metadata, replace=msg.replace)

    @cast
    def end(self, msg: Exit) -> None:
        raise msg

    @call
    def answer(self, msg: Seen) -> list[NameEvent]:
        return self.seen

    @call
    async def check(self, msg: Check) -> Any:
        if msg.answer == "crash":
            raise ValueError("sk-secretsecret in my reason")
        if msg.answer == "hang":
            await self.system.loop.create_future()
        if msg.answer == "odd":
            return Odd()
        if msg.answer == "fail":
            return Fail(LookupError("no such shelf"))
        return Fail(RegistryError("not now")) if msg.answer == "refuse" else msg.answer

    @info
    def note(self, msg: NameEvent) -> None:
        self.seen.append(msg)


class World:
    """A supervised registry, an event store and a supervisor for workers."""

    def __init__(self, house: House, events: list[Event]) -> None:
        self.house, self.events = house, events
        self.names = house.engine.names
        self.telemetry: list[tuple[str, dict[str, Any]]] = []
        for word in ("registered", "unregistered", "refused"):
            house.engine.telemetry.attach(word, ("dspex", "registry", word), self._on_telemetry)

    def _on_telemetry(self, event: Any, measurements: Any, metadata: Any, config: Any) -> None:
        assert measurements == {"count": 1}
        self.telemetry.append((event[-1], metadata))

    async def ask(self, message: Any) -> Any:
        return await self.house.call(REGISTRY, message)

    async def row(self, name: str) -> Any:
        return await self.ask(Lookup(name))

    async def start(self, name: str, metadata: Any = None) -> Any:
        return await self.house.start(Worker, metadata, name=name)

    async def tell(self, name: str, metadata: Any, *, replace: bool = False) -> None:
        """Have a worker announce something, and wait until it has."""
        self.house.engine.cast(name, Tell(metadata, replace))
        await self.house.call(name, Seen())

    async def settle(self) -> None:
        """Let everything that is due happen: timers of now first, then what they cause."""
        for _ in range(3):
            await asyncio.sleep(0)
        await self.ask(RegistryStats())
        await self.house.call("core/events", Nothing())

    def told(self, kind: type[Event]) -> list[Any]:
        return [event for event in self.events if isinstance(event, kind) and not str(event.name).startswith("core/")]  # type: ignore[attr-defined]


def in_world(test: Callable[[World], Awaitable[None]]) -> None:
    """Run a test with a supervised registry, in virtual time."""

    async def run(house: House) -> None:
        events: list[Event] = []
        world = World(house, events)
        children = [
            ChildSpec("events", Events, (events,), name="core/events"),
            ChildSpec("registry", RegistryActor, name=REGISTRY),
        ]
        await house.start(Supervisor, children, strategy="one_for_one", max_restarts=10)
        await test(world)

    in_house(run)


# -- rows and queries -----------------------------------------------------------------------------


def test_a_row_says_all_there_is_to_know() -> None:
    """Lookup answers a frozen, picklable row with a private copy of the metadata; None for an unknown name."""

    async def test(world: World) -> None:
        address = await world.start("t1:module/qa", {"type": "predict", "tags": ("a", "b"), "usage": {"n": 1}})
        row = await world.row("t1:module/qa")
        assert (row.name, row.kind, row.id, row.namespace) == ("t1:module/qa", "module", "qa", "t1")
        assert (row.state, row.incarnation, row.restarts, row.reason) == ("running", 1, 0, None)
        assert (row.address, row.since, row.age) == (str(address), world.house.now(), 0.0)
        assert row.metadata == {"type": "predict", "tags": ["a", "b"], "usage": {"n": 1}}
        with pytest.raises(FrozenInstanceError):
            row.state = "dead"
        row.metadata["usage"]["n"] = 99
        assert (await world.row("t1:module/qa")).metadata["usage"] == {"n": 1}
        assert pickle.loads(pickle.dumps(row)) == row
        assert await world.row("nobody") is None

    in_world(test)


def test_select_finds_by_every_condition() -> None:
    """Kind, namespace, clauses, name pattern and state all narrow the answer; it is in order of first use."""

    async def test(world: World) -> None:
        await world.start("provider/a", {"provider": "x", "load": 1, "kind": "openai"})
        await world.start("module/qa", {"provider": "x", "load": 2})
        await world.start("t1:module/qa", {"provider": "y"})
        await world.start("module/z")

        async def names(**conditions: Any) -> list[str]:
            found = await world.ask(Select.of(**conditions))
            assert await world.ask(Count.of(**conditions)) == len(found)
            assert await world.ask(ListNames.of(**conditions)) == tuple(row.name for row in found)
            return [row.name for row in found if row.kind != "core"]

        assert await names() == ["provider/a", "module/qa", "t1:module/qa", "module/z"]
        assert await names(kind="module") == ["module/qa", "t1:module/qa", "module/z"]
        assert await names(kind="module", namespace="") == ["module/qa", "module/z"]
        assert await names(namespace="t1") == ["t1:module/qa"]
        assert await names(provider="x") == ["provider/a", "module/qa"]
        assert await names(kind="module", provider="x") == ["module/qa"]
        assert await names(where=[("load", "ge", 2)]) == ["module/qa"]
        assert await names(where=[("restarts", "eq", 0), ("incarnation", "ge", 1)], kind="provider") == ["provider/a"]
        assert await names(where=[("kind", "eq", "openai")]) == ["provider/a"]
        assert await names(pattern="module/*") == ["module/qa", "t1:module/qa", "module/z"]
        assert await names(pattern=(ANY, "qa")) == ["module/qa", "t1:module/qa"]
        assert await names(state="running", provider="y") == ["t1:module/qa"]
        assert await names(state="dead") == []

    in_world(test)


def test_the_dead_are_found_only_if_asked_for() -> None:
    """A dead name is no answer to a select, but a lookup still says why it is dead; whereis never gives it."""

    async def test(world: World) -> None:
        await world.start("module/qa", {"provider": "x"})
        address = world.house.address("module/qa")
        assert await world.ask(WhereIs("module/qa")) == address
        world.house.engine.kill(address, "out of luck")
        assert await world.ask(ListNames(kind="module")) == ()
        assert await world.ask(ListNames(kind="module", state="dead")) == ("module/qa",)
        assert await world.ask(ListNames(kind="module", state="any")) == ("module/qa",)
        row = await world.row("module/qa")
        assert (row.state, row.reason, row.metadata) == ("dead", "out of luck", {"provider": "x"})
        assert await world.ask(WhereIs("module/qa")) is None
        assert await world.ask(WhereIs("nobody")) is None
        again = await world.start("module/again")
        world.house.engine.kill(again)
        world.names.set_state("module/again", "restarting")
        assert (await world.row("module/again")).state == "restarting"
        assert await world.ask(WhereIs("module/again")) is None

    in_world(test)


@pytest.mark.parametrize(
    ("message", "says"),
    [
        (Select(where=[("load", "greater", 1)]), "expected an operator"),
        (Select(where=5), "expected a list"),  # type: ignore[arg-type]
        (Select(kind=[]), "expected a text as kind"),  # type: ignore[arg-type]
        (Select(namespace=3), "expected a text as namespace"),  # type: ignore[arg-type]
        (Select(pattern=3), "expected a name pattern"),  # type: ignore[arg-type]
        (Select(state="runing"), "did you mean 'running'"),
        (Count(state=[]), "expected a state"),  # type: ignore[arg-type]
        (Lookup([]), "expected a text as name"),  # type: ignore[arg-type]
        (WhereIs(None), "expected a text as name"),  # type: ignore[arg-type]
        (WaitForName(3), "expected a text as name"),  # type: ignore[arg-type]
        (WaitForName("x", float("nan")), "expected seconds"),
        (WaitForName("x", True), "expected seconds"),
        (HealthCheck("x", -1), "expected seconds"),
        (HealthCheck(None), "expected a text as name"),  # type: ignore[arg-type]
        (Watch("me"), "expected an actor's address"),  # type: ignore[arg-type]
        (Unwatch(None), "expected an actor's address"),  # type: ignore[arg-type]
        (BulkAnnounce("x"), "expected a list of announcements"),  # type: ignore[arg-type]
        (BulkAnnounce([1]), "expected a list of announcements"),  # type: ignore[list-item]
        (Announce({}, "nobody"), "expected a name that somebody had"),
        (Announce({}, None), "expected a text as name"),  # type: ignore[arg-type]
        (Unannounce("nobody"), "expected a name that somebody had"),
    ],
)
def test_a_malformed_question_is_the_callers_error(message: Any, says: str) -> None:
    """The registry refuses it with a typed error and lives on."""

    async def test(world: World) -> None:
        registry = world.house.address(REGISTRY)
        with pytest.raises(RegistryError) as caught:
            await world.ask(message)
        assert says in str(caught.value)
        assert world.house.address(REGISTRY) == registry

    in_world(test)


# -- announcing -----------------------------------------------------------------------------------


def test_announcements_merge_or_replace() -> None:
    """Metadata is merged at the top level, replaced on request, forgotten by Unannounce; a call answers the row."""

    async def test(world: World) -> None:
        await world.start("module/qa", {"a": 1, "b": {"x": 1}})
        await world.tell("module/qa", {"b": {"y": 2}})
        assert (await world.row("module/qa")).metadata == {"a": 1, "b": {"y": 2}}
        await world.tell("module/qa", {"c": 3}, replace=True)
        assert (await world.row("module/qa")).metadata == {"c": 3}
        assert (await world.ask(Announce({"d": 4}, "module/qa"))).metadata == {"c": 3, "d": 4}
        assert (await world.ask(Unannounce("module/qa"))).metadata == {}

    in_world(test)


def test_the_index_follows_every_change() -> None:
    """Another provider, a new status, a forgotten one: the next select sees it."""

    async def test(world: World) -> None:
        await world.start("module/qa", {"provider": "x", "status": "ready"})
        assert await world.ask(Count.of(provider="x", status="ready")) == 1
        await world.ask(Announce({"provider": "y"}, "module/qa"))
        assert await world.ask(Count.of(provider="x")) == 0
        assert await world.ask(Count.of(provider="y")) == 1
        await world.ask(Unannounce("module/qa"))
        assert await world.ask(Count.of(provider="y")) == 0
        world.names.drop("module/qa")
        assert await world.ask(ListNames(kind="module", state="any")) == ()
        known = len(list(world.names.entries()))
        assert len(world.house.address(REGISTRY).cell.instance._index) == known

    in_world(test)


def test_an_actor_without_a_name_announces_nothing() -> None:
    """There is no row it could be written to; it is no error either."""

    async def test(world: World) -> None:
        address = await world.house.start(Worker, {"a": 1})
        assert world.house.engine.alive(address)
        assert (await world.ask(RegistryStats())).refused == 0

    in_world(test)


def test_a_refused_cast_is_counted_and_told() -> None:
    """A cast cannot fail: what is refused is counted, telemetry says why, and nothing changes."""

    async def test(world: World) -> None:
        await world.start("module/qa", {"a": 1})
        await world.tell("module/qa", {"key": Secret("value-of-it")})
        world.house.engine.cast(REGISTRY, Unannounce("nobody"))
        assert (await world.row("module/qa")).metadata == {"a": 1}
        assert (await world.ask(RegistryStats())).refused == 2
        refused = [metadata for word, metadata in world.telemetry if word == "refused"]
        assert [metadata["name"] for metadata in refused] == ["module/qa", "nobody"]
        assert "value-of-it" not in repr(refused)

    in_world(test)


def test_bulk_announce_judges_each_item_on_its_own() -> None:
    """One bad item does not spoil the others."""

    async def test(world: World) -> None:
        await world.start("a/1")
        await world.start("a/2")
        results = await world.ask(
            BulkAnnounce([Announce({"x": 1}, "a/1"), Announce({"x": object()}, "a/2"), Announce({"x": 3}, "a/3")])
        )
        assert [(result.name, result.ok) for result in results] == [("a/1", True), ("a/2", False), ("a/3", False)]
        assert isinstance(results[1].error, RegistryError)
        assert await world.ask(ListNames.of(x=1)) == ("a/1",)

    in_world(test)


class Color(StrEnum):
    RED = "red"


def test_metadata_is_copied_into_plain_json() -> None:
    """Tuples become lists, subclasses their base; the announcer's own objects are not kept."""
    given: dict[str, Any] = {"list": (1, 2.5, None, True), "enum": Color.RED, "deep": {"a": [{}]}}
    checked = checked_metadata(given, "n")
    given["deep"]["a"].append(1)
    assert checked == {"list": [1, 2.5, None, True], "enum": "red", "deep": {"a": [{}]}}
    assert type(checked["enum"]) is str
    assert json.loads(json.dumps(checked)) == checked


def nested(levels: int) -> Any:
    """Lists in lists."""
    value: Any = 1
    for _ in range(levels):
        value = [value]
    return value


@pytest.mark.parametrize(
    ("metadata", "says"),
    [
        ([1], "expected a mapping, got list"),
        (None, "expected a mapping, got NoneType"),
        ({1: "x"}, "expected texts as keys, got int"),
        ({"a": {"b": {2: 1}}}, "at a.b of the metadata"),
        ({"a": [1, {2}]}, "expected a JSON value, got set, at a.1"),
        ({"a": b"x"}, "expected a JSON value, got bytes"),
        ({"a": float("inf")}, "expected a finite number, got inf"),
        ({"a": nested(40)}, "expected at most 32 levels"),
        ({"a": Secret("hush-hush")}, "expected no secret, got Secret"),
        ({"a": [SecretRef("OPENAI_API_KEY")]}, "expected no secret, got SecretRef"),
        ({"a": SecretStr("hush-hush")}, "expected no secret, got SecretStr"),
        ({"api-key": "hush-hush"}, "expected no secret"),
        ({"headers": {"Authorization": "hush-hush"}}, "at headers.Authorization"),
        ({"note": "use sk-hush-hush-hush"}, "looks like a credential"),
        ({"note": "Bearer hush-hush"}, "looks like a credential"),
        ({"note": "key_sk-hush-hush-hush"}, "looks like a credential"),
        ({"keys": {"sk-hush-hush-hush": 1}}, "looks like a credential, at keys"),
        ({"openai_api_key": "hush-hush"}, "expected no secret"),
    ],
)
def test_bad_metadata_is_refused(metadata: Any, says: str) -> None:
    """The error says what was expected and where, and never shows a secret."""
    with pytest.raises(RegistryError) as caught:
        checked_metadata(metadata, "module/qa")
    assert says in str(caught.value)
    assert "'module/qa'" in str(caught.value)
    assert "hush" not in str(caught.value) + repr(caught.value.facts)


def test_whether_there_is_a_key_may_be_announced() -> None:
    """A flag under a secret's name is no secret; ordinary words are none either."""
    metadata = {"api_key": True, "password": None, "signature": "basic question -> answer", "tokens": 5}
    assert checked_metadata(metadata, "n") == metadata
    words = {"signature": "risk-assessment, task-description -> plan", "api_key_env": "OPENAI_API_KEY"}
    assert checked_metadata(words, "n") == words


def test_metadata_is_bounded_after_the_merge() -> None:
    """64 KiB for everything announced under a name; what is too much changes nothing."""

    async def test(world: World) -> None:
        await world.start("module/qa", {"a": "x" * (MAX_BYTES - 100)})
        with pytest.raises(RegistryError, match="at most 65536 bytes"):
            await world.ask(Announce({"b": "x" * 200}, "module/qa"))
        assert list((await world.row("module/qa")).metadata) == ["a"]
        await world.ask(Announce({"b": "x" * 200}, "module/qa", replace=True))
        with pytest.raises(RegistryError, match="at most 65536 bytes"):
            await world.ask(Announce({"a": "\u20ac" * (MAX_BYTES // 3 + 1)}, "module/qa", replace=True))

    in_world(test)


# -- births and deaths ----------------------------------------------------------------------------


def test_births_and_deaths_become_events_and_telemetry() -> None:
    """A name that comes up is registered with what it announced, one that ends unregistered with why, each once."""

    async def test(world: World) -> None:
        await world.start("module/qa", {"provider": "x"})
        await world.settle()
        (came,) = world.told(Registered)
        assert (came.name, came.kind, came.restarts, came.metadata) == ("module/qa", "module", 0, {"provider": "x"})
        assert (came.source, came.trace_id) == (REGISTRY, None)
        world.house.engine.kill("module/qa", ("shutdown", "sk-secretsecret"))
        await world.settle()
        (gone,) = world.told(Unregistered)
        assert (gone.name, gone.restarts) == ("module/qa", 0)
        assert "shutdown" in gone.reason
        assert "secretsecret" not in gone.reason
        own = [(word, metadata["name"]) for word, metadata in world.telemetry if metadata["kind"] == "module"]
        assert own == [("registered", "module/qa"), ("unregistered", "module/qa")]

    in_world(test)


def test_restarts_are_counted_and_told() -> None:
    """A supervised name that crashes: unregistered while restarting, registered again with one restart more."""

    async def test(world: World) -> None:
        spec = ChildSpec("w", Worker, ({"provider": "x"},), name="module/qa")
        await world.house.start(Supervisor, [spec], strategy="one_for_one")
        world.house.engine.cast("module/qa", Exit("boom"))
        row = await world.ask(WaitForName("module/qa"))
        while row.restarts == 0:
            row = await world.ask(WaitForName("module/qa"))
        assert (row.state, row.incarnation, row.restarts, row.reason) == ("running", 2, 1, "boom")
        assert row.metadata == {"provider": "x"}
        await world.settle()
        assert [(event.restarts) for event in world.told(Registered)] == [0, 1]
        assert [(event.reason, event.restarts) for event in world.told(Unregistered)] == [("boom", 0)]

    in_world(test)


def test_a_failed_start_was_never_registered() -> None:
    """A name whose actor did not start leaves no event behind."""

    class Failing(GenServer):
        def init(self) -> None:
            raise ValueError("no")

    async def test(world: World) -> None:
        await world.house.engine.spawn(Failing, (), {}, name="module/qa")
        await world.settle()
        assert (await world.row("module/qa")).state == "dead"
        assert world.told(Registered) == []
        assert world.told(Unregistered) == []

    in_world(test)


def test_killed_it_rebuilds_itself_and_nobody_dies_with_it() -> None:
    """All rows, metadata and the index are there again; other actors do not notice."""

    async def test(world: World) -> None:
        address = await world.start("module/qa", {"provider": "x", "status": "ready"})
        await world.start("module/gone", {"provider": "x"})
        world.house.engine.kill("module/gone", "bye")
        before = await world.ask(Select.of(kind="module", state="any"))
        world.house.engine.kill(REGISTRY)
        after = await world.ask(Select.of(kind="module", state="any"))
        assert after == before
        assert world.house.engine.alive(address)
        assert await world.ask(ListNames.of(provider="x", status="ready")) == ("module/qa",)
        assert (await world.row(REGISTRY)).restarts == 1

    in_world(test)


def test_what_happened_while_it_was_down_is_told_by_its_successor() -> None:
    """A name born and one that died between two registries are told of, and nothing is told twice."""

    async def test(world: World) -> None:
        await world.start("a/stays")
        await world.start("a/dies")
        await world.settle()
        # Let time pass: what was told before and what comes now must not share a moment.
        await world.house.engine.wait_down(world.house.address("a/dies"), 0.5)
        await world.settle()
        await world.house.engine.wait_down(world.house.address("a/dies"), 0.5)
        # All of this happens in one turn of the loop, before the supervisor gets to the restart.
        world.house.engine.kill(REGISTRY)
        world.house.engine.kill("a/dies", "gone")
        await world.start("a/born")
        await world.settle()
        assert [event.name for event in world.told(Registered)] == ["a/stays", "a/dies", "a/born"]
        assert [(event.name, event.reason) for event in world.told(Unregistered)] == [("a/dies", "gone")]
        own = [type(event) for event in world.events if getattr(event, "name", None) == REGISTRY]
        assert own == [Registered, Unregistered, Registered]

    in_world(test)


# -- waiting and watching -------------------------------------------------------------------------


def test_waiting_for_a_name() -> None:
    """Several waiters are answered when it runs, without a clock tick between; at once if it runs already."""

    async def test(world: World) -> None:
        loop = world.house.engine.loop
        waits = [loop.create_task(world.ask(WaitForName("module/qa", timeout))) for timeout in (5.0, None, 9.0)]
        await world.settle()
        assert (await world.ask(RegistryStats())).waiters == 3
        began = world.house.now()
        await world.start("module/qa", {"a": 1})
        assert [(await wait).metadata for wait in waits] == [{"a": 1}] * 3
        assert (await world.ask(WaitForName("module/qa"))).state == "running"
        assert world.house.now() == began
        assert (await world.ask(RegistryStats())).waiters == 0

    in_world(test)


def test_a_wait_ends_at_its_deadline() -> None:
    """Nobody came: a typed time-out that says what state the name is in, at the very time."""

    async def test(world: World) -> None:
        await world.start("module/qa")
        world.house.engine.kill("module/qa")
        for name, state in (("module/qa", "dead"), ("nobody", "unknown")):
            began = world.house.now()
            with pytest.raises(CallTimeout) as caught:
                await world.ask(WaitForName(name, 2.0))
            assert world.house.now() == began + 2.0
            assert (caught.value.target, caught.value.state, caught.value.timeout) == (name, state, 2.0)

    in_world(test)


def test_waiters_that_gave_up_do_not_pile_up() -> None:
    """A caller with a shorter deadline of its own is forgotten."""

    async def test(world: World) -> None:
        for _ in range(5):
            with pytest.raises(CallTimeout):
                await world.house.call(REGISTRY, WaitForName("nobody", None), timeout=1.0)
        assert (await world.ask(RegistryStats())).waiters == 1

    in_world(test)


def test_a_name_event_belongs_to_nobodys_trace() -> None:
    """What a watcher does about a change is not done for whoever asked the registry last."""

    async def test(world: World) -> None:
        traces: list[tuple[str, str | None]] = []

        class Tracing(GenServer):
            @info
            def note(self, msg: NameEvent) -> None:
                traces.append((self.context.trace_id, self.context.user))

        await world.ask(Watch(await world.house.start(Tracing), "module/*"))
        await world.settle()
        context = Context("t" * 32, "s" * 16, None, "ann")
        await world.house.engine.call_async(REGISTRY, Lookup("nobody"), context=context)
        await world.start("module/qa")
        await world.settle()
        assert [user for _, user in traces] == [None, None]
        assert all(trace_id != context.trace_id for trace_id, _ in traces)

    in_world(test)


def test_watchers_are_told_of_every_change() -> None:
    """From the snapshot on, each change of a matching name arrives in order; not after Unwatch."""

    async def test(world: World) -> None:
        await world.start("module/old")
        watcher = await world.start("watcher/1")
        snapshot = await world.ask(Watch(watcher, "module/*"))
        assert [row.name for row in snapshot] == ["module/old"]
        await world.start("module/qa", {"a": 1})
        await world.start("other/x")
        await world.tell("module/qa", {"a": 2})
        world.names.set_state("module/qa", "stopping")
        world.house.engine.kill("module/qa")
        await world.settle()
        seen = await world.house.call(watcher, Seen())
        assert [(event.kind, event.row.state) for event in seen if event.row.name == "module/qa"] == [
            ("state", "starting"),
            ("registered", "running"),
            ("updated", "running"),
            ("updated", "running"),
            ("state", "stopping"),
            ("unregistered", "dead"),
        ]
        assert [event.row.metadata for event in seen[2:4]] == [{"a": 1}, {"a": 2}]
        assert {event.row.name for event in seen} == {"module/qa"}
        await world.ask(Unwatch(watcher))
        await world.ask(Unwatch(watcher))
        await world.start("module/late")
        await world.settle()
        assert len(await world.house.call(watcher, Seen())) == len(seen)

    in_world(test)


def test_a_dead_watcher_is_forgotten() -> None:
    """Watchers are monitored; a second watch of one actor replaces the first."""

    async def test(world: World) -> None:
        watcher = await world.start("watcher/1")
        await world.ask(Watch(watcher, "a/*"))
        await world.ask(Watch(watcher, "b/*", namespace="t1"))
        assert (await world.ask(RegistryStats())).watchers == 1
        assert len(world.house.address(REGISTRY).cell.watching) == 1
        for name in ("a/1", "b/1", "t1:b/1"):
            await world.start(name)
        await world.settle()
        assert {event.row.name for event in await world.house.call(watcher, Seen())} == {"t1:b/1"}
        world.house.engine.kill(watcher)
        assert (await world.ask(RegistryStats())).watchers == 0

    in_world(test)


# -- health and statistics ------------------------------------------------------------------------


class Plain(Actor):
    def receiveMessage(self, msg: Any, sender: Any) -> None:
        """Takes anything."""


@pytest.mark.parametrize(
    ("check", "outcome", "detail"),
    [
        (None, "healthy", None),
        (Check(True), "healthy", None),
        (Check("ok"), "healthy", None),
        (Check(None), "healthy", None),
        (Check(False), "failed", "False"),
        (Check("degraded"), "failed", "'degraded'"),
        (Check("sk-secretsecret"), "failed", "redacted"),
        (Check("refuse"), "error", "registry_error: not now"),
        (Check("fail"), "error", "LookupError: no such shelf"),
        (Check("odd"), "failed", "Odd"),
        (Nothing(), "error", "unknown_message"),
        (Check("hang"), "timeout", "1.5"),
        (Check("crash"), "crashed", "ValueError"),
    ],
)
def test_health_has_distinct_outcomes(check: Any, outcome: str, detail: str | None) -> None:
    """Healthy, failed, error, timeout and crashed are told apart, and the registry serves others meanwhile."""

    async def test(world: World) -> None:
        await world.start("module/qa")
        registry = world.house.address(REGISTRY)
        asking = world.house.engine.loop.create_task(world.ask(HealthCheck("module/qa", 1.5, check)))
        await world.ask(RegistryStats())
        report = await asking
        assert (report.name, report.outcome, report.healthy) == ("module/qa", outcome, outcome == "healthy")
        assert report.seconds == (1.5 if outcome == "timeout" else 0.0)
        assert (detail is None) is (report.detail is None)
        assert detail is None or detail in report.detail
        assert "secretsecret" not in repr(report)
        assert world.house.address(REGISTRY) == registry

    in_world(test)


def test_the_dead_are_not_healthy() -> None:
    """A dead or unknown name is reported as dead, in no time; a plain Thespian actor is alive if it answers at all."""

    async def test(world: World) -> None:
        await world.start("module/qa")
        world.house.engine.kill("module/qa")
        await world.house.start(Plain, name="plain/1")
        assert (await world.ask(HealthCheck("module/qa"))).outcome == "dead"
        assert (await world.ask(HealthCheck("nobody"))).outcome == "dead"
        assert (await world.ask(HealthCheck("plain/1"))).outcome == "healthy"
        assert (await world.ask(HealthCheck(REGISTRY))).outcome == "healthy"

    in_world(test)


def test_statistics_count_by_state_kind_and_namespace() -> None:
    """The registry in numbers; the dead count by state only."""

    async def test(world: World) -> None:
        for name in ("module/a", "t1:module/b", "provider/a"):
            await world.start(name)
        world.house.engine.kill("module/a")
        stats = await world.ask(RegistryStats())
        assert stats.names == 5
        assert stats.by_state == {"running": 4, "dead": 1}
        assert stats.by_kind == {"core": 2, "module": 1, "provider": 1}
        assert stats.by_namespace == {"": 3, "t1": 1}

    in_world(test)


def test_metadata_written_past_the_registry_cannot_crash_it() -> None:
    """Somebody wrote rubbish into the name table itself: the registry lives, and tells of no rubbish."""

    async def test(world: World) -> None:
        registry = world.house.address(REGISTRY)
        await world.start("module/qa")
        world.names.set_metadata("module/qa", {"x": object(), "api_key": "hush-hush"})
        await world.settle()
        assert world.house.address(REGISTRY) == registry
        assert "hush" not in repr(world.told(Registered))
        assert await world.ask(Count.of(kind="module")) == 1

    in_world(test)
