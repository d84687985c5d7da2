"""Links, monitors and exit signals, rule by rule (OTP section 3)."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Any

import pytest

from dspex.runtime.gen_server import MISSING, GenServer, Started, StartFailed, call, cast, info
from dspex.runtime.messages import Down, ExitSignal, Suspend
from dspex.runtime.reasons import Crash
from kit.engine import Lab, in_lab


@dataclass(frozen=True)
class Do:
    what: Any


class Plain(GenServer):
    """Runs what it is told, and keeps the signals it gets as messages."""

    def init(self, seen: list[Any] | None = None, start: Any = None) -> Any:
        self.seen = [] if seen is None else seen
        return start(self) if callable(start) else start

    @call
    def do(self, message: Do) -> Any:
        return message.what(self)

    @cast
    def do_later(self, message: Do) -> None:
        message.what(self)

    @info
    def signal(self, message: Down | ExitSignal) -> None:
        self.seen.append(message)


class Trapping(Plain):
    trap_exit = True


class Parent(GenServer):
    """Starts linked children on request."""

    trap_exit = True

    def init(self, seen: list[Any]) -> None:
        self.seen = seen

    @call
    async def do(self, message: Do) -> Any:
        return await message.what(self)

    @info
    def signal(self, message: Down | ExitSignal) -> None:
        self.seen.append(message)


async def linked(lab: Lab, one: type[GenServer], two: type[GenServer]) -> tuple[Any, Any, list[Any]]:
    """Two linked actors, and what the first sees."""
    seen: list[Any] = []
    first, second = await lab.start(one, seen), await lab.start(two)
    await lab.call(first, Do(lambda actor: actor.link(second)))
    return first, second, seen


@pytest.mark.parametrize("killer", [0, 1])
def test_a_link_goes_both_ways(killer: int) -> None:
    """LNK-01, LNK-02: the abnormal end of either ends the other, with the same reason."""

    async def test(lab: Lab) -> None:
        pair = (await linked(lab, Plain, Plain))[:2]
        lab.engine.kill(pair[killer], "why")
        assert [await lab.down(each) for each in pair] == ["why", "why"]

    in_lab(test)


def test_linking_twice_is_one_link() -> None:
    """LNK-01: two links are one: a single signal, and a single unlink undoes it."""

    async def test(lab: Lab) -> None:
        first, second, seen = await linked(lab, Trapping, Plain)
        await lab.call(first, Do(lambda actor: actor.link(second)))
        lab.engine.kill(second, "why")
        await lab.settle()
        assert seen == [ExitSignal(second, "why")]
        third = await lab.start(Plain)
        await lab.call(first, Do(lambda actor: [actor.link(third), actor.link(third), actor.unlink(third)]))
        lab.engine.kill(third)
        await lab.settle()
        assert len(seen) == 1

    in_lab(test)


def test_a_normal_end_does_nothing_to_who_does_not_trap() -> None:
    """LNK-02: a signal with reason normal is ignored by a process that does not trap."""

    async def test(lab: Lab) -> None:
        first, second, _ = await linked(lab, Plain, Plain)
        lab.engine.stop_actor(second, "normal")
        assert await lab.down(second) == "normal"
        assert lab.engine.alive(first)

    in_lab(test)


@pytest.mark.parametrize("reason", ["normal", "shutdown", ("shutdown", 1), "why"])
def test_trapping_turns_signals_into_messages(reason: Any) -> None:
    """LNK-02: trapping, a linked actor's end of any reason is a message."""

    async def test(lab: Lab) -> None:
        first, second, seen = await linked(lab, Trapping, Plain)
        lab.engine.stop_actor(second, reason)
        await lab.down(second)
        await lab.settle()
        assert seen == [ExitSignal(second, reason)]
        assert lab.engine.alive(first)

    in_lab(test)


def test_kill_cannot_be_trapped_but_killed_can() -> None:
    """LNK-03: kill ends a trapping actor; linked ones see killed, which can be trapped and else spreads."""

    async def test(lab: Lab) -> None:
        _, second, seen = await linked(lab, Trapping, Trapping)
        third = await lab.start(Plain)
        await lab.call(second, Do(lambda actor: actor.link(third)))
        killer = await lab.start(Plain)
        await lab.call(killer, Do(lambda actor: actor.exit(second, "kill")))
        assert await lab.down(second) == "killed"
        assert await lab.down(third) == "killed"
        await lab.settle()
        assert seen == [ExitSignal(second, "killed")]

    in_lab(test)


def test_a_crash_spreads_with_its_reason() -> None:
    """LNK-02: who is linked dies with the very reason, a crash included."""

    def boom(actor: Any) -> None:
        raise ValueError("boom")

    async def test(lab: Lab) -> None:
        first, second, _ = await linked(lab, Plain, Plain)
        lab.engine.cast(second, Do(boom))
        assert await lab.down(first) == Crash(ValueError("boom"))

    in_lab(test)


def test_a_ring_of_links_dies_once() -> None:
    """LNK-02: deaths that cause deaths end, also where links form a ring, a thousand deep."""

    async def test(lab: Lab) -> None:
        ring = [await lab.start(Plain) for _ in range(1000)]
        for one, two in zip(ring, [*ring[1:], ring[0]], strict=True):
            await lab.call(one, Do(lambda actor, two=two: actor.link(two)))
        lab.engine.kill(ring[500], "why")
        assert lab.engine.cells == {}
        assert lab.engine.counters.ended == 1000

    in_lab(test)


def test_exit_signals_without_a_link() -> None:
    """LNK-02: exit() reaches who is not linked: a message to who traps, the end of who does not."""

    async def test(lab: Lab) -> None:
        seen: list[Any] = []
        trapping, plain, sender = await lab.start(Trapping, seen), await lab.start(Plain), await lab.start(Plain)
        await lab.call(sender, Do(lambda actor: [actor.exit(trapping, "a"), actor.exit(plain, "normal")]))
        await lab.settle()
        assert seen == [ExitSignal(sender, "a")]
        assert lab.engine.alive(plain)
        await lab.call(sender, Do(lambda actor: actor.exit(plain, "b")))
        assert await lab.down(plain) == "b"

    in_lab(test)


def test_linking_to_a_dead_actor() -> None:
    """LNK-04: a link to a dead actor, or to nobody, comes back as the signal noproc."""

    async def test(lab: Lab) -> None:
        seen: list[Any] = []
        dead = await lab.start(Plain)
        lab.engine.kill(dead)
        trapping, plain, other = await lab.start(Trapping, seen), await lab.start(Plain), await lab.start(Plain)
        lab.engine.cast(trapping, Do(lambda actor: [actor.link(dead), actor.link("no/body")]))
        lab.engine.cast(plain, Do(lambda actor: actor.link(dead)))
        lab.engine.cast(other, Do(lambda actor: actor.link("no/body")))
        assert await lab.down(plain) == "noproc"
        assert await lab.down(other) == "noproc"
        await lab.settle()
        assert [signal.reason for signal in seen] == ["noproc", "noproc"]
        assert seen[0].sender == dead

    in_lab(test)


def test_after_unlink_no_signal_comes() -> None:
    """LNK-04: after unlink no exit message comes, not even one that waits in the mailbox already."""

    async def test(lab: Lab) -> None:
        first, second, seen = await linked(lab, Trapping, Plain)
        # Both in one turn: the signal waits in the mailbox behind this very handler.
        await lab.call(first, Do(lambda actor: [actor.system.kill(second), actor.unlink(second)]))
        await lab.settle()
        assert seen == []
        assert not lab.engine.alive(second)

    in_lab(test)


def test_each_monitor_is_its_own() -> None:
    """LNK-05: one-way, each call makes its own, each Down comes once, with the reason."""

    async def test(lab: Lab) -> None:
        seen: list[Any] = []
        watcher, watched = await lab.start(Plain, seen), await lab.start(Plain)
        refs = await lab.call(watcher, Do(lambda actor: [actor.monitor(watched), actor.monitor(watched)]))
        assert refs[0] != refs[1]
        lab.engine.kill(watched, "why")
        await lab.settle()
        assert seen == [Down(refs[0], watched, "why"), Down(refs[1], watched, "why")]
        assert lab.engine.alive(watcher)
        lab.engine.kill(watcher)
        await lab.settle()

    in_lab(test)


def test_the_watchers_end_does_not_matter_to_the_watched() -> None:
    """LNK-05: one-way: the watcher's end does nothing to the watched one, which forgets it."""

    async def test(lab: Lab) -> None:
        watcher, watched = await lab.start(Plain), await lab.start(Plain)
        await lab.call(watcher, Do(lambda actor: actor.monitor(watched)))
        lab.engine.kill(watcher)
        await lab.settle()
        assert lab.engine.alive(watched)
        assert not watched.cell.monitors  # type: ignore[union-attr]

    in_lab(test)


def test_monitoring_a_dead_actor() -> None:
    """LNK-05: for a dead actor and an unknown name Down comes at once, with noproc."""

    async def test(lab: Lab) -> None:
        seen: list[Any] = []
        dead = await lab.start(Plain)
        lab.engine.kill(dead)
        watcher = await lab.start(Plain, seen)
        refs = await lab.call(watcher, Do(lambda actor: [actor.monitor(dead), actor.monitor("no/body")]))
        await lab.settle()
        assert seen == [Down(refs[0], dead, "noproc"), Down(refs[1], None, "noproc")]

    in_lab(test)


def test_demonitor_takes_a_waiting_down_too() -> None:
    """LNK-05: demonitor removes the monitor, and a Down that is in the mailbox already."""

    async def test(lab: Lab) -> None:
        seen: list[Any] = []
        watcher, watched = await lab.start(Plain, seen), await lab.start(Plain)

        def watch_and_stop(actor: Any) -> None:
            keep, drop = actor.monitor(watched), actor.monitor(watched)
            actor.system.kill(watched, "why")
            actor.demonitor(drop)
            actor.kept = keep

        await lab.call(watcher, Do(watch_and_stop))
        await lab.settle()
        assert [down.ref for down in seen] == [watcher.cell.instance.kept]  # type: ignore[union-attr]

    in_lab(test)


def test_demonitor_before_the_end() -> None:
    """LNK-05: after demonitor no Down comes."""

    async def test(lab: Lab) -> None:
        seen: list[Any] = []
        watcher, watched = await lab.start(Plain, seen), await lab.start(Plain)
        await lab.call(watcher, Do(lambda actor: actor.demonitor(actor.monitor(watched))))
        lab.engine.kill(watched)
        await lab.settle()
        assert seen == []

    in_lab(test)


def test_signals_and_messages_of_one_pair_keep_their_order() -> None:
    """LNK-06: what one actor sent before it ended arrives before the signal of its end."""

    async def test(lab: Lab) -> None:
        order: list[Any] = []

        class Watcher(Trapping):
            @cast
            def do_later(self, message: Do) -> None:
                order.append(message.what)

            @info
            def signal(self, message: Down | ExitSignal) -> None:
                order.append(type(message).__name__)

        watcher, watched = await lab.start(Watcher), await lab.start(Plain)
        watcher.cell.link(watched.cell)  # type: ignore[union-attr, arg-type]

        def talk_and_die(actor: Any) -> None:
            for number in range(3):
                actor.cast(watcher, Do(number))
            actor.exit(actor.myAddress, "done")

        lab.engine.cast(watched, Do(talk_and_die))
        await lab.down(watched)
        await lab.settle()
        assert order == [0, 1, 2, "ExitSignal"]

    in_lab(test)


# -- children ----------------------------------------------------------------------------------------


def spawning(cls: type[Any], *args: Any, **options: Any) -> Any:
    """What a Parent does to start a child."""

    async def run(actor: Any) -> Any:
        return await actor.spawn_link(cls, *args, **options)

    return Do(run)


def test_a_child_is_linked_with_its_parent() -> None:
    """spawn_link: the child's end is a message to a trapping parent; the parent's end ends the child."""

    async def test(lab: Lab) -> None:
        seen: list[Any] = []
        parent = await lab.start(Parent, seen)
        one = (await lab.call(parent, spawning(Plain))).address
        two = (await lab.call(parent, spawning(Plain))).address
        lab.engine.kill(one, "why")
        await lab.settle()
        assert seen == [ExitSignal(one, "why")]
        lab.engine.kill(parent)
        assert await lab.down(two) == "killed"

    in_lab(test)


def test_no_signal_follows_a_failed_start() -> None:
    """spawn_link: a start that fails answers its starter, and sends no exit message."""

    def fail(actor: Any) -> None:
        raise ValueError("no")

    async def test(lab: Lab) -> None:
        seen: list[Any] = []
        parent = await lab.start(Parent, seen)
        outcome = await lab.call(parent, spawning(Plain, None, fail))
        assert outcome == StartFailed(Crash(ValueError("no")))
        await lab.settle()
        assert seen == []

    in_lab(test)


def test_a_trapping_child_of_a_killed_parent() -> None:
    """LNK-03, GS-10: the parent's end is an order to a trapping child: it ends with that reason."""

    async def test(lab: Lab) -> None:
        parent = await lab.start(Parent, [])
        child = (await lab.call(parent, spawning(Trapping))).address
        lab.engine.kill(parent)
        assert await lab.down(child) == "killed"

    in_lab(test)


def test_wait_down() -> None:
    """wait_down: the reason when it ends, also if it has ended before; False when the time is up first."""

    async def test(lab: Lab) -> None:
        actor = await lab.start(Plain)
        began = lab.engine.now()
        assert await lab.engine.wait_down(actor, 2.0) == (False, None)
        assert lab.engine.now() - began == pytest.approx(2)
        waiting = asyncio.ensure_future(lab.engine.wait_down(actor, 2.0))
        await lab.settle()
        lab.engine.kill(actor, "why")
        assert await waiting == (True, "why")
        assert await lab.engine.wait_down(actor, 0.0) == (True, "why")
        assert await lab.engine.wait_down("no/body", None) == (True, "noproc")

    in_lab(test)


def test_cancelling_wait_down() -> None:
    """wait_down: its cancellation is a cancellation, with a time-out pending or not, and leaves no monitor."""

    async def test(lab: Lab) -> None:
        actor = await lab.start(Plain)
        for timeout in (None, 5.0):
            waiting = asyncio.ensure_future(lab.engine.wait_down(actor, timeout))
            await lab.settle()
            waiting.cancel()
            with pytest.raises(asyncio.CancelledError):
                await waiting
        assert not actor.cell.monitors  # type: ignore[union-attr]
        assert len(lab.engine.timers) == 0

    in_lab(test)


def test_take_exit() -> None:
    """take_exit: removes the queued signal of one address and answers its reason, or MISSING."""

    async def test(lab: Lab) -> None:
        seen: list[Any] = []
        parent = await lab.start(Parent, seen)

        async def both(actor: Any) -> Any:
            one, two = await actor.spawn_link(Plain), await actor.spawn_link(Plain)
            assert isinstance(one, Started)
            for child in (one, two):
                actor.exit(child.address, "why")
            return actor.take_exit(one.address), actor.take_exit(one.address), two.address

        reason, again, two = await lab.call(parent, Do(both))
        assert (reason, again) == ("why", MISSING)
        await lab.settle()
        assert seen == [ExitSignal(two, "why")]

    in_lab(test)


def test_what_a_dead_actors_mailbox_held() -> None:
    """Messages of others are dead letters when an actor ends; the engine's own notices are not."""

    async def test(lab: Lab) -> None:
        seen: list[Any] = []
        watcher, watched = await lab.start(Plain, seen), await lab.start(Plain)
        await lab.call(watcher, Do(lambda actor: actor.monitor(watched)))
        await lab.call(watcher, Suspend())
        lab.engine.kill(watched)
        lab.engine.cast(watcher, Do(print))
        await lab.settle()
        lab.engine.kill(watcher)
        assert [letter.message_type for letter in lab.engine.dead_letters.recent] == ["Do"]

    in_lab(test)


def test_a_watcher_that_fails_keeps_nobody_from_hearing() -> None:
    """A function told of an end that raises does not keep the end from the others."""

    async def test(lab: Lab) -> None:
        actor = await lab.start(Plain)
        heard: list[Any] = []

        def fail(address: Any, reason: Any) -> None:
            raise ValueError("a bug of the watcher's")

        actor.cell.watch(-1, fail)  # type: ignore[union-attr]
        actor.cell.watch(-2, lambda address, reason: heard.append(reason))  # type: ignore[union-attr]
        lab.engine.kill(actor, "why")
        assert heard == ["why"]
        assert lab.engine.cells == {}

    in_lab(test)
