"""The virtual system of the test kit: time, order, faults and the record of a run."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from dataclasses import dataclass
from typing import Any

import pytest
from thespian.actors import ActorAddress

import dspex
from dspex import ChildSpec, Supervisor
from dspex.runtime.errors import CallTimeout, NoProcess, StartError, UsageError
from dspex.runtime.gen_server import Continue, Fail, GenServer, Stop, call, cast, info
from dspex.runtime.testing import Deadlock, Decision, VirtualSystem, search
from dspex.runtime.testing.record import RECORDED
from dspex.supervisors.app import names
from dspex.supervisors.reports import REPORT_EVENT, START_EVENT


@dataclass(frozen=True)
class Increment:
    by: int = 1


@dataclass(frozen=True)
class After:
    """Add one after so many seconds."""

    seconds: float


@dataclass(frozen=True)
class Tick:
    """Its timer."""


@dataclass(frozen=True)
class Silence:
    """Never answered."""


class Counter(GenServer):
    def init(self, start: int = 0, *, fail: bool = False) -> Stop | None:
        self.n = start
        self.ticks: list[float] = []
        return Stop("told to") if fail else None

    @call
    def increment(self, message: Increment) -> int | Fail:
        self.n += message.by
        return self.n

    @call
    async def never(self, message: Silence) -> None:
        await asyncio.Event().wait()

    @cast
    def later(self, message: After) -> None:
        self.start_timer(message.seconds, Tick())

    @info
    def tick(self, message: Tick) -> None:
        self.n += 1
        self.ticks.append(self.clock.monotonic())


def top(*ids: str, **options: Any) -> tuple[Any, ...]:
    """The arguments of a supervisor of counters."""
    return ([ChildSpec(id, Counter, name=f"demo/{id}", **options) for id in ids],)


# -- time ------------------------------------------------------------------------------------------


def test_an_actor_answers() -> None:
    """A started actor is called by name from plain code."""
    with VirtualSystem() as system:
        system.spawn(Counter, 40, name="demo/counter")
        assert system.call("demo/counter", Increment(2)) == 42
        assert system.now == 1000.0


def test_time_passes_by_hand_and_timers_fire_at_their_moment() -> None:
    """Advancing fires each timer on the way at its own time, and no later one."""
    with VirtualSystem() as system:
        counter = system.spawn(Counter)
        for seconds in (3.0, 1.0, 10.0):
            system.cast(counter, After(seconds))
        system.advance(5.0)
        assert counter.cell is not None
        assert counter.cell.instance.ticks == [1001.0, 1003.0]
        system.advance(5.0)
        assert system.call(counter, Increment(0)) == 3
        assert system.now == 1010.0


def test_a_call_that_gets_no_answer_times_out_at_once() -> None:
    """The deadline is an hour away: virtual time jumps there."""
    with VirtualSystem() as system:
        counter = system.spawn(Counter)
        with pytest.raises(CallTimeout):
            system.call(counter, Silence(), timeout=3600.0)
        assert system.now == 4600.0


def test_waiting_for_what_never_comes_is_a_deadlock() -> None:
    """Without any timer left the run ends with an error, not with a hang; the system can still be used."""
    with VirtualSystem() as system:
        counter = system.spawn(Counter)
        with pytest.raises(Deadlock, match="no timer is pending"):
            system.call(counter, Silence(), timeout=None)
        assert system.run(system.engine.outside.wait_idle(0.0)), "the call that waited in vain is still open"
        other = system.spawn(Counter)
        assert system.call(other, Increment()) == 1


def test_without_auto_jump_only_the_test_moves_time() -> None:
    """Waiting for a timer is refused; advancing by hand brings it; closing still works."""
    with VirtualSystem(auto_jump=False) as system:
        counter = system.spawn(Counter, name="demo/counter")
        assert system.call(counter, Increment()) == 1
        with pytest.raises(Deadlock, match="only by hand"):
            system.call(counter, Silence(), timeout=5.0)
        assert system.now == 1000.0
        system.advance(5.0)
        assert system.now == 1005.0


def test_a_coroutine_runs_on_the_loop() -> None:
    """`run` gives a coroutine's result; from within it plain methods are refused and say what to do."""
    with VirtualSystem() as system:
        counter = system.spawn(Counter)

        async def work() -> tuple[int, str]:
            await asyncio.sleep(100.0)
            answer = await system.engine.call_async(counter, Increment(5))
            with pytest.raises(UsageError, match="await"):
                system.call(counter, Increment())
            return answer, "done"

        assert system.run(work()) == (5, "done")
        assert system.now == 1100.0


def test_bad_seconds_are_refused() -> None:
    """Time does not go back."""
    with VirtualSystem() as system, pytest.raises(UsageError, match="-1"):
        system.advance(-1.0)


def test_a_failing_start_is_an_error() -> None:
    """A start that fails raises with its reason."""
    with VirtualSystem() as system, pytest.raises(StartError) as caught:
        system.spawn(Counter, fail=True)
    assert caught.value.reason == "told to"


# -- seeds -----------------------------------------------------------------------------------------


class Racer(GenServer):
    """Writes its number down when told."""

    def init(self, number: int, log: list[int]) -> None:
        self.number, self.log = number, log

    @cast
    def go(self, message: Tick) -> None:
        self.log.append(self.number)


def race(system: VirtualSystem) -> tuple[list[int], float, str]:
    """The order in which racers run that were started by one gun, and what randomness gives."""
    log: list[int] = []
    racers = [system.spawn(Racer, number, log) for number in range(6)]

    async def gun() -> None:
        for racer in racers:
            system.engine.cast(racer, Tick())

    system.run(gun())
    system.settle()
    return log, system.rng.random(), system.engine.ids.sortable()


def test_a_seed_replays_order_randomness_and_ids() -> None:
    """The same seed gives the same run; other seeds other ones, in which everybody still runs once."""

    def run(seed: int) -> tuple[list[int], float, str]:
        with VirtualSystem(seed) as system:
            return race(system)

    assert run(7) == run(7)
    orders = [run(seed)[0] for seed in range(8)]
    assert len({tuple(order) for order in orders}) > 4
    assert all(sorted(order) == list(range(6)) for order in orders)


def test_each_actor_keeps_the_order_of_its_messages() -> None:
    """Whatever the seed, one actor handles what one sender sent it in that order."""

    class Keeper(GenServer):
        def init(self, log: list[int]) -> None:
            self.log = log

        @cast
        def keep(self, message: Increment) -> None:
            self.log.append(message.by)

    def many(system: VirtualSystem) -> None:
        logs: list[list[int]] = [[], [], []]
        keepers = [system.spawn(Keeper, log) for log in logs]

        async def send() -> None:
            for number in range(100):
                for keeper in keepers:
                    system.engine.cast(keeper, Increment(number))

        system.run(send())
        system.settle()
        assert logs == [list(range(100))] * 3

    search(many, range(5))


def test_between_actors_the_seed_decides_the_order_of_calls_too() -> None:
    """Whether an idle actor answers a call before, or after, others take what was sent to them earlier."""
    orders: set[str] = set()

    class Notes(GenServer):
        @cast
        def noted(self, message: Increment) -> None:
            order.append("cast")

        @call
        def asked(self, message: Increment) -> None:
            order.append("call")

    class Begins(GenServer):
        @call
        async def begin(self, message: Tick) -> None:
            self.cast("note/one", Increment())
            await self.call("note/two", Increment())

    for seed in range(20):
        order: list[str] = []
        with VirtualSystem(seed) as system:
            for name in ("note/one", "note/two"):
                system.spawn(Notes, name=name)
            system.call(system.spawn(Begins), Tick())
            system.settle()
        orders.add(" ".join(order))
    assert orders == {"cast call", "call cast"}


def test_a_search_names_the_failing_seed() -> None:
    """The first seed that fails stops the search; its number is noted on the error, and replays it."""

    def first_racer_wins(system: VirtualSystem) -> None:
        assert race(system)[0][0] == 0

    with pytest.raises(AssertionError) as caught:
        search(first_racer_wins, range(50))
    note = caught.value.__notes__[0]
    seed = int(note.split("seed ")[1].split(",")[0])
    with pytest.raises(AssertionError), VirtualSystem(seed) as system:
        first_racer_wins(system)


# -- supervision -----------------------------------------------------------------------------------


def test_a_killed_child_comes_back_and_the_decisions_are_recorded() -> None:
    """The tree as text before and after, and what the supervisor reported."""
    with VirtualSystem() as system:
        system.spawn(Supervisor, *top("a", "b"), strategy="one_for_all", name="demo/top")
        expected = """
            demo/top running
                demo/a running
                demo/b running
        """
        system.assert_tree(expected)
        system.decisions.clear()
        victim = system.kill("demo/b")
        system.assert_tree(expected)
        assert system.address("demo/b") != victim
        assert [(each.kind, each.child, each.reason) for each in system.decisions] == [
            ("child_terminated", "b", "killed"),
            ("progress", "a", None),
            ("progress", "b", None),
        ]
        assert system.decisions[0] == Decision(1000.0, "demo/top", "child_terminated", "b", "killed")


def test_a_wrong_tree_shows_the_difference() -> None:
    """A dead name is shown where it stood; the failing comparison has both sides."""
    with VirtualSystem() as system:
        system.spawn(Supervisor, *top("a", "b", restart="temporary"), name="demo/top")
        system.spawn(Counter)
        system.kill("demo/b")
        assert system.tree() == "demo/top running\n    demo/a running\n    demo/b dead\nCounter running"
        with pytest.raises(AssertionError, match=r"(?s)-    demo/b running.*\+    demo/b dead"):
            system.assert_tree("demo/top running\n    demo/a running\n    demo/b running\nCounter running")


def test_chosen_starts_fail_as_if_init_had_failed() -> None:
    """By name or class, so often; the supervisor reports each and tries again, and the tree is whole at the end."""
    with VirtualSystem() as system:
        system.spawn(Supervisor, *top("a"), name="demo/top", max_restarts=5)
        system.fail_next_start("demo/a", "no disk", times=2)
        system.fail_next_start(Counter, "no memory")
        system.kill("demo/a")
        reasons = [each.reason for each in system.decisions if each.kind == "start_error"]
        assert sorted(reasons) == ["no disk", "no disk", "no memory"]
        assert system.state("demo/a") == "running"
        system.fail_next_start(Counter, "again")
        with pytest.raises(StartError, match="again"):
            system.spawn(Counter)


def test_a_misspelt_name_is_refused_with_a_hint() -> None:
    """Killing nobody is an error."""
    with VirtualSystem() as system:
        system.spawn(Counter, name="demo/counter")
        with pytest.raises(NoProcess, match="did you mean 'demo/counter'"):
            system.kill("demo/conter")
        address = system.kill("demo/counter")
        assert system.state("demo/counter") == "dead"
        with pytest.raises(NoProcess, match="ended already"):
            system.kill(address)


def test_events_are_recorded_and_expected() -> None:
    """An event that came is found by name and facts; one that is to come is waited for; no other is."""
    with VirtualSystem() as system:
        system.spawn(Supervisor, *top("a", "b"), name="demo/top")
        system.kill("demo/b")
        with pytest.raises(AssertionError, match="others of it"):
            system.expect_event(REPORT_EVENT, child="b", reason="bored", within=0.0)
        seen = system.expect_event(REPORT_EVENT, kind="child_terminated", child="b")
        assert (seen.at, seen.metadata["reason"]) == (1000.0, "killed")
        system.loop.call_later(2.0, system.engine.kill, "demo/a")
        assert system.expect_event(REPORT_EVENT, child="a").at == 1002.0
        with pytest.raises(AssertionError, match="no event"):
            system.expect_event(REPORT_EVENT, child="c", within=1.0)
        assert system.now == 1003.0


def test_events_of_ones_own_are_recorded_when_asked() -> None:
    """An event nobody records cannot be expected; after `record` it can."""
    with VirtualSystem() as system:
        with pytest.raises(UsageError, match="record"):
            system.expect_event(("mine", "done"))
        system.record(("mine", "done"))
        system.engine.telemetry.execute(("mine", "done"), {"n": 1}, {"who": "me"})
        assert system.expect_event(("mine", "done"), who="me").measurements == {"n": 1}


def test_the_names_of_supervisor_events_are_the_supervisors() -> None:
    """The kit, which knows no supervisor, names the events that supervisors send."""
    assert set(RECORDED) >= {REPORT_EVENT, START_EVENT}


def test_the_whole_standard_tree_runs() -> None:
    """An application starts, its core is killed, all of it comes back, and it stops, in virtual time."""
    with VirtualSystem(seed=3) as system:
        app = system.start(dspex.astart, config={"events": {"in_memory": True}}, children=top("counter")[0])
        before = system.tree()
        system.kill(names.CORE)
        system.advance(60.0)
        assert system.tree() == before
        assert names.EVENTS in before
        assert system.run(app.health()).ok
        assert system.call("demo/counter", Increment(3)) == 3
        assert any(each.child == "core" for each in system.decisions)


def test_an_application_is_seeded_from_its_first_message() -> None:
    """The order in which actors run while the tree starts is drawn from the seed, and the same again."""

    class Racer(GenServer):
        def init(self, order: list[int], number: int) -> Continue:
            self.order, self.number = order, number
            return Continue()

        async def handle_continue(self, value: None) -> None:
            for _ in range(3):
                await asyncio.sleep(0)
            self.cast(self.myAddress, "go")

        @cast
        def go(self, message: str) -> None:
            self.order.append(self.number)

    def order_at_boot(seed: int) -> list[int]:
        order: list[int] = []
        with VirtualSystem(seed) as system:
            racers = [ChildSpec(number, Racer, (order, number)) for number in range(8)]
            system.start(dspex.astart, config={"events": {"in_memory": True}}, children=racers)
            system.settle()
        return order

    first = order_at_boot(1)
    assert sorted(first) == list(range(8))
    assert order_at_boot(1) == first
    assert any(order_at_boot(seed) != first for seed in range(2, 6))


def test_an_application_must_come_first() -> None:
    """A system has one engine."""
    with VirtualSystem() as system:
        system.spawn(Counter)
        with pytest.raises(UsageError, match="before"):
            system.start(dspex.astart)


# -- relays ----------------------------------------------------------------------------------------


def counted(system: VirtualSystem, counter: ActorAddress) -> int:
    """How far a counter is."""
    answer = system.call(counter, Increment(0))
    assert isinstance(answer, int)
    return answer


def test_a_relay_slows_drops_and_doubles() -> None:
    """Casts, plain messages and calls pass through it as it was told."""
    with VirtualSystem() as system:
        counter = system.spawn(Counter)
        relay = system.relay(counter, name="demo/way")
        assert system.call("demo/way", Increment(2)) == 2
        relay.slow(1.5)
        assert system.call("demo/way", Increment(2)) == 4
        assert system.now == 1001.5
        system.tell(relay.address, Tick())
        assert counted(system, counter) == 4
        system.advance(1.5)
        assert counted(system, counter) == 5
        relay.slow(0.0)
        relay.duplicate()
        system.tell(relay.address, Tick())
        assert counted(system, counter) == 7
        relay.drop()
        system.tell(relay.address, Tick())
        system.tell(relay.address, Tick())
        assert (counted(system, counter), relay.dropped) == (8, 1)
        relay.duplicate()
        assert system.call("demo/way", Increment(1)) in {9, 10}
        assert counted(system, counter) == 10


def test_a_partition_lasts_until_it_heals() -> None:
    """Calls into it time out, casts are lost, afterwards all is as before."""
    with VirtualSystem() as system:
        counter = system.spawn(Counter)
        relay = system.relay(counter)
        relay.partition()
        with pytest.raises(CallTimeout):
            system.call(relay.address, Increment(), timeout=2.0)
        system.cast(relay.address, After(0.0))
        relay.heal()
        assert system.call(relay.address, Increment()) == 1
        assert relay.dropped == 2


# -- the package -----------------------------------------------------------------------------------


def test_dspex_does_not_import_its_test_kit() -> None:
    """Programs that use dspex never load the kit, nor pytest."""
    code = "import sys, dspex; dspex.App, dspex.astart, dspex.GenServer, dspex.Supervisor, dspex.Registry"
    seen = "print([name for name in sys.modules if 'testing' in name and 'dspex' in name or name == 'pytest'])"
    done = subprocess.run(
        [sys.executable, "-c", f"{code}\n{seen}"], capture_output=True, text=True, timeout=50, check=True
    )
    assert done.stdout.strip() == "[]"


def test_leaving_with_an_error_notes_the_seed() -> None:
    """What leaves the block carries the seed; the loop is closed all the same, once."""
    system = VirtualSystem(seed=12)
    with pytest.raises(ZeroDivisionError) as caught, system:
        system.spawn(1 / 0)  # type: ignore[arg-type]
    assert "VirtualSystem(seed=12)" in caught.value.__notes__[0]
    assert system.loop.is_closed()
    system.close()


def killing_spree(seed: int) -> tuple[list[str], list[str]]:
    """What supervisors decided and what was stored while random parts of an application were killed."""
    with VirtualSystem(seed) as system:
        app = system.start(dspex.astart, config={"events": {"in_memory": True}}, children=top("a", "b")[0])
        victims = [entry.name for entry in system.engine.names.entries() if entry.name != names.APPLICATION]
        for _ in range(20):
            victim = system.rng.choice(victims)
            if system.engine.alive(victim):
                system.kill(victim)
            system.advance(system.rng.random())
        stored = system.run(app.events.query(order="oldest", limit=1000)).events
        return [f"{each.at} {each.supervisor} {each.kind} {each.child}" for each in system.decisions], [
            f"{each.id} {each.type} {each.time}" for each in stored
        ]


def test_a_whole_application_replays_from_its_seed() -> None:
    """Every supervisor decision and every stored event, ids and times included, is the same again."""
    first = killing_spree(5)
    assert len(first[0]) > 40
    assert killing_spree(5) == first
    assert killing_spree(6) != first
