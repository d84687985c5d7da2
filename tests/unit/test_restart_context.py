"""What a new incarnation can know of why it was started again."""

from __future__ import annotations

import gc
import weakref
from typing import Any

import pytest

from dspex import RestartContext
from dspex.runtime.child_spec import ChildSpec, StartChild
from dspex.runtime.errors import ActorDied, SpecError
from dspex.runtime.gen_server import GenServer, call
from dspex.runtime.reasons import Crash
from dspex.runtime.testing import VirtualSystem
from dspex.supervisors.backoff import Backoff
from dspex.supervisors.dynamic_supervisor import DynamicSupervisor
from dspex.supervisors.messages import RestartChild, StartInstance, TerminateChild, WhichChildren
from dspex.supervisors.simple import SimpleSupervisor
from dspex.supervisors.supervisor import Supervisor
from kit.supervision import Ask, End, House, Script, Worker, in_house


class Curious(Worker):
    """Keeps what it could read of its restart in ``init``."""

    def init(self, *tags: Any, seen: list[Any], **options: Any) -> Any:  # type: ignore[override]
        seen.append(self.restart_context)
        self.seen = seen
        return super().init(*tags, **options)

    @call
    def ask(self, message: Ask) -> Any:
        return self.restart_context


def curious(id: str, seen: list[Any], **options: Any) -> ChildSpec:
    """A child that tells of its restarts."""
    script = options.pop("script", None)
    return ChildSpec(id, Curious, (id,), {"seen": seen, "script": script}, name=f"w/{id}", **options)


def test_a_first_start_has_none_a_restart_has_its_cause() -> None:
    """The new incarnation reads why the last one ended, which restart this is, and when the series began."""

    async def test(house: House) -> None:
        seen: list[Any] = []
        await house.start(Supervisor, [curious("a", seen)])
        assert await house.call("w/a", Ask()) is None
        began = house.now()
        await house.tell_to_end("w/a", "boom")
        assert await house.call("w/a", Ask()) == RestartContext("boom", 1, began, "a", "boom")
        assert seen == [None, RestartContext("boom", 1, began, "a", "boom")]

    in_house(test)


def test_restarts_in_a_row_count_up_until_one_runs_long_enough() -> None:
    """A series goes on while the child ends within the window, and a longer run begins a new one."""
    seen: list[Any] = []
    with VirtualSystem() as system:
        system.spawn(Supervisor, [curious("a", seen)], max_seconds=5.0)
        began = system.now
        for wait in (5.0, 5.0, 5.5):
            system.cast("w/a", End("boom"))
            system.advance(wait)
        system.kill("w/a")
    assert [(each.attempt, each.since - began) for each in seen[1:]] == [(1, 0.0), (2, 0.0), (3, 0.0), (1, 15.5)]
    assert seen[-1].reason == "killed"


def test_attempts_that_fail_count_and_keep_the_reason() -> None:
    """A retry of a failing start has the next number, why the child ended, and as cause the failed start."""

    async def test(house: House) -> None:
        seen: list[Any] = []
        await house.start(Supervisor, [curious("a", seen, script=Script(None, "no", "not yet", None))])
        began = house.now()
        await house.tell_to_end("w/a", "boom")
        await house.call("w/a", Ask())
        assert seen[1:] == [
            RestartContext("boom", 1, began, "a", "boom"),
            RestartContext("boom", 2, began, "a", "no"),
            RestartContext("boom", 3, began, "a", "not yet"),
        ]

    in_house(test)


def test_a_pause_before_a_restart_is_no_run() -> None:
    """A back-off longer than the window does not end a series."""
    seen: list[Any] = []
    pause = Backoff(initial=60.0, maximum=60.0, jitter=False)
    with VirtualSystem() as system:
        system.spawn(Supervisor, [curious("a", seen, backoff=pause)])
        for _ in range(2):
            system.kill("w/a")
            system.advance(61.0)
        assert [each.attempt for each in seen[1:]] == [1, 2]


@pytest.mark.parametrize(
    ("strategy", "told"),
    [("one_for_one", {"b"}), ("rest_for_one", {"b", "c"}), ("one_for_all", {"a", "b", "c"})],
)
def test_siblings_of_a_group_restart_know_who_failed(strategy: str, told: set[str]) -> None:
    """Stopped siblings were ended with ``shutdown``, and learn the id and the reason of the child that failed."""

    async def test(house: House) -> None:
        seen: dict[str, list[Any]] = {"a": [], "b": [], "c": []}
        children = [curious(id, row) for id, row in seen.items()]
        await house.start(Supervisor, children, strategy=strategy, name="s/top")
        await house.tell_to_end("w/b", "boom")
        await house.call("s/top", WhichChildren())  # behind the restart
        for id, row in seen.items():
            context = await house.call(f"w/{id}", Ask())
            assert (context is not None) == (id in told)
            if context is not None:
                assert (context.failed, context.cause) == ("b", "boom")
                assert context.reason == ("boom" if id == "b" else "shutdown")
                assert (context.attempt, len(row)) == (1, 2)

    in_house(test)


def test_children_of_dynamic_supervisors_know_too() -> None:
    """Dynamic and simple supervisors hand the cause over as the static one does."""

    async def test(house: House) -> None:
        seen: list[Any] = []
        await house.start(DynamicSupervisor, name="s/pool")
        await house.call("s/pool", StartChild(curious("a", seen, script=Script(None, "no", None))))
        began = house.now()
        await house.tell_to_end("w/a", "boom")
        assert await house.call("w/a", Ask()) == RestartContext("boom", 2, began, "a", "no")
        await house.start(SimpleSupervisor, curious("b", seen), name="s/simple")
        await house.call("s/simple", StartInstance())
        await house.tell_to_end("w/b", "boom")
        assert await house.call("w/b", Ask()) == RestartContext("boom", 1, began, "b", "boom")

    in_house(test)


def test_start_functions_hand_it_over() -> None:
    """An actor that a start function started reads it as well."""

    async def begin(start_link: Any, seen: list[Any]) -> Any:
        return await start_link(Curious, seen=seen)

    async def test(house: House) -> None:
        seen: list[Any] = []
        await house.start(Supervisor, [ChildSpec("a", begin, (seen,), name="w/a")])
        await house.tell_to_end("w/a", "boom")
        assert (await house.call("w/a", Ask())).reason == "boom"

    in_house(test)


def test_a_start_that_somebody_asked_for_is_a_first_start() -> None:
    """After terminate_child and restart_child there is no context, and the next series begins at one."""

    async def test(house: House) -> None:
        seen: list[Any] = []
        await house.start(Supervisor, [curious("a", seen)], name="s/top")
        await house.tell_to_end("w/a", "boom")
        await house.call("w/a", Ask())
        await house.call("s/top", TerminateChild("a"))
        await house.call("s/top", RestartChild("a"))
        assert await house.call("w/a", Ask()) is None
        await house.tell_to_end("w/a", "boom")
        assert (await house.call("w/a", Ask())).attempt == 1

    in_house(test)


def test_a_restarted_supervisor_has_the_context_its_children_begin_anew() -> None:
    """The children that a restarted supervisor boots are on a first start."""

    async def test(house: House) -> None:
        seen: list[Any] = []
        inner = Supervisor.child_spec("inner", [curious("a", seen)], name="s/inner")
        await house.start(Supervisor, [inner], name="s/top")
        house.engine.kill("s/inner")
        await house.call("s/top", WhichChildren())
        assert await house.call("w/a", Ask()) is None
        assert seen == [None, None]
        cell = house.address("s/inner").cell
        assert (cell.restart_context.reason, cell.restart_context.failed) == ("killed", "inner")

    in_house(test)


def test_an_actor_without_a_supervisor_has_none() -> None:
    """Nobody restarted it."""

    async def test(house: House) -> None:
        assert await house.call(await house.start(Curious, seen=[]), Ask()) is None

    in_house(test)


def test_contexts_make_no_chain() -> None:
    """A crash is kept for the incarnation after it, not for all that follow."""

    class Boom(Exception):
        """Of a class of its own, it can be referred to weakly."""

    class Fails(GenServer):
        @call
        def ask(self, message: Ask) -> None:
            raise Boom

    async def test(house: House) -> None:
        house.engine.telemetry.detach("house")  # it keeps all reports
        await house.start(Supervisor, [ChildSpec("a", Fails, name="w/a")], name="s/top", max_restarts=10)
        crashes: list[weakref.ref[Any]] = []
        for _ in range(4):
            with pytest.raises(ActorDied):
                await house.call("w/a", Ask())
            await house.call("s/top", WhichChildren())
            reason = house.address("w/a").cell.restart_context.reason
            assert isinstance(reason, Crash)
            crashes.append(weakref.ref(reason.error))
            del reason
        gc.collect()
        assert [each() is None for each in crashes] == [True, True, True, False]

    in_house(test)


def test_the_name_of_the_option_is_not_for_arguments() -> None:
    """A spec whose child would be given ``restart_context`` as an argument is refused at once."""
    with pytest.raises(SpecError, match="restart_context"):
        ChildSpec("a", Curious, kwargs={"restart_context": None})
