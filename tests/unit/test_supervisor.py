"""The static supervisor, beyond what the recorded traces show: names, calls, flags, back-off, reports."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from dspex.runtime.child_spec import ChildSpec, StartChild, child_spec
from dspex.runtime.errors import (
    ActorDied,
    AlreadyStarted,
    CallError,
    NoProcess,
    SpecError,
    StartError,
    SupervisorError,
    UnknownMessage,
)
from dspex.runtime.gen_server import GenServer, Ignore, Ignored, StartFailed
from dspex.runtime.reasons import Crash
from dspex.supervisors.backoff import Backoff
from dspex.supervisors.dynamic_supervisor import DynamicSupervisor
from dspex.supervisors.messages import (
    ChildCounts,
    CountChildren,
    DeleteChild,
    GetChildSpec,
    RestartChild,
    StartInstance,
    TerminateChild,
    WhichChild,
    WhichChildren,
)
from dspex.supervisors.reports import START_EVENT
from dspex.supervisors.simple import SimpleSupervisor
from dspex.supervisors.supervisor import Supervisor
from kit.supervision import Ask, End, House, Script, Stubborn, Worker, in_house


def worker(name: str, **options: Any) -> ChildSpec:
    """A worker with a registered name ``w/<id>``."""
    return child_spec(name, Worker, name, **{"name": f"w/{name}", **options})


# -- start -------------------------------------------------------------------------------------------


def test_a_subclass_sets_flags_and_children_as_class_attributes() -> None:
    """A Supervisor subclass is started without arguments; arguments win over attributes."""

    class Family(Supervisor):
        strategy = "one_for_all"
        max_restarts = 0
        children = (worker("a"), worker("b"))

    async def test(house: House) -> None:
        sup = await house.start(Family)
        assert await house.call(sup, CountChildren()) == ChildCounts(2, 2, 0, 2)
        other = await house.start(Family, children=[worker("c")], max_restarts=1)
        await house.tell_to_end("w/c")
        assert await house.call("w/c", Ask()) == ("c",)
        await house.tell_to_end("w/a")
        assert (await house.engine.wait_down(sup, None))[1] == "shutdown"
        assert house.engine.alive(other)

    in_house(test)


def test_a_misspelt_class_attribute_is_refused_where_it_is_written() -> None:
    """The class itself is an error, with the nearest known word, and not only its start."""
    with pytest.raises(SpecError, match="did you mean 'one_for_all'"):
        type("Family", (Supervisor,), {"strategy": "one_for_al"})
    for base in (Supervisor, DynamicSupervisor, SimpleSupervisor):
        with pytest.raises(SpecError, match="max_restarts"):
            type("Family", (base,), {"max_restarts": -1})


def test_a_nested_supervisor_comes_from_child_spec() -> None:
    """Supervisor.child_spec makes a child of type supervisor, with infinity as its shutdown (SUP-01)."""

    class Family(Supervisor):
        children = (worker("a"),)

    async def test(house: House) -> None:
        sup = await house.start(Supervisor, [Family, Supervisor.child_spec("other", [worker("b")])])
        rows = await house.call(sup, WhichChildren())
        assert [(row.id, row.type) for row in rows] == [("other", "supervisor"), ("Family", "supervisor")]
        assert (await house.call(sup, GetChildSpec("Family"))).shutdown == "infinity"
        assert await house.call("w/a", Ask()) == ("a",)
        assert await house.call("w/b", Ask()) == ("b",)

    in_house(test)


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"strategy": "one_for_al"}, ("supervisor_data", ("invalid_strategy", "one_for_al"))),
        ({"strategy": "simple_one_for_one"}, ("supervisor_data", ("invalid_strategy", "simple_one_for_one"))),
        ({"children": [{"id": "x"}]}, ("start_spec", "missing_start")),
        ({"children": [worker("a"), worker("a")]}, ("start_spec", ("duplicate_child_name", "a"))),
    ],
)
def test_everything_is_checked_before_anything_starts(options: dict[str, Any], reason: Any) -> None:
    """SUP-02: the start fails with OTP's reason, and no child was started; child_spec() raises it at once."""

    async def test(house: House) -> None:
        assert await house.start_fails(Supervisor, **options) == reason
        assert house.engine.counters.spawned == 1

    in_house(test)
    with pytest.raises(SpecError) as caught:
        Supervisor.child_spec("s", **options)
    assert caught.value.reason == reason


def test_a_misspelt_option_fails_the_start_with_the_nearest_one() -> None:
    """Constructors refuse unknown options with a did-you-mean."""

    async def test(house: House) -> None:
        reason = await house.start_fails(Supervisor, stratgy="one_for_all")
        assert isinstance(reason, Crash)
        assert "did you mean 'strategy'" in str(reason.error)

    in_house(test)
    with pytest.raises(SpecError, match="did you mean 'restart'"):
        Supervisor.child_spec("s", restrat="temporary")


def test_the_next_child_starts_when_the_former_has_answered() -> None:
    """SUP-03: a slow init delays the start of the next child, and that of the supervisor itself."""

    class Slow(Worker):
        async def init(self, *tags: Any, log: list[Any] | None = None, **options: Any) -> None:
            await asyncio.sleep(3.0)
            super().init(*tags, log=log)

    async def test(house: House) -> None:
        children = [child_spec(id, Slow, id, kwargs={"log": house.log}) for id in ("a", "b")]
        starting = asyncio.ensure_future(house.start(Supervisor, children))
        began = house.now()
        await asyncio.sleep(4.0)
        assert house.log == [("start", "a")]
        await starting
        assert house.log == [("start", "a"), ("start", "b")]
        assert house.now() - began == pytest.approx(6.0)

    in_house(test)


def test_a_failed_boot_leaves_no_name_running() -> None:
    """SUP-04: the names of children that were rolled back, and of the one that failed, are dead."""

    async def test(house: House) -> None:
        bad = worker("b", kwargs={"script": Script("boom")})
        reason = await house.start_fails(Supervisor, [worker("a"), bad, worker("c")])
        assert reason == ("shutdown", ("failed_to_start_child", "b", "boom"))
        assert [house.state(name) for name in ("w/a", "w/b", "w/c")] == ["dead", "dead", "unknown"]

    in_house(test)


def test_a_start_function_may_choose_what_it_starts() -> None:
    """SUP-07: a start function links a child by start_link; the spec's name is bound; failures of all kinds."""

    async def choose(start_link: Any, *tags: str) -> Any:
        return await start_link(Worker, *tags)

    def junk(start_link: Any) -> Any:
        return 42

    def failing(start_link: Any) -> Any:
        return StartFailed("no")

    def broken(start_link: Any) -> Any:
        raise LookupError("lost")

    def leaving(start_link: Any) -> Any:
        raise SystemExit(3)

    async def test(house: House) -> None:
        sup = await house.start(Supervisor, [child_spec("a", choose, "x", name="w/a")])
        assert await house.call("w/a", Ask()) == ("x",)
        await house.tell_to_end("w/a")
        assert await house.call("w/a", Ask()) == ("x",)
        expected: list[tuple[Callable[..., Any], Any]] = [
            (junk, 42),
            (failing, "no"),
            (broken, ("EXIT", Crash(LookupError("lost")))),
            (leaving, ("EXIT", Crash(SystemExit(3)))),
        ]
        for function, reason in expected:
            spec = ChildSpec("f", function)
            with pytest.raises(StartError) as caught:
                await house.call(sup, StartChild(spec))
            assert caught.value.reason == (reason, spec)

    in_house(test)


def test_what_a_start_function_leaves_behind_is_killed() -> None:
    """A start function that starts a child and then fails leaves no orphan, and its end is nobody's."""

    async def half(start_link: Any) -> Any:
        await start_link(Worker)
        raise LookupError("lost")

    async def test(house: House) -> None:
        sup = await house.start(Supervisor)
        with pytest.raises(StartError):
            await house.call(sup, StartChild(ChildSpec("h", half, name="w/h")))
        assert len(house.engine.cells) == 1
        assert house.state("w/h") == "dead"
        assert house.reports == []

    in_house(test)


@pytest.mark.parametrize("cls", [Supervisor, DynamicSupervisor])
def test_a_class_that_offers_no_good_spec_harms_nobody(cls: type[Supervisor | DynamicSupervisor]) -> None:
    """start_child with a class whose child_spec() fails is refused; the supervisor and its children live on."""

    class Needs(Worker):
        @classmethod
        def child_spec(cls, id: str) -> ChildSpec:
            return ChildSpec(id, cls)

    async def test(house: House) -> None:
        sup = await house.start(cls)
        await house.call(sup, StartChild(worker("a")))
        with pytest.raises(SpecError, match=r"Needs\.child_spec\(\)"):
            await house.call(sup, StartChild(Needs))
        assert await house.call("w/a", Ask()) == ("a",)
        assert (await house.call(sup, CountChildren())).active == 1

    in_house(test)


@pytest.mark.parametrize("cls", [Supervisor, DynamicSupervisor])
def test_a_mailbox_limit_that_makes_no_sense_harms_nobody(cls: type[Supervisor | DynamicSupervisor]) -> None:
    """A child whose spec gives the engine nonsense does not start; the supervisor lives on."""

    async def test(house: House) -> None:
        sup = await house.start(cls)
        with pytest.raises(StartError, match="mailbox_limit"):
            await house.call(sup, StartChild(worker("a", kwargs={"mailbox_limit": "many"})))
        assert house.engine.alive(sup)

    in_house(test)


# -- names -------------------------------------------------------------------------------------------


def test_calls_to_a_restarting_name_wait_for_it() -> None:
    """A caller of a crashed child is answered by its next incarnation."""

    async def test(house: House) -> None:
        await house.start(Supervisor, [worker("a")])
        await house.tell_to_end("w/a")
        assert house.state("w/a") == "restarting"
        assert await house.call("w/a", Ask(), timeout=1.0) == ("a",)
        entry = house.engine.names.get("w/a")
        assert entry is not None
        assert (entry.state, entry.incarnation, entry.restarts, entry.reason) == ("running", 2, 1, "crash")

    in_house(test)


def test_callers_wait_through_failed_restarts() -> None:
    """A restart that fails and is tried again leaves the waiting callers waiting (SUP-50)."""

    async def test(house: House) -> None:
        script = Script(None, "boom", "boom", None)
        await house.start(Supervisor, [worker("a", kwargs={"script": script})], max_restarts=5)
        await house.tell_to_end("w/a")
        assert await house.call("w/a", Ask(), timeout=1.0) == ("a",)
        assert script.attempts == 4

    in_house(test)


def test_callers_of_a_sibling_in_a_group_restart_wait_too() -> None:
    """one_for_all: a sibling that is stopped to be started again is restarting, not dead."""

    async def test(house: House) -> None:
        await house.start(Supervisor, [worker("a"), worker("b", kwargs={"slow": 0.5})], strategy="one_for_all")
        await house.tell_to_end("w/a")
        await asyncio.sleep(0.1)
        assert (house.state("w/a"), house.state("w/b")) == ("restarting", "restarting")
        assert await house.call("w/b", Ask(), timeout=1.0) == ("b",)

    in_house(test)


def test_a_child_that_is_not_restarted_is_dead_with_its_reason() -> None:
    """Transient after a normal end, temporary after any: dead at once, calls fail typed."""

    async def test(house: House) -> None:
        await house.start(Supervisor, [worker("a", restart="transient"), worker("b", restart="temporary")])
        await house.tell_to_end("w/a", "normal")
        await house.tell_to_end("w/b", "crash")
        for name, reason in (("w/a", "normal"), ("w/b", "crash")):
            with pytest.raises(NoProcess) as caught:
                await house.call(name, Ask())
            assert caught.value.reason == reason
            assert house.state(name) == "dead"

    in_house(test)


def test_a_trip_leaves_the_guilty_child_dead_with_its_own_reason() -> None:
    """SUP-43: after a trip all names are dead; the one that died keeps its reason, the others got shutdown."""

    async def test(house: House) -> None:
        sup = await house.start(Supervisor, [worker("a"), worker("b")], max_restarts=0)
        await house.tell_to_end("w/a", "oom")
        assert (await house.engine.wait_down(sup, None))[1] == "shutdown"
        reasons = [(house.state(name), house.engine.names.get(name).reason) for name in ("w/a", "w/b")]  # type: ignore[union-attr]
        assert reasons == [("dead", "oom"), ("dead", "shutdown")]

    in_house(test)


def test_names_are_stopping_while_a_supervisor_stops() -> None:
    """A stop in progress is visible: stopping, then dead, the last child first."""

    async def test(house: House) -> None:
        sup = await house.start(Supervisor, [worker("a"), worker("b", kwargs={"slow": 1.0})])
        stop = asyncio.ensure_future(house.stop(sup))
        await asyncio.sleep(0.5)
        assert (house.state("w/a"), house.state("w/b")) == ("stopping", "stopping")
        assert await stop == "shutdown"
        assert (house.state("w/a"), house.state("w/b")) == ("dead", "dead")

    in_house(test)


def test_terminate_restart_and_delete_show_in_the_name_table() -> None:
    """terminate_child: dead; restart_child: running, but no restart is counted; delete_child: gone."""

    async def test(house: House) -> None:
        sup = await house.start(Supervisor, [worker("a")])
        await house.call(sup, TerminateChild("a"))
        assert house.state("w/a") == "dead"
        await house.call(sup, RestartChild("a"))
        entry = house.engine.names.get("w/a")
        assert entry is not None
        assert (entry.state, entry.restarts) == ("running", 0)
        await house.call(sup, TerminateChild("a"))
        await house.call(sup, DeleteChild("a"))
        assert house.state("w/a") == "unknown"

    in_house(test)


def test_a_name_that_is_taken_is_already_started() -> None:
    """A start whose registered name somebody holds fails with the holder's address, and takes nothing from it."""

    async def test(house: House) -> None:
        holder = await house.start(Worker, "holder", name="w/a")
        sup = await house.start(Supervisor)
        with pytest.raises(AlreadyStarted) as caught:
            await house.call(sup, StartChild(worker("a")))
        assert caught.value.address == holder
        assert await house.call("w/a", Ask()) == ("holder",)
        assert await house.call(sup, CountChildren()) == ChildCounts(0, 0, 0, 0)

    in_house(test)


def test_a_killed_supervisors_children_are_dead() -> None:
    """SUP-16: killed with their supervisor, nobody will restart them: their names are dead, not restarting."""

    async def test(house: House) -> None:
        sup = await house.start(Supervisor, [worker("a")])
        address = house.address("w/a")
        house.engine.kill(sup)
        assert (await house.engine.wait_down(address, None))[1] == "killed"
        assert house.state("w/a") == "dead"

    in_house(test)


# -- management calls --------------------------------------------------------------------------------


def test_refusals_are_typed_and_carry_otps_words() -> None:
    """SUP-70 to SUP-76: each refusal raises at the caller; the supervisor lives on."""

    async def test(house: House) -> None:
        sup = await house.start(Supervisor, [worker("a"), worker("t", restart="transient")])
        await house.tell_to_end("w/t", "normal")
        refused = [
            (RestartChild("a"), "running"),
            (DeleteChild("a"), "running"),
            (StartChild(worker("t")), "already_present"),
        ]
        refused += [
            (make("nobody"), "not_found")
            for make in (TerminateChild, RestartChild, DeleteChild, GetChildSpec, WhichChild)
        ]
        for message, word in refused:
            with pytest.raises(SupervisorError) as caught:
                await house.call(sup, message)
            assert caught.value.reason == word
        with pytest.raises(AlreadyStarted) as started:
            await house.call(sup, StartChild(worker("a")))
        assert started.value.address == house.address("w/a")
        with pytest.raises(SpecError):
            await house.call(sup, StartChild({"id": "x"}))
        with pytest.raises(UnknownMessage):
            await house.call(sup, StartInstance())
        with pytest.raises(SupervisorError):
            await house.call(sup, TerminateChild(([],)))
        assert await house.call("w/a", Ask()) == ("a",)

    in_house(test)


def test_ignored_children_keep_their_spec() -> None:
    """SUP-05: ignore is a start without a process; the child can be restarted later."""

    async def test(house: House) -> None:
        sup = await house.start(Supervisor)
        script = Script(Ignore(), None)
        assert await house.call(sup, StartChild(worker("a", kwargs={"script": script}))) == Ignored()
        row = await house.call(sup, WhichChild("a"))
        assert (row.state, row.address, house.state("w/a")) == ("undefined", None, "dead")
        started = await house.call(sup, RestartChild("a"))
        assert (await house.call(sup, WhichChild("a"))).address == started.address

    in_house(test)


def test_nothing_else_is_served_while_a_child_stops() -> None:
    """SUP-78: a call waits until the child that is being stopped is gone."""

    async def test(house: House) -> None:
        sup = await house.start(Supervisor, [worker("a", kwargs={"slow": 2.0})])
        began = house.now()
        terminate = asyncio.ensure_future(house.call(sup, TerminateChild("a")))
        await asyncio.sleep(0)
        assert await house.call(sup, CountChildren()) == ChildCounts(1, 0, 0, 1)
        assert house.now() - began == pytest.approx(2.0)
        await terminate

    in_house(test)


def test_calls_to_a_supervisor_that_ends_fail_with_its_reason() -> None:
    """SUP-77: dead: no process; ending meanwhile: its exit reason."""

    async def test(house: House) -> None:
        sup = await house.start(Supervisor, [worker("a", kwargs={"slow": 1.0})])
        stop = asyncio.ensure_future(house.stop(sup, "because"))
        await asyncio.sleep(0.5)
        with pytest.raises(ActorDied) as caught:
            await house.call(sup, WhichChildren())
        assert caught.value.reason == "because"
        await stop
        with pytest.raises(NoProcess):
            await house.call(sup, WhichChildren())

    in_house(test)


def test_a_supervisor_in_a_retry_loop_still_serves() -> None:
    """SUP-56: between the tries of a restart that keeps failing, calls are answered and a stop is obeyed."""

    async def test(house: House) -> None:
        script = Script(None, "boom")
        sup = await house.start(Supervisor, [worker("a", kwargs={"script": script})], max_restarts=10**9)
        await house.tell_to_end("w/a")
        for _ in range(3):
            assert (await house.call(sup, CountChildren())).active == 0
        assert script.attempts > 3
        assert await house.stop(sup) == "shutdown"

    in_house(test)


def test_a_child_that_unlinked_itself_cannot_hang_the_stop() -> None:
    """SUP-17: the end of a child is seen by a monitor, link or no link."""

    class Unlinked(GenServer):
        def init(self, parent_name: str) -> None:
            self.unlink(parent_name)

    async def test(house: House) -> None:
        children = [child_spec("u", Unlinked, "the/sup", name="w/u")]
        sup = await house.start(Supervisor, children, name="the/sup")
        assert await house.call(sup, TerminateChild("u")) is None
        assert house.state("w/u") == "dead"

    in_house(test)


def test_a_stubborn_child_is_killed_after_its_time() -> None:
    """SUP-12: shutdown seconds are waited, then the child is killed, and the report says so (SUP-14)."""

    async def test(house: House) -> None:
        sup = await house.start(Supervisor, [child_spec("s", Stubborn, shutdown=2.5)])
        began = house.now()
        await house.stop(sup)
        assert house.now() - began == pytest.approx(2.5)
        assert house.kinds == [("shutdown_error", "s", "killed")]

    in_house(test)


# -- back-off ----------------------------------------------------------------------------------------


def test_backoff_delays_the_restart_and_shows() -> None:
    """With ``backoff`` a restart waits; meanwhile the name is backing_off and its callers wait."""

    async def test(house: House) -> None:
        backoff = Backoff(initial=2.0, maximum=30.0, jitter=False)
        await house.start(Supervisor, [worker("a", backoff=backoff)], max_restarts=9)
        began = house.now()
        await house.tell_to_end("w/a")
        await asyncio.sleep(0.1)
        assert house.state("w/a") == "backing_off"
        assert await house.call("w/a", Ask(), timeout=10.0) == ("a",)
        assert house.now() - began == pytest.approx(2.0)
        await house.tell_to_end("w/a")
        await house.call("w/a", Ask(), timeout=10.0)
        assert house.now() - began == pytest.approx(6.0)

    in_house(test)


def test_backoff_forgets_failures_after_a_good_run() -> None:
    """A child that ran for reset_after seconds begins with the first delay again."""

    async def test(house: House) -> None:
        backoff = Backoff(initial=1.0, maximum=30.0, reset_after=50.0, jitter=False)
        await house.start(Supervisor, [worker("a", backoff=backoff)], max_restarts=9)
        delays = []
        for pause in (0.0, 0.0, 60.0):
            await asyncio.sleep(pause)
            began = house.now()
            await house.tell_to_end("w/a")
            await house.call("w/a", Ask(), timeout=100.0)
            delays.append(round(house.now() - began, 3))
        assert delays == [1.0, 2.0, 1.0]

    in_house(test)


def test_backoff_never_stands_in_for_the_intensity() -> None:
    """Delayed restarts count as OTP counts them: too many inside the window trip the supervisor."""

    async def test(house: House) -> None:
        backoff = Backoff(initial=0.5, maximum=0.5, jitter=False)
        sup = await house.start(Supervisor, [worker("a", backoff=backoff)], max_restarts=1, max_seconds=5.0)
        await house.tell_to_end("w/a")
        await house.call("w/a", Ask(), timeout=9.0)
        await house.tell_to_end("w/a")
        assert (await house.engine.wait_down(sup, 9.0)) == (True, "shutdown")
        assert house.kinds[-1] == ("shutdown", "a", "reached_max_restart_intensity")

    in_house(test)


def test_terminate_child_cancels_a_delayed_restart() -> None:
    """SUP-55: a child that is backing off can be terminated; its retry never comes."""

    async def test(house: House) -> None:
        sup = await house.start(Supervisor, [worker("a", backoff=Backoff(initial=1.0, jitter=False))])
        await house.tell_to_end("w/a")
        await house.call(sup, TerminateChild("a"))
        await asyncio.sleep(5.0)
        assert house.state("w/a") == "dead"
        assert (await house.call(sup, WhichChild("a"))).state == "undefined"

    in_house(test)


def test_a_group_restart_takes_a_child_out_of_its_delay() -> None:
    """A sibling's group restart starts a child that is backing off, and its own retry is dropped."""

    async def test(house: House) -> None:
        children = [worker("a", backoff=Backoff(initial=3.0, jitter=False)), worker("b")]
        await house.start(Supervisor, children, strategy="one_for_all")
        await house.tell_to_end("w/a")
        await asyncio.sleep(1.0)
        assert house.engine.alive("w/b")
        await house.tell_to_end("w/b")
        await house.call("w/a", Ask())
        first = house.address("w/a")
        await asyncio.sleep(9.0)
        assert house.address("w/a") == first

    in_house(test)


# -- reports and robustness --------------------------------------------------------------------------


def test_reports_carry_the_fields_of_otp() -> None:
    """LOG-01, LOG-06: id, address, start, restart, significant, shutdown, type; progress for each start (LOG-05)."""

    async def test(house: House) -> None:
        started: list[Any] = []
        house.engine.telemetry.attach(
            "starts", START_EVENT, lambda e, m, metadata, c: started.append(metadata["child"])
        )
        await house.start(Supervisor, [worker("a", shutdown="brutal_kill"), worker("b")])
        address = house.address("w/a")
        await house.tell_to_end("w/a")
        await house.call("w/a", Ask())
        [(kind, child, reason)] = house.reports
        assert (kind, reason, child.id, child.address, child.name) == ("child_terminated", "crash", "a", address, "w/a")
        facts = (child.start, child.args, child.restart, child.significant, child.shutdown, child.type)
        assert facts == ("Worker", ("a",), "permanent", False, "brutal_kill", "worker")
        assert started == ["a", "b", "a"]

    in_house(test)


def test_arguments_are_not_in_a_reports_repr() -> None:
    """What a child was started with may be secret: a report that is printed does not show it."""

    async def test(house: House) -> None:
        await house.start(Supervisor, [worker("a", args=("sesame",))])
        await house.tell_to_end("w/a")
        await house.call("w/a", Ask())
        assert house.reports
        assert "sesame" not in repr(house.reports)

    in_house(test)


def test_a_failing_report_handler_does_not_harm_the_supervisor() -> None:
    """Telemetry handlers run inside the supervisor; one that raises is detached, the restart goes on."""

    async def test(house: House) -> None:
        def broken(*_: Any) -> None:
            raise ValueError("handler")

        house.engine.telemetry.attach("broken", ("dspex", "supervisor", "report"), broken)
        await house.start(Supervisor, [worker("a")])
        await house.tell_to_end("w/a")
        assert await house.call("w/a", Ask()) == ("a",)

    in_house(test)


def test_strangers_and_unknown_messages_do_nothing() -> None:
    """SUP-15: exit signals of strangers and unknown messages are dropped."""

    async def test(house: House) -> None:
        sup = await house.start(Supervisor, [worker("a")])
        stranger = await house.start(Worker, "stranger")
        house.engine.send(sup, "what", None)
        sup.cell.signal("shutdown", stranger.cell)
        assert (await house.call(sup, CountChildren())).active == 1

    in_house(test)


def test_an_unknown_cast_ends_a_supervisor_and_its_children_stop_in_order() -> None:
    """GS-12: a cast nobody handles crashes it; terminate runs, so no child is left."""

    async def test(house: House) -> None:
        log: list[Any] = []
        children = [child_spec(id, Worker, id, kwargs={"log": log}) for id in ("a", "b")]
        sup = await house.start(Supervisor, children)
        house.engine.cast(sup, End("x"))
        await house.engine.wait_down(sup, None)
        assert log == [("start", "a"), ("start", "b"), ("stop", "b"), ("stop", "a")]

    in_house(test)


def test_many_children_die_at_once() -> None:
    """500 crashes in one mailbox: each is handled, each child comes back, callers are answered."""

    async def test(house: House) -> None:
        names = [f"n{number}" for number in range(500)]
        sup = await house.start(Supervisor, [worker(name) for name in names], max_restarts=500)
        for name in names:
            house.engine.cast(f"w/{name}", End("crash"))
        await house.call(sup, CountChildren())
        assert await house.call("w/n499", Ask()) == ("n499",)
        assert (await house.call(sup, CountChildren())).active == 500
        assert len(house.reports) == 500

    in_house(test)


def test_errors_are_call_errors_or_supervisor_errors_but_never_bare() -> None:
    """Whatever a management call of a dying supervisor raises is in the error tree."""

    async def test(house: House) -> None:
        sup = await house.start(Supervisor, [worker("a", kwargs={"slow": 0.5})])
        calls = [asyncio.ensure_future(house.call(sup, WhichChildren())) for _ in range(3)]
        house.engine.kill(sup)
        results = await asyncio.gather(*calls, return_exceptions=True)
        assert all(isinstance(result, (tuple, CallError)) for result in results)

    in_house(test)


@pytest.mark.parametrize(("kind", "seconds"), [(Worker, 2.0), (Stubborn, 5.0)])
def test_children_of_a_killed_supervisor_are_waited_for(kind: type[Worker], seconds: float) -> None:
    """A new incarnation waits for an orphan that holds a name it needs, at most its shutdown time."""

    async def test(house: House) -> None:
        orphan = ChildSpec("a", kind, ("a",), {"slow": 2.0}, name="w/a")
        inner = Supervisor.child_spec("inner", [orphan], name="s/inner")
        await house.start(Supervisor, [inner])
        began = house.now()
        house.engine.kill("s/inner")
        await house.engine.wait_down(house.address("w/a"), None)
        assert await house.call("w/a", Ask()) == ("a",)
        assert house.now() - began == pytest.approx(seconds)
        assert house.kinds == [("child_terminated", "inner", "killed")]

    in_house(test)
