"""The dynamic and the simple_one_for_one supervisor, beyond what the recorded traces show."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from dspex.runtime.child_spec import ChildSpec, StartChild, child_spec
from dspex.runtime.errors import AlreadyStarted, NoProcess, SpecError, StartError, SupervisorError, UnknownMessage
from dspex.runtime.gen_server import Ignore, Ignored
from dspex.runtime.messages import Suspend
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
from dspex.supervisors.simple import SimpleSupervisor
from dspex.supervisors.supervisor import Supervisor
from kit.supervision import Ask, End, House, Script, Stubborn, Worker, in_house


def worker(name: str, **options: Any) -> ChildSpec:
    """A worker with a registered name ``w/<id>``."""
    return child_spec(name, Worker, name, **{"name": f"w/{name}", **options})


async def refused(house: House, sup: Any, message: Any) -> Any:
    """The reason of the SupervisorError with which a call is refused."""
    with pytest.raises(SupervisorError) as caught:
        await house.call(sup, message)
    return caught.value.reason


def test_it_starts_empty_and_ids_need_not_be_unique() -> None:
    """DYN-01, DYN-02: no children at first; the same id twice is two children, listed without ids."""

    async def test(house: House) -> None:
        sup = await house.start(DynamicSupervisor)
        assert await house.call(sup, CountChildren()) == ChildCounts(0, 0, 0, 0)
        first = await house.call(sup, StartChild(ChildSpec("x", Worker)))
        second = await house.call(sup, StartChild(ChildSpec("x", Worker)))
        rows = await house.call(sup, WhichChildren())
        assert [(row.id, row.address) for row in rows] == [(None, second.address), (None, first.address)]

    in_house(test)


def test_extra_arguments_come_first_also_at_restart() -> None:
    """DYN-06."""

    async def test(house: House) -> None:
        sup = await house.start(DynamicSupervisor, extra_arguments=("extra",))
        await house.call(sup, StartChild(worker("a")))
        assert await house.call("w/a", Ask()) == ("extra", "a")
        await house.tell_to_end("w/a")
        assert await house.call("w/a", Ask()) == ("extra", "a")

    in_house(test)


def test_children_are_found_by_address_and_by_registered_name() -> None:
    """DYN-04: terminate by address, or by the name; ids mean nothing; strangers and the dead are not found."""

    async def test(house: House) -> None:
        sup = await house.start(DynamicSupervisor)
        started = await house.call(sup, StartChild(worker("a")))
        await house.call(sup, StartChild(worker("b")))
        spec = await house.call(sup, GetChildSpec(started.address))
        assert spec.id == "a"
        assert (await house.call(sup, WhichChild("w/b"))).name == "w/b"
        await house.call(sup, TerminateChild("w/b"))
        await house.call(sup, TerminateChild(started.address))
        assert (house.state("w/a"), house.state("w/b")) == ("dead", "dead")
        for stranger in ("a", "w/a", started.address, sup):
            assert await refused(house, sup, TerminateChild(stranger)) == "not_found"
        for message in (RestartChild("a"), DeleteChild("a")):
            with pytest.raises(UnknownMessage):
                await house.call(sup, message)

    in_house(test)


def test_failed_starts_have_bare_reasons() -> None:
    """DYN-02: nothing is wrapped, nothing kept; ignore is answered as such."""

    def broken(start_link: Any) -> Any:
        raise LookupError("lost")

    async def test(house: House) -> None:
        sup = await house.start(DynamicSupervisor)
        for spec, reason in (
            (worker("a", kwargs={"script": Script("boom")}), "boom"),
            (ChildSpec("b", broken), Crash(LookupError("lost"))),
        ):
            with pytest.raises(StartError) as caught:
                await house.call(sup, StartChild(spec))
            assert caught.value.reason == reason
        assert house.state("w/a") == "dead"
        ignoring = worker("c", kwargs={"script": Script(Ignore())})
        assert await house.call(sup, StartChild(ignoring)) == Ignored()
        assert house.state("w/c") == "dead"
        with pytest.raises(SpecError):
            await house.call(sup, StartChild({"id": "x"}))
        assert await house.call(sup, CountChildren()) == ChildCounts(0, 0, 0, 0)

    in_house(test)


def test_a_taken_name_is_already_started() -> None:
    """The holder's address comes with the error, and the holder is left alone."""

    async def test(house: House) -> None:
        sup = await house.start(DynamicSupervisor)
        first = await house.call(sup, StartChild(worker("a")))
        with pytest.raises(AlreadyStarted) as caught:
            await house.call(sup, StartChild(worker("a")))
        assert caught.value.address == first.address
        assert house.state("w/a") == "running"

    in_house(test)


def test_restarting_children_count_against_max_children() -> None:
    """DYN-05: a child that is backing off takes its place; its restart is never refused."""

    async def test(house: House) -> None:
        sup = await house.start(DynamicSupervisor, max_children=1)
        await house.call(sup, StartChild(worker("a", backoff=Backoff(initial=2.0, jitter=False))))
        await house.tell_to_end("w/a")
        assert await refused(house, sup, StartChild(worker("b"))) == "max_children"
        assert await house.call(sup, CountChildren()) == ChildCounts(1, 0, 0, 1)
        assert await house.call("w/a", Ask(), timeout=9.0) == ("a",)

    in_house(test)


def test_a_restarting_child_goes_by_its_last_address() -> None:
    """DYN-04: terminate_child with the last address of a restarting child cancels its retry."""

    async def test(house: House) -> None:
        sup = await house.start(DynamicSupervisor)
        last = (await house.call(sup, StartChild(worker("a", backoff=Backoff(initial=2.0, jitter=False))))).address
        await house.tell_to_end(last)
        assert (await house.call(sup, WhichChild(last))).state == "restarting"
        assert await house.call(sup, TerminateChild(last)) is None
        await asyncio.sleep(9.0)
        assert house.state("w/a") == "dead"
        assert (await house.call(sup, CountChildren())).specs == 0

    in_house(test)


def test_a_child_that_gave_up_is_forgotten_but_its_name_tells_why() -> None:
    """SUP-44, DYN-03: a transient supervisor that tripped ends with shutdown; the pool does not restart it."""

    async def test(house: House) -> None:
        pool = await house.start(DynamicSupervisor, max_restarts=0)
        module = Supervisor.child_spec("m", [worker("a")], max_restarts=0, restart="transient", name="sup/m")
        await house.call(pool, StartChild(module))
        address = house.address("sup/m")
        await house.tell_to_end("w/a", "bug")
        await house.engine.wait_down(address, None)
        assert await house.call(pool, CountChildren()) == ChildCounts(0, 0, 0, 0)
        assert (house.state("sup/m"), house.engine.names.get("sup/m").reason) == ("dead", "shutdown")  # type: ignore[union-attr]
        with pytest.raises(NoProcess) as caught:
            await house.call("w/a", Ask())
        assert caught.value.reason == "bug"

    in_house(test)


def test_all_stop_at_once_each_with_its_own_time() -> None:
    """DYN-09: the stop takes as long as its slowest child; who is too slow is killed after its own time."""

    async def test(house: House) -> None:
        sup = await house.start(DynamicSupervisor)
        for id, options in (
            ("s1", {"kwargs": {"slow": 3.0}, "shutdown": "infinity"}),
            ("s2", {"kwargs": {"slow": 2.0}}),
            ("s3", {"kwargs": {"slow": 4.0}, "shutdown": 1.0}),
        ):
            await house.call(sup, StartChild(worker(id, **options)))
        await house.call(sup, StartChild(child_spec("s4", Stubborn, shutdown=2.5)))
        began = house.now()
        ends: dict[str, float] = {}

        async def note_end(id: str) -> None:
            await house.engine.wait_down(f"w/{id}", None)
            ends[id] = house.now() - began

        watching = [asyncio.ensure_future(note_end(id)) for id in ("s1", "s2", "s3")]
        assert await house.stop(sup) == "shutdown"
        await asyncio.gather(*watching)
        assert ends == pytest.approx({"s1": 3.0, "s2": 2.0, "s3": 1.0})
        assert house.now() - began == pytest.approx(3.0)
        assert house.kinds == [("shutdown_error", "s3", "killed"), ("shutdown_error", "s4", "killed")]
        assert [house.state(f"w/{id}") for id in ("s1", "s2", "s3")] == ["dead"] * 3

    in_house(test)


def test_a_child_found_dead_at_the_stop_is_reported_unless_normal() -> None:
    """DYN-09: an end the supervisor had not handled yet is consumed by its stop, and reported as Elixir does."""

    async def test(house: House) -> None:
        sup = await house.start(DynamicSupervisor)
        for id, restart in (("a", "transient"), ("b", "transient"), ("c", "permanent")):
            await house.call(sup, StartChild(worker(id, restart=restart)))
        await house.call(sup, Suspend())
        for id, reason in (("a", "normal"), ("b", "shutdown"), ("c", "normal")):
            await house.tell_to_end(f"w/{id}", reason)
        assert await house.stop(sup) == "shutdown"
        assert house.kinds == [("shutdown_error", "b", "shutdown"), ("shutdown_error", "c", "normal")]

    in_house(test)


def test_a_significant_child_is_one_like_any_other() -> None:
    """There is no auto-shutdown: as recorded of Elixir, a significant spec is taken and means nothing."""

    async def test(house: House) -> None:
        sup = await house.start(DynamicSupervisor)
        await house.call(sup, StartChild(worker("a", restart="temporary", significant=True)))
        await house.tell_to_end("w/a", "normal")
        assert await house.call(sup, CountChildren()) == ChildCounts(0, 0, 0, 0)

    in_house(test)


def test_a_restart_that_is_ignored_forgets_the_child() -> None:
    """DYN-07: and its name is dead."""

    async def test(house: House) -> None:
        sup = await house.start(DynamicSupervisor)
        await house.call(sup, StartChild(worker("a", kwargs={"script": Script(None, Ignore())})))
        await house.tell_to_end("w/a")
        assert (await house.call(sup, CountChildren())).specs == 0
        assert house.state("w/a") == "dead"

    in_house(test)


def test_thousands_of_children_come_and_go() -> None:
    """No search by child: 5,000 children start, crash, are restarted and stop; none is left behind."""

    async def test(house: House) -> None:
        sup = await house.start(DynamicSupervisor, max_restarts=5_000)
        spec = ChildSpec("x", Worker)
        addresses = [(await house.call(sup, StartChild(spec))).address for _ in range(5_000)]
        for address in addresses:
            house.engine.cast(address, End("crash"))
        await asyncio.sleep(1.0)
        assert await house.call(sup, CountChildren()) == ChildCounts(5_000, 5_000, 0, 5_000)
        assert await house.stop(sup) == "shutdown"
        assert not house.engine.cells

    in_house(test)


def test_bad_flags_fail_the_start() -> None:
    """DYN-01: flags are checked; child_spec() raises at once."""

    async def test(house: House) -> None:
        reason = await house.start_fails(DynamicSupervisor, max_restarts=-1)
        assert reason == ("supervisor_data", ("invalid_intensity", -1))
        unknown = await house.start_fails(DynamicSupervisor, max_childs=3)
        assert "did you mean 'max_children'" in str(unknown.error)

    in_house(test)
    with pytest.raises(SpecError):
        DynamicSupervisor.child_spec("p", max_children=-1)
    assert DynamicSupervisor.child_spec(max_children=3).id == "DynamicSupervisor"


# -- simple_one_for_one ------------------------------------------------------------------------------


def test_instances_append_their_arguments_and_repeat_them() -> None:
    """SIM-02, SIM-05: extra arguments come last, also at a restart; names may be given one by one."""

    async def test(house: House) -> None:
        sup = await house.start(SimpleSupervisor, child_spec("t", Worker, "template"))
        await house.call(sup, StartInstance(("one",), name="w/one"))
        await house.call(sup, StartInstance(("two",), name="w/two"))
        with pytest.raises(SpecError):
            StartInstance(kwargs={"name": "w/three"})
        with pytest.raises(SpecError):
            StartInstance("three")  # type: ignore[arg-type]
        for name in (5, ""):
            with pytest.raises(SpecError):
                StartInstance(name=name)  # type: ignore[arg-type]
        await house.tell_to_end("w/one")
        assert await house.call("w/one", Ask()) == ("template", "one")
        assert await house.call("w/two", Ask()) == ("template", "two")

    in_house(test)


def test_simple_children_have_no_ids() -> None:
    """SIM-03, SIM-04: an id is refused, a dead address is fine, a living stranger is not found; the template by id."""

    async def test(house: House) -> None:
        sup = await house.start(SimpleSupervisor, ChildSpec("t", Worker))
        address = (await house.call(sup, StartInstance())).address
        for message in (TerminateChild("t"), RestartChild("t"), DeleteChild("t")):
            assert await refused(house, sup, message) == "simple_one_for_one"
        assert (await house.call(sup, GetChildSpec("t"))).id == "t"
        assert (await house.call(sup, GetChildSpec(address))).id == "t"
        assert await house.call(sup, TerminateChild(address)) is None
        assert await house.call(sup, TerminateChild(address)) is None
        assert await refused(house, sup, TerminateChild(sup)) == "not_found"
        with pytest.raises(UnknownMessage):
            await house.call(sup, StartChild(ChildSpec("x", Worker)))

    in_house(test)


def test_a_simple_restart_that_is_ignored_forgets_the_child() -> None:
    """SIM-07: no entry stays behind, and the supervisor stops in peace."""

    async def test(house: House) -> None:
        template = child_spec("t", Worker, kwargs={"script": Script(None, Ignore())})
        sup = await house.start(SimpleSupervisor, template)
        await house.call(sup, StartInstance(name="w/one"))
        await house.tell_to_end("w/one")
        assert await house.call(sup, WhichChildren()) == ()
        assert await house.call(sup, CountChildren()) == ChildCounts(1, 0, 0, 0)
        assert house.state("w/one") == "dead"
        assert await house.stop(sup) == "shutdown"
        assert [kind for kind, _, _ in house.kinds] == ["child_terminated"]

    in_house(test)


def test_a_restarting_simple_child_counts_and_goes_by_its_last_address() -> None:
    """SIM-08: listed as restarting, a worker but not active; removed by its last address, and the count is right."""

    async def test(house: House) -> None:
        template = child_spec("t", Worker, backoff=Backoff(initial=5.0, jitter=False))
        sup = await house.start(SimpleSupervisor, template)
        first = (await house.call(sup, StartInstance())).address
        await house.call(sup, StartInstance())
        await house.tell_to_end(first)
        assert [row.state for row in await house.call(sup, WhichChildren())] == ["running", "restarting"]
        assert await house.call(sup, CountChildren()) == ChildCounts(1, 1, 0, 2)
        assert await house.call(sup, TerminateChild(first)) is None
        await asyncio.sleep(10.0)  # its retry would have come
        assert await house.call(sup, CountChildren()) == ChildCounts(1, 1, 0, 1)

    in_house(test)


def test_what_an_instance_is_given_does_not_show() -> None:
    """Arguments may be secret: a message with them does not show them when it is printed."""
    for message in (
        StartInstance(("sesame",), {"key": "sesame"}),
        StartChild({"id": 1, "start": (Worker, ["sesame"])}),
    ):
        assert "sesame" not in repr(message)


@pytest.mark.parametrize("templates", [(), (ChildSpec("a", Worker), ChildSpec("b", Worker))])
def test_there_is_exactly_one_template(templates: Any) -> None:
    """SIM-01."""

    async def test(house: House) -> None:
        assert await house.start_fails(SimpleSupervisor, templates) == ("bad_start_spec", templates or ())

    in_house(test)
    with pytest.raises(SpecError):
        SimpleSupervisor.child_spec("s", templates)


def test_a_simple_stop_reports_reasons_grouped() -> None:
    """SIM-06: one report for each unexpected reason, with the number of children; the time is one for all."""

    async def test(house: House) -> None:
        sup = await house.start(SimpleSupervisor, child_spec("t", Stubborn, shutdown=2.0))
        for _ in range(3):
            await house.call(sup, StartInstance())
        began = house.now()
        await house.stop(sup)
        assert house.now() - began == pytest.approx(2.0)
        [(kind, child, reason)] = house.reports
        assert (kind, reason, child.count, child.address) == ("shutdown_error", "killed", 3, None)

    in_house(test)


def test_simple_one_for_one_refuses_auto_shutdown() -> None:
    """SUP-68: and a significant template."""

    async def test(house: House) -> None:
        reason = await house.start_fails(SimpleSupervisor, ChildSpec("t", Worker), auto_shutdown="any_significant")
        assert reason[1][0] == "bad_combination"
        significant = ChildSpec("t", Worker, restart="transient", significant=True)
        assert (await house.start_fails(SimpleSupervisor, significant))[0] == "start_spec"

    in_house(test)
