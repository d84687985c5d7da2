"""The library registry: owners are live actors."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import pytest
from thespian.actors import ActorAddress

from dspex.runtime.errors import ActorDied, AlreadyRegistered, CallTimeout, Error, NoProcess, RegistryError
from dspex.runtime.gen_server import Fail, GenServer, StartFailed, call, cast, info
from dspex.runtime.messages import GetState, Reply
from dspex.runtime.reasons import KILLED
from dspex.runtime.registry import (
    ANY,
    CountEntries,
    KeyRegistered,
    KeyUnregistered,
    Lookup,
    Register,
    Registry,
    RegistryClient,
    Var,
    WaitForKey,
    WhereIs,
)
from kit.supervision import House, in_house

REG = "registry/test"


@dataclass(frozen=True)
class Do:
    """Have an actor do something with its registry client."""

    work: Callable[[RegistryClient], Awaitable[Any]]


@dataclass(frozen=True)
class Seen:
    """What plain messages came?"""


class User(GenServer):
    """Does what it is told with a registry."""

    def init(self, registry: str = REG) -> None:
        self.registry = RegistryClient(self, registry)
        self.seen: list[Any] = []

    @call
    async def do(self, msg: Do) -> Any:
        try:
            return await msg.work(self.registry)
        except Error as error:
            return Fail(error)

    @call
    def tell(self, msg: Seen) -> list[Any]:
        return self.seen

    @call
    def answer(self, msg: str) -> str:
        return msg.upper()

    @cast
    def take(self, msg: str) -> None:
        self.seen.append(msg)

    @info
    def note(self, msg: str | KeyRegistered | KeyUnregistered) -> None:
        self.seen.append(msg)


class Trapping(User):
    trap_exit = True


class Tenant(GenServer):
    """Registers itself at its start."""

    async def init(self, key: str) -> Any:
        return await RegistryClient(self, REG).register_name(key, "tenant")


class World:
    """A registry and two users."""

    def __init__(self, house: House, registry: Any, ann: Any, bob: Any) -> None:
        self.house, self.registry, self.ann, self.bob = house, registry, ann, bob

    async def do(self, user: Any, work: Callable[[RegistryClient], Awaitable[Any]]) -> Any:
        return await self.house.call(user, Do(work))

    async def ask(self, message: Any) -> Any:
        return await self.house.call(REG, message)


async def register(key: Any, value: Any, registry: RegistryClient) -> None:
    """For ``partial``: register under a key."""
    await registry.register(key, value)


async def unregister(key: Any, registry: RegistryClient) -> None:
    """For ``partial``: unregister a key."""
    await registry.unregister(key)


def in_world(test: Callable[[World], Awaitable[None]], user: type[User] = User, **options: Any) -> None:
    """Run a test with a registry and two users, in virtual time."""

    async def run(house: House) -> None:
        registry = await house.start(Registry, name=REG, **options)
        await test(World(house, registry, await house.start(user, name="user/ann"), await house.start(user)))

    in_house(run)


def test_reg_01_a_clash_is_the_callers_error() -> None:
    """REG-01: AlreadyRegistered with the holder, for the owner too; the registry and the caller live on."""

    async def test(world: World) -> None:
        await world.do(world.ann, lambda reg: reg.register("k", 1))
        for user in (world.ann, world.bob):
            with pytest.raises(AlreadyRegistered) as caught:
                await world.do(user, lambda reg: reg.register("k", 2))
            assert caught.value.holder == world.ann
        assert await world.ask(Lookup("k")) == [(world.ann, 1)]

    in_world(test)


def test_reg_03_an_actor_registers_only_itself() -> None:
    """REG-03: a register that names somebody else as owner is refused, and so is a dead or foreign owner."""

    async def test(world: World) -> None:
        bob = world.bob

        async def as_bob(reg: RegistryClient) -> Any:
            return await reg._actor.call(REG, Register("k", 1, bob))

        with pytest.raises(RegistryError, match="register only itself"):
            await world.do(world.ann, as_bob)
        world.house.engine.kill(bob)
        for owner in (bob, "bob", None):
            with pytest.raises(RegistryError, match="expected a live actor"):
                await world.ask(Register("k", 1, owner))  # type: ignore[arg-type]
        assert await world.ask(CountEntries()) == 0

    in_world(test)


def test_reg_04_update_value_runs_with_the_caller() -> None:
    """REG-04: (new, old) for the owner, an error for others."""

    async def test(world: World) -> None:
        await world.do(world.ann, lambda reg: reg.register("k", 1))
        assert await world.do(world.ann, lambda reg: reg.update_value("k", lambda old: old + 1)) == (2, 1)
        with pytest.raises(RegistryError, match="expected the owner"):
            await world.do(world.bob, lambda reg: reg.update_value("k", lambda old: old + 1))
        assert await world.ask(Lookup("k")) == [(world.ann, 2)]

    in_world(test)


def test_reg_05_register_right_after_a_kill() -> None:
    """REG-05: a killed owner's key resolves to nobody and can be taken at once."""

    async def test(world: World) -> None:
        await world.do(world.ann, lambda reg: reg.register("k"))
        await world.do(world.ann, lambda reg: reg.register("l"))
        world.house.engine.kill(world.ann)
        assert await world.ask(WhereIs("k")) is None
        await world.do(world.bob, lambda reg: reg.register("k"))
        assert await world.ask(WhereIs("k")) == world.bob
        assert await world.ask(CountEntries()) == 1

    in_world(test)


def test_reg_05_an_owner_that_unlinked_itself_vanishes_all_the_same() -> None:
    """REG-05: entries go with the owner, link or no link."""

    async def test(world: World) -> None:
        async def register_and_unlink(reg: RegistryClient) -> None:
            await reg.register("k")
            reg._actor.unlink(world.registry)

        await world.do(world.ann, register_and_unlink)
        world.house.engine.kill(world.ann)
        assert await world.ask(CountEntries()) == 0

    in_world(test)


def test_reg_06_07_asking_and_unregistering() -> None:
    """REG-06, REG-07: own keys and values; unregister touches only own entries and is always fine."""

    async def test(world: World) -> None:
        for user, value in ((world.ann, 1), (world.ann, 2), (world.bob, 3)):
            await world.do(user, partial(register, "k", value))
        assert await world.do(world.ann, lambda reg: reg.keys()) == ["k", "k"]
        assert await world.do(world.ann, lambda reg: reg.values("k", world.bob)) == [3]
        assert await world.do(world.ann, lambda reg: reg.count()) == 3
        await world.do(world.ann, lambda reg: reg.unregister_match("k", 2))
        assert await world.do(world.ann, lambda reg: reg.values("k")) == [1]
        await world.do(world.ann, lambda reg: reg.unregister("k"))
        await world.do(world.ann, lambda reg: reg.unregister("k"))
        assert await world.ask(Lookup("k")) == [(world.bob, 3)]

    in_world(test, keys="duplicate")


def test_reg_08_via_names() -> None:
    """REG-08: send, cast and call reach the holder; nobody there is NoProcess."""

    async def test(world: World) -> None:
        await world.do(world.ann, lambda reg: reg.register("k"))
        assert await world.do(world.bob, lambda reg: reg.whereis("k")) == world.ann
        await world.do(world.bob, lambda reg: reg.send("k", "sent"))
        await world.do(world.bob, lambda reg: reg.cast("k", "cast"))
        assert await world.do(world.bob, lambda reg: reg.call("k", "called")) == "CALLED"
        assert await world.house.call(world.ann, Seen()) == ["sent", "cast"]
        with pytest.raises(NoProcess):
            await world.do(world.bob, lambda reg: reg.send("nobody", "x"))

    in_world(test)


def test_reg_08_a_taken_name_is_already_started() -> None:
    """REG-08: who registers at start while the key is held does not start; the reason names the holder."""

    async def test(world: World) -> None:
        first = await world.house.start(Tenant, "flat 1")
        outcome = await world.house.engine.spawn(Tenant, ("flat 1",))
        assert outcome == StartFailed(("already_started", first))
        assert await world.ask(Lookup("flat 1")) == [(first, "tenant")]

    in_world(test)


def test_reg_09_match_and_select() -> None:
    """REG-09: by value under a key, and over everything; malformed clauses are the caller's error."""

    async def test(world: World) -> None:
        await world.do(world.ann, lambda reg: reg.register("a", ("job", 1)))
        await world.do(world.bob, lambda reg: reg.register("b", ("job", 2)))
        assert await world.do(world.ann, lambda reg: reg.match("a", ("job", ANY))) == [(world.ann, ("job", 1))]
        assert await world.do(world.ann, lambda reg: reg.count_match("a", "x")) == 0
        spec = [((Var("k"), Var("o"), ("job", Var("n"))), [("gt", Var("n"), 1)], (Var("k"), Var("o")))]
        assert await world.do(world.ann, lambda reg: reg.select(spec)) == [("b", world.bob)]
        assert await world.do(world.ann, lambda reg: reg.count_select(spec)) == 1
        with pytest.raises(RegistryError, match="expected an operator"):
            await world.do(world.ann, lambda reg: reg.match("a", ANY, [("bigger", 1, 2)]))
        assert await world.ask(CountEntries()) == 2

    in_world(test)


def test_reg_10_locks_pass_on_when_left_or_when_the_holder_dies() -> None:
    """REG-10: one at a time; freed on leaving, on an exception inside, on a time-out, and on death."""

    async def test(world: World) -> None:
        async def hold(reg: RegistryClient) -> None:
            async with reg.lock("l"):
                await reg.wait_for("never", None)

        async def fail(reg: RegistryClient) -> None:
            async with reg.lock("l"):
                raise RegistryError("inside")

        async def quick(reg: RegistryClient) -> str:
            async with reg.lock("l", 2.0):
                return "had it"

        with pytest.raises(RegistryError, match="inside"):
            await world.do(world.bob, fail)
        holder = await world.house.start(User)
        holding = world.house.engine.loop.create_task(world.house.call(holder, Do(hold)))
        await world.do(world.ann, lambda reg: reg.count())
        with pytest.raises(CallTimeout):
            await world.do(world.ann, quick)
        waiting = world.house.engine.loop.create_task(world.house.call(world.bob, Do(quick)))
        await world.do(world.ann, lambda reg: reg.count())
        world.house.engine.kill(holder)
        assert await waiting == "had it"
        assert await world.do(world.bob, quick) == "had it"
        with pytest.raises(ActorDied):
            await holding

    in_world(test)


def test_reg_10_a_key_that_cannot_be_one_is_the_callers_error() -> None:
    """REG-10: locking an unhashable key fails, and the registry and its owners live on."""

    async def test(world: World) -> None:
        async def lock(reg: RegistryClient) -> None:
            async with reg.lock(["no", "key"]):
                raise AssertionError("locked")

        await world.do(world.ann, lambda reg: reg.register("k"))
        with pytest.raises(RegistryError, match="hashable key, got list"):
            await world.do(world.ann, lock)
        assert await world.ask(CountEntries()) == 1
        assert world.house.engine.alive(world.registry)

    in_world(test)


def test_reg_11_registry_wide_values() -> None:
    """REG-11: given at start, put, read, deleted; a missing one is an error."""

    async def test(world: World) -> None:
        assert await world.do(world.ann, lambda reg: reg.meta("limit")) == 3
        await world.do(world.ann, lambda reg: reg.put_meta("limit", 4))
        assert await world.do(world.bob, lambda reg: reg.meta("limit")) == 4
        await world.do(world.ann, lambda reg: reg.delete_meta("limit"))
        with pytest.raises(RegistryError):
            await world.do(world.ann, lambda reg: reg.meta("limit"))

    in_world(test, meta={"limit": 3})


def test_reg_12_dispatch_runs_in_the_caller_and_only_with_entries() -> None:
    """REG-12: the function gets a non-empty list; without entries it is not called."""

    async def test(world: World) -> None:
        seen: list[Any] = []
        await world.do(world.ann, lambda reg: reg.register("topic", 1))
        await world.do(world.bob, lambda reg: reg.register("topic", 2))
        await world.do(world.ann, lambda reg: reg.dispatch("topic", seen.append))
        await world.do(world.ann, lambda reg: reg.dispatch("empty", seen.append))
        assert seen == [[(world.ann, 1), (world.bob, 2)]]

    in_world(test, keys="duplicate")


def test_reg_13_listeners_are_told_but_not_of_deaths() -> None:
    """REG-13: register and unregister are told to listeners by name; an owner's death is not."""

    async def test(world: World) -> None:
        listener = await world.house.start(User, name="user/listener")
        await world.do(world.ann, lambda reg: reg.register("k", 1))
        await world.do(world.ann, lambda reg: reg.unregister("k"))
        await world.do(world.bob, lambda reg: reg.register("k", 2))
        world.house.engine.kill(world.bob)
        assert await world.ask(CountEntries()) == 0
        assert await world.house.call(listener, Seen()) == [
            KeyRegistered(REG, "k", world.ann, 1),
            KeyUnregistered(REG, "k", world.ann),
            KeyRegistered(REG, "k", world.bob, 2),
        ]

    in_world(test, listeners=["user/listener", "user/absent"])


def test_reg_14_owners_die_with_a_killed_registry() -> None:
    """REG-14: linked while they hold a key, so a kill takes them along; who left its last key lives on."""

    async def test(world: World) -> None:
        eve = await world.house.start(User)
        await world.do(world.ann, lambda reg: reg.register("a"))
        for key in ("b", "c"):
            await world.do(world.bob, partial(register, key, None))
            await world.do(eve, partial(register, f"eve {key}", None))
        await world.do(world.bob, lambda reg: reg.unregister("b"))
        for key in ("b", "c"):
            await world.do(eve, partial(unregister, f"eve {key}"))
        world.house.engine.kill(world.registry)
        assert await world.house.engine.wait_down(world.ann, 0) == (True, KILLED)
        assert await world.house.engine.wait_down(world.bob, 0) == (True, KILLED)
        assert world.house.engine.alive(eve)
        with pytest.raises(NoProcess):
            await world.do(eve, lambda reg: reg.count())

    in_world(test)


def test_reg_14_who_traps_exits_survives() -> None:
    """REG-14: a trapping owner gets a message and lives."""

    async def test(world: World) -> None:
        await world.do(world.ann, lambda reg: reg.register("a"))
        world.house.engine.kill(world.registry)
        assert await world.house.call(world.ann, Seen()) == []

    in_world(test, user=Trapping)


def test_a_registrys_own_supervisor_may_register_and_leave() -> None:
    """The link between a registry and its parent is supervision's: it outlives the parent's last key."""

    class Parent(User):
        trap_exit = True

        async def init(self) -> None:  # type: ignore[override]
            super().init()
            self.child = (await self.spawn_link(Registry, name=REG)).address  # type: ignore[union-attr]

    async def test(house: House) -> None:
        parent = await house.start(Parent)
        await house.call(parent, Do(lambda reg: reg.register("k")))
        await house.call(parent, Do(lambda reg: reg.unregister("k")))
        registry = house.address(REG)
        house.engine.kill(parent)
        assert await house.engine.wait_down(registry, 1.0) == (True, KILLED)

    in_house(test)


def test_the_death_of_owners_does_not_harm_the_registry() -> None:
    """The registry traps exits: an owner's crash is its clean-up, nothing else."""

    async def test(world: World) -> None:
        await world.do(world.ann, lambda reg: reg.register("k"))
        world.house.engine.kill(world.ann, "crash")
        assert await world.ask(CountEntries()) == 0
        assert world.house.engine.alive(world.registry)

    in_world(test)


def test_waiting_for_a_key() -> None:
    """Several waiters are answered when the key appears, at once if it is there; a deadline ends a wait."""

    async def test(world: World) -> None:
        loop = world.house.engine.loop
        waits = [loop.create_task(world.ask(WaitForKey("k", None))) for _ in range(3)]
        late = loop.create_task(world.ask(WaitForKey("other", 2.0)))
        await world.ask(CountEntries())
        began, timers = world.house.now(), len(world.house.engine.timers)
        timed = loop.create_task(world.ask(WaitForKey("k", 9.0)))
        await world.ask(CountEntries())
        await world.do(world.ann, lambda reg: reg.register("k", 7))
        assert await timed == [(world.ann, 7)]
        assert len(world.house.engine.timers) == timers
        for wait in waits:
            assert await wait == [(world.ann, 7)]
        assert await world.do(world.bob, lambda reg: reg.wait_for("k")) == [(world.ann, 7)]
        assert world.house.now() == began
        with pytest.raises(CallTimeout, match="'other' to be registered"):
            await late
        assert world.house.now() == began + 2.0
        with pytest.raises(RegistryError, match="expected seconds"):
            await world.ask(WaitForKey("x", -1))

    in_world(test)


def test_waiters_that_gave_up_on_many_keys_do_not_pile_up() -> None:
    """A wait without a deadline is forgotten some time after its caller has gone, whatever key it is for."""

    async def test(world: World) -> None:
        for number in range(200):
            with pytest.raises(CallTimeout):
                await world.house.call(REG, WaitForKey(number, None), timeout=1.0)
        assert len(world.registry.cell.instance._waiters) <= 64

    in_world(test)


@pytest.mark.parametrize(
    ("options", "says"), [({"keys": "uniqe"}, "did you mean 'unique'"), ({"listeners": "user/x"}, "a list of names")]
)
def test_malformed_start_arguments_fail_the_start(options: dict[str, Any], says: str) -> None:
    """A registry with bad arguments does not start, and says why."""

    async def test(house: House) -> None:
        reason = await house.start_fails(Registry, **options)
        assert says in str(reason.error)

    in_house(test)


def test_plain_handlers_register_by_request() -> None:
    """A plain handler cannot await: it sends the message itself and gets the outcome as a Reply."""

    class Plain(GenServer):
        def init(self) -> None:
            self.replies: list[Reply] = []
            self.request(REG, Register("k", 1, self.myAddress), tag="mine")

        @info
        def answered(self, msg: Reply) -> None:
            self.replies.append(msg)

        @call
        def tell(self, msg: Seen) -> list[Reply]:
            return self.replies

    async def test(world: World) -> None:
        plain: ActorAddress = await world.house.start(Plain)
        assert await world.do(world.ann, lambda reg: reg.wait_for("k")) == [(plain, 1)]
        assert await world.house.call(plain, Seen()) == [Reply("mine", None, None)]
        assert await world.house.call(world.registry, GetState())

    in_world(test)
