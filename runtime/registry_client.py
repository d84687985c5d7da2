"""An actor's hand on a :class:`~dspex.runtime.registry.Registry`."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any

from thespian.actors import ActorAddress

from .errors import AlreadyRegistered, NoProcess
from .gen_server import CALL_TIMEOUT, GenServer, Stop
from .registry_messages import (
    CountEntries,
    CountMatch,
    CountSelect,
    DeleteMeta,
    GetMeta,
    Keys,
    Lock,
    Lookup,
    Match,
    PutMeta,
    Register,
    SelectEntries,
    Unlock,
    Unregister,
    UnregisterMatch,
    UpdateValue,
    Values,
    WaitForKey,
    WhereIs,
)

Target = str | ActorAddress
Entries = list[tuple[ActorAddress, Any]]


class RegistryClient:
    """One registry as one actor sees it: what it registers is itself (OTP REG-03).

    The methods are coroutines, for async handlers (``init`` among them) and tasks of that actor.

    Args:
        actor: who uses it.
        registry: name or address of the registry.

    Raises:
        CallError: from any method: the registry did not answer; ``NoProcess`` if there is none (OTP REG-14).
        RegistryError: from any method: it refused.
    """

    def __init__(self, actor: GenServer, registry: Target) -> None:
        self._actor = actor
        self._registry = registry

    async def _ask(self, message: Any, timeout: float | None = CALL_TIMEOUT) -> Any:
        return await self._actor.call(self._registry, message, timeout=timeout)

    # -- registering -------------------------------------------------------------------------------

    async def register(self, key: Any, value: Any = None) -> None:
        """Register the actor under a key.

        Raises:
            AlreadyRegistered: the key is unique and held, by the actor itself included (OTP REG-01).
        """
        await self._ask(Register(key, value, self._actor.myAddress))

    async def register_name(self, key: Any, value: Any = None) -> Stop | None:
        """Register at start; to be returned from ``init`` (OTP REG-08).

        Returns:
            None, or ``Stop(("already_started", holder))`` if somebody is there already.
        """
        try:
            await self.register(key, value)
        except AlreadyRegistered as error:
            return Stop(("already_started", error.holder))
        return None

    async def unregister(self, key: Any) -> None:
        """Remove the actor's own entries of a key, if any (OTP REG-07)."""
        await self._ask(Unregister(key, self._actor.myAddress))

    async def unregister_match(self, key: Any, pattern: Any, guards: Sequence[Any] = ()) -> None:
        """The same for entries whose value matches (OTP REG-07)."""
        await self._ask(UnregisterMatch(key, self._actor.myAddress, pattern, guards))

    async def update_value(self, key: Any, update: Callable[[Any], Any]) -> tuple[Any, Any]:
        """Replace the actor's value under a unique key by ``update(old)``, which runs here (OTP REG-04).

        Two tasks of one actor that do so at once may overwrite one another.

        Returns:
            The new value and the old one.
        """
        own = self._actor.myAddress
        values = await self._ask(Values(key, own))
        # No other actor may change it meanwhile; without an entry the registry refuses, and says why.
        new = update(values[0]) if values else None
        changed: tuple[Any, Any] = await self._ask(UpdateValue(key, new, own))
        return changed

    # -- asking ------------------------------------------------------------------------------------

    async def lookup(self, key: Any) -> Entries:
        """``(owner, value)`` of each entry of a key (OTP REG-06)."""
        found: Entries = await self._ask(Lookup(key))
        return found

    async def keys(self, owner: ActorAddress | None = None) -> list[Any]:
        """The keys of an owner, this actor by default (OTP REG-06)."""
        found: list[Any] = await self._ask(Keys(owner or self._actor.myAddress))
        return found

    async def values(self, key: Any, owner: ActorAddress | None = None) -> list[Any]:
        """An owner's values under a key (OTP REG-06)."""
        found: list[Any] = await self._ask(Values(key, owner or self._actor.myAddress))
        return found

    async def count(self) -> int:
        """How many entries there are (OTP REG-06)."""
        found: int = await self._ask(CountEntries())
        return found

    async def match(self, key: Any, pattern: Any, guards: Sequence[Any] = ()) -> Entries:
        """Entries of a key whose value matches (OTP REG-09)."""
        found: Entries = await self._ask(Match(key, pattern, guards))
        return found

    async def count_match(self, key: Any, pattern: Any, guards: Sequence[Any] = ()) -> int:
        """How many those are (OTP REG-09)."""
        found: int = await self._ask(CountMatch(key, pattern, guards))
        return found

    async def select(self, clauses: Sequence[Any]) -> list[Any]:
        """Results of ``(pattern, guards, result)`` clauses over all ``(key, owner, value)`` (OTP REG-09)."""
        found: list[Any] = await self._ask(SelectEntries(clauses))
        return found

    async def count_select(self, clauses: Sequence[Any]) -> int:
        """How many those are (OTP REG-09)."""
        found: int = await self._ask(CountSelect(clauses))
        return found

    async def wait_for(self, key: Any, timeout: float | None = CALL_TIMEOUT) -> Entries:
        """Wait until somebody registers under a key; the key's entries then.

        Raises:
            CallTimeout: nobody did within ``timeout`` seconds.
        """
        # The registry keeps the time; a second more lets its answer, which says more, come first.
        found: Entries = await self._ask(WaitForKey(key, timeout), None if timeout is None else timeout + 1.0)
        return found

    # -- via names (OTP REG-08) and dispatch (OTP REG-12) --------------------------------------------

    async def whereis(self, key: Any) -> ActorAddress | None:
        """The live holder of a unique key, or None."""
        found: ActorAddress | None = await self._ask(WhereIs(key))
        return found

    async def _holder(self, key: Any) -> ActorAddress:
        holder = await self.whereis(key)
        if holder is None:
            raise NoProcess(f"nobody is registered as {key!r} in {self._registry}", target=f"{self._registry}: {key!r}")
        return holder

    async def send(self, key: Any, message: Any) -> None:
        """Send a plain message to the holder of a unique key.

        Raises:
            NoProcess: nobody holds it.
        """
        self._actor.send(await self._holder(key), message)

    async def cast(self, key: Any, message: Any) -> None:
        """Cast to the holder of a unique key. Raises as :meth:`send`."""
        self._actor.cast(await self._holder(key), message)

    async def call(self, key: Any, message: Any, *, timeout: float | None = CALL_TIMEOUT) -> Any:
        """Call the holder of a unique key. Raises as :meth:`send`, and as any call."""
        return await self._actor.call(await self._holder(key), message, timeout=timeout)

    async def dispatch(self, key: Any, function: Callable[[Entries], object]) -> None:
        """Call ``function`` here with the entries of a key, unless there are none (OTP REG-12)."""
        entries = await self.lookup(key)
        if entries:
            function(entries)

    # -- registry-wide values (OTP REG-11) and locks (OTP REG-10) --------------------------------------

    async def put_meta(self, key: Any, value: Any) -> None:
        """Keep a value of the registry itself."""
        await self._ask(PutMeta(key, value))

    async def meta(self, key: Any) -> Any:
        """Such a value.

        Raises:
            RegistryError: there is none.
        """
        return await self._ask(GetMeta(key))

    async def delete_meta(self, key: Any) -> None:
        """Forget such a value; it need not be there."""
        await self._ask(DeleteMeta(key))

    @asynccontextmanager
    async def lock(self, key: Any, timeout: float | None = CALL_TIMEOUT) -> AsyncGenerator[None, None]:
        """Be the only one inside ``async with``; freed on leaving it, whatever happens, and on death.

        It does not nest: who locks the same key inside waits for itself until ``timeout``.

        Args:
            key: of the lock; it has nothing to do with registered keys.
            timeout: seconds to wait for it, None for ever.

        Raises:
            CallTimeout: somebody else had it for too long.
        """
        own, number = self._actor.myAddress, self._actor.system.next_number()
        try:
            await self._ask(Lock(key, own, number), timeout)
            yield
        finally:
            # Also after a failed wait: it may have been granted just when we gave up.
            self._actor.cast(self._registry, Unlock(key, own, number))
