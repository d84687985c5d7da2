"""PartitionSupervisor: OTP PAR-01, in virtual time."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dspex.runtime.child_spec import ChildSpec, child_spec
from dspex.runtime.errors import NoProcess, SpecError, StartError, UsageError
from dspex.runtime.gen_server import GenServer, call
from dspex.supervisors.messages import CountChildren, WhichChildren
from dspex.supervisors.partition_supervisor import PartitionSupervisor, Resize, partition_of
from dspex.supervisors.supervisor import Supervisor
from kit.supervision import Ask, House, Script, Worker, in_house

SUP = "p/cache"
SPEC = child_spec("ignored", Worker, "w")


def with_partitions(test: Callable[[House], Any], child: Any = SPEC, **options: Any) -> None:
    """Run a test with a partition supervisor of four."""

    async def run(house: House) -> None:
        await house.start(PartitionSupervisor, child, name=SUP, **{"partitions": 4, **options})
        await test(house)

    in_house(run)


def route(house: House, key: Any, name: str = SUP) -> str:
    """The name of a key's partition."""
    return PartitionSupervisor.route(house.engine, name, key)


def test_one_spec_makes_n_children_with_their_numbers_as_ids() -> None:
    """PAR-01: ids 0 .. n-1 from one spec, named after their supervisor."""

    async def test(house: House) -> None:
        rows = await house.call(SUP, WhichChildren())
        assert [(row.id, row.state, row.name) for row in reversed(rows)] == [
            (n, "running", f"p/cache.{n}") for n in range(4)
        ]

    with_partitions(test)


def test_each_partition_is_restarted_by_itself() -> None:
    """PAR-01: one_for_one; a key's partition is found again after its restart."""

    async def test(house: House) -> None:
        before = {row.id: row.address for row in await house.call(SUP, WhichChildren())}
        await house.tell_to_end("p/cache.2")
        assert await house.call(route(house, 2), Ask()) == ("w",)
        after = {row.id: row.address for row in await house.call(SUP, WhichChildren())}
        assert [n for n in range(4) if before[n] != after[n]] == [2]

    with_partitions(test)


def test_with_arguments_varies_each_partitions_arguments() -> None:
    """PAR-01: with_arguments gets the spec's arguments and the number; also at a restart."""

    async def test(house: House) -> None:
        assert [await house.call(route(house, n), Ask()) for n in range(4)] == [("w", n) for n in range(4)]
        await house.tell_to_end("p/cache.3")
        assert await house.call(route(house, 3), Ask()) == ("w", 3)

    with_partitions(test, with_arguments=lambda args, number: (*args, number))


@given(key=st.integers(), partitions=st.integers(1, 50))
def test_an_integer_goes_to_its_remainder(key: int, partitions: int) -> None:
    """PAR-01: abs(key) mod n."""
    assert partition_of(key, partitions) == abs(key) % partitions


@given(key=st.one_of(st.text(), st.binary(), st.tuples(st.text(), st.integers())), partitions=st.integers(1, 50))
def test_any_other_key_goes_to_a_hash(key: Any, partitions: int) -> None:
    """PAR-01: a hash within range, the same for equal keys."""
    found = partition_of(key, partitions)
    assert 0 <= found < partitions
    assert partition_of(key, partitions) == found


def test_the_hash_spreads_and_is_the_same_in_every_process() -> None:
    """PAR-01: keys reach every partition, and another process finds the same one."""
    keys = [f"user-{n}" for n in range(200)]
    here = [partition_of(key, 7) for key in keys]
    assert set(here) == set(range(7))
    code = (
        "from dspex.supervisors.partition_supervisor import partition_of\n"
        "print([partition_of(f'user-{n}', 7) for n in range(200)])"
    )
    there = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert there.stdout.strip() == str(here)


def test_a_key_without_a_text_of_its_own_is_refused() -> None:
    """PAR-01: an object that prints as its address in memory would go elsewhere in each run."""
    with pytest.raises(UsageError, match="a object"):
        partition_of(object(), 4)


def test_resize_stays_within_the_starting_number() -> None:
    """PAR-01: fewer and again more, never more than at the start; keys follow."""

    async def test(house: House) -> None:
        assert route(house, 3) == ":p/cache.3"
        assert await house.call(SUP, Resize(2)) == 4
        assert (house.state("p/cache.1"), house.state("p/cache.2")) == ("running", "dead")
        assert route(house, 3) == ":p/cache.1"
        assert await house.call(SUP, Resize(3)) == 2
        assert await house.call(route(house, 2), Ask()) == ("w",)
        assert (await house.call(SUP, CountChildren())).active == 3
        wrongs: tuple[Any, ...] = (5, -1, True, "3")
        for wrong in wrongs:
            with pytest.raises(UsageError, match="from 0 to 4"):
                await house.call(SUP, Resize(wrong))
        assert await house.call(SUP, Resize(0)) == 3
        with pytest.raises(UsageError, match="none now"):
            route(house, 3)

    with_partitions(test)


def test_a_resize_that_fails_half_way_keeps_what_runs() -> None:
    """PAR-01: a partition that does not start is the caller's error; keys lead only to what runs."""
    script = Script(None, None, None, "boom")

    async def test(house: House) -> None:
        await house.call(SUP, Resize(0))
        with pytest.raises(StartError) as caught:
            await house.call(SUP, Resize(2))
        assert caught.value.reason == "boom"
        assert (house.state("p/cache.0"), house.state("p/cache.1")) == ("running", "dead")
        assert route(house, 1) == ":p/cache.0"

    with_partitions(test, ChildSpec("x", Worker, kwargs={"script": script}), partitions=2)


def test_a_restarted_supervisor_has_all_its_partitions_again() -> None:
    """PAR-01: a resize belongs to the process; its restart starts with the full number."""

    async def test(house: House) -> None:
        spec = PartitionSupervisor.child_spec("cache", SPEC, partitions=3, name=SUP)
        await house.start(Supervisor, [spec])
        await house.call(SUP, Resize(1))
        house.engine.kill(house.address(SUP))
        assert (await house.call(SUP, CountChildren())).active == 3
        assert route(house, 2) == ":p/cache.2"

    in_house(test)


def test_an_actor_routes_in_its_own_namespace() -> None:
    """PAR-01: the same name in two namespaces is two partition supervisors."""

    class Reader(GenServer):
        @call
        async def ask(self, message: Ask) -> Any:
            name = PartitionSupervisor.route(self, SUP, 1)
            return name, await self.call(name, message)

    async def test(house: House) -> None:
        for space, word in (("", "plain"), ("t:", "tenant")):
            child = child_spec("x", Worker, word)
            await house.start(PartitionSupervisor, child, name=space + SUP, partitions=2)
            await house.start(Reader, name=f"{space}p/reader")
        assert await house.call(":p/reader", Ask()) == (":p/cache.1", ("plain",))
        assert await house.call("t:p/reader", Ask()) == ("t:p/cache.1", ("tenant",))

    in_house(test)


def test_partitions_are_where_their_supervisors_name_is() -> None:
    """PAR-01: a supervisor in one namespace with a name in the default one has its partitions there too."""

    async def test(house: House) -> None:
        spec = PartitionSupervisor.child_spec("cache", SPEC, partitions=2, name=f":{SUP}")
        await house.start(Supervisor, [spec], name="t:p/top")
        assert await house.call(route(house, 1), Ask()) == ("w",)

    in_house(test)


def test_routes_that_lead_nowhere_are_typed_errors() -> None:
    """PAR-01: no such name, and a name that is not a partition supervisor's."""

    async def test(house: House) -> None:
        with pytest.raises(NoProcess):
            route(house, 1, "p/nobody")
        with pytest.raises(UsageError, match="partition supervisor"):
            route(house, 1, "p/cache.0")

    with_partitions(test)


@pytest.mark.parametrize(
    ("child", "options", "word"),
    [
        (SPEC, {"partitions": 0}, "invalid_partitions"),
        (SPEC, {"partitions": True}, "invalid_partitions"),
        (ChildSpec("x", Worker, name="p/x"), {"partitions": 2}, "invalid_name"),
        ({"id": "x"}, {"partitions": 2}, "missing_start"),
    ],
)
def test_everything_is_checked_before_anything_starts(child: Any, options: Any, word: str) -> None:
    """PAR-01, SUP-02: a bad number or a bad spec is refused by the start, and by child_spec at once."""

    async def test(house: House) -> None:
        kind, reason = await house.start_fails(PartitionSupervisor, child, **options)
        assert kind == "start_spec"
        assert word in (reason, reason[0])

    in_house(test)
    with pytest.raises(SpecError):
        PartitionSupervisor.child_spec("x", child, **options)


def test_misspelt_options_are_refused_with_the_nearest() -> None:
    """PAR-01: did you mean."""

    async def test(house: House) -> None:
        crash = await house.start_fails(PartitionSupervisor, SPEC, partitions=2, max_restart=1)
        assert "did you mean 'max_restarts'?" in str(crash.error)

    in_house(test)
    with pytest.raises(SpecError, match="expected child="):
        PartitionSupervisor.child_spec("x", partitions=2)
