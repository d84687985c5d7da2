"""Registry: a key-value directory of live actors, as Elixir's ``Registry`` (OTP section 4).

::

    ChildSpec("sessions", Registry, kwargs={"keys": "unique"}, name="registry/sessions")

    class Session(GenServer):
        async def init(self, user: str) -> Any:
            self.sessions = RegistryClient(self, "registry/sessions")
            return await self.sessions.register_name(user)      # already_started if the user has a session

Entries vanish with their owner. Owners are linked to the registry (OTP REG-14): if it is killed they
die too, unless they trap exits, because what they registered is gone. The application's own registry,
``core/registry``, is something else: a view of the engine's name table (``actors/registry/actor.py``).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, ClassVar, TypeVar

from thespian.actors import ActorAddress

from .address import LocalAddress
from .calls import Call, RequestedCall
from .errors import CallTimeout, RegistryError
from .gen_server import Fail, GenServer, NoReply, call, cast, info
from .messages import Down, ExitSignal
from .names import qualify
from .registry_client import RegistryClient
from .registry_locks import Attempt, LockTable
from .registry_messages import (
    CountEntries,
    CountMatch,
    CountSelect,
    DeleteMeta,
    GetMeta,
    KeyRegistered,
    Keys,
    KeyUnregistered,
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
from .registry_table import Entry, KeyRule, RegistryTable
from .registry_terms import ANY, ENTRY, Var, check_iterable, strict_key
from .registry_waiters import Waiters, WaitOver

T = TypeVar("T")


class Registry(GenServer):
    """See the module. Messages: ``registry_messages.py``; from an actor use :class:`RegistryClient`.

    Start arguments:
        keys: ``"unique"`` (one entry a key; the default) or ``"duplicate"``.
        listeners: names or addresses of actors to be told of registrations (OTP REG-13).
        meta: registry-wide values (OTP REG-11).

    Raises:
        RegistryError: a start argument is malformed (the start fails).
    """

    trap_exit: ClassVar[bool] = True

    def init(
        self,
        keys: KeyRule = "unique",
        listeners: Iterable[str | ActorAddress] = (),
        meta: Mapping[Any, Any] | None = None,
    ) -> None:
        """Begin empty: what was registered died with the predecessor."""
        check_iterable(listeners, "a list of names or addresses as listeners")
        self._table: RegistryTable[LocalAddress] = RegistryTable(keys, self.system.alive)
        self._listeners = tuple(listeners)
        self._monitors: dict[LocalAddress, int] = {}
        self._waiters = Waiters(self)
        self._locks: LockTable[LocalAddress, Call] = LockTable(self._still_waits)
        for key, value in (meta or {}).items():
            self._table.put_meta(key, value)

    def _answer(self, work: Callable[[], T]) -> T | Fail:
        # A refused question is the caller's error, not a crash of the registry.
        try:
            return work()
        except RegistryError as error:
            return Fail(error)

    # -- registering -------------------------------------------------------------------------------

    @call
    def register(self, msg: Register) -> Fail | None:
        """Add the caller's entry."""

        def work() -> None:
            owner = self._claimant(msg.owner)
            first = not self._table.holds(owner)
            self._table.register(msg.key, owner, msg.value)
            self._track(owner)
            if first and self._links_with(owner):
                self.link(owner)
            self._listen(KeyRegistered(self._label, msg.key, owner, msg.value))
            self._waiters.answer(strict_key(msg.key), self._table.lookup(msg.key))

        return self._answer(work)

    @call
    def unregister(self, msg: Unregister) -> Fail | None:
        """Remove the caller's entries of a key."""

        def work() -> None:
            owner = self._claimant(msg.owner)
            self._removed(owner, self._table.unregister(msg.key, owner))

        return self._answer(work)

    @call
    def unregister_match(self, msg: UnregisterMatch) -> Fail | None:
        """Remove the caller's entries of a key whose value matches."""

        def work() -> None:
            owner = self._claimant(msg.owner)
            self._removed(owner, self._table.unregister_match(msg.key, owner, msg.pattern, msg.guards))

        return self._answer(work)

    @call
    def update_value(self, msg: UpdateValue) -> tuple[Any, Any] | Fail:
        """Replace the value of the caller's entry."""
        return self._answer(lambda: self._table.update_value(msg.key, self._claimant(msg.owner), lambda old: msg.value))

    def _claimant(self, owner: object) -> LocalAddress:
        """The owner a caller claims to be; refused if it is known to be somebody else (OTP REG-03)."""
        if not isinstance(owner, LocalAddress) or not self.system.alive(owner):
            raise RegistryError(f"expected a live actor of this engine as owner, got {owner!r}", key=owner)
        asking = self.caller
        cell = asking.sender if isinstance(asking, RequestedCall) else asking.holder
        if cell is not None and cell.address != owner:
            raise RegistryError(f"expected {cell.label} to register only itself, got {owner!r}", key=owner)
        return owner

    def _removed(self, owner: LocalAddress, entries: Iterable[Entry[LocalAddress]]) -> None:
        for entry in entries:
            self._listen(KeyUnregistered(self._label, entry.key, owner))
        if not self._table.holds(owner) and owner in self._monitors:
            if self._links_with(owner):
                self.unlink(owner)
            self._untrack(owner)

    # -- owners ------------------------------------------------------------------------------------

    def _links_with(self, owner: LocalAddress) -> bool:
        # The link with the supervisor is there already, and must outlive its last key.
        parent = self._myRef.parent
        return owner != self.myAddress and (parent is None or owner != parent.address)

    def _track(self, owner: LocalAddress) -> None:
        # A monitor beside the link: an owner that unlinks itself must vanish from here all the same.
        if owner not in self._monitors:
            self._monitors[owner] = self.monitor(owner)

    def _untrack(self, owner: LocalAddress) -> None:
        if not self._table.holds(owner) and not self._locks.holds(owner) and owner in self._monitors:
            self.demonitor(self._monitors.pop(owner))

    @info
    def owner_down(self, msg: Down) -> None:
        """An owner ended: its entries vanish (OTP REG-05), its locks go on to the next."""
        owner = msg.address
        if isinstance(owner, LocalAddress) and self._monitors.get(owner) == msg.ref:
            del self._monitors[owner]
            self._table.drop_owner(owner)
            for attempt in self._locks.drop_owner(owner):
                self._grant(attempt)

    @info
    def exit_signal(self, _: ExitSignal) -> None:
        """Links only carry our death to the owners; of theirs the monitor tells."""

    # -- asking ------------------------------------------------------------------------------------

    @call
    def lookup(self, msg: Lookup) -> list[tuple[LocalAddress, Any]] | Fail:
        """Entries of a key."""
        return self._answer(lambda: self._table.lookup(msg.key))

    @call
    def where_is(self, msg: WhereIs) -> LocalAddress | Fail | None:
        """The holder of a unique key."""
        return self._answer(lambda: self._table.whereis(msg.key))

    @call
    def keys_of(self, msg: Keys) -> list[Any]:
        """Keys of an owner."""
        return self._table.keys(_local(msg.owner))

    @call
    def values_of(self, msg: Values) -> list[Any] | Fail:
        """Values of an owner under a key."""
        return self._answer(lambda: self._table.values(msg.key, _local(msg.owner)))

    @call
    def count(self, _: CountEntries) -> int:
        """Number of entries."""
        return self._table.count()

    @call
    def match(self, msg: Match) -> list[tuple[LocalAddress, Any]] | Fail:
        """Entries of a key whose value matches."""
        return self._answer(lambda: self._table.match(msg.key, msg.pattern, msg.guards))

    @call
    def count_match(self, msg: CountMatch) -> int | Fail:
        """How many those are."""
        return self._answer(lambda: self._table.count_match(msg.key, msg.pattern, msg.guards))

    @call
    def select(self, msg: SelectEntries) -> list[Any] | Fail:
        """Results of match clauses."""
        return self._answer(lambda: self._table.select(msg.clauses))

    @call
    def count_select(self, msg: CountSelect) -> int | Fail:
        """How many those are."""
        return self._answer(lambda: self._table.count_select(msg.clauses))

    @call
    def put_meta(self, msg: PutMeta) -> Fail | None:
        """Keep a registry-wide value."""
        return self._answer(lambda: self._table.put_meta(msg.key, msg.value))

    @call
    def get_meta(self, msg: GetMeta) -> Any:
        """A registry-wide value."""
        return self._answer(lambda: self._table.meta(msg.key))

    @call
    def delete_meta(self, msg: DeleteMeta) -> Fail | None:
        """Forget a registry-wide value."""
        return self._answer(lambda: self._table.delete_meta(msg.key))

    # -- waiting, locks, listeners -----------------------------------------------------------------

    @call
    def wait_for_key(self, msg: WaitForKey) -> Any:
        """Answer when the key is registered."""
        return self._answer(lambda: self._table.lookup(msg.key) or self._waiters.add(strict_key(msg.key), msg.timeout))

    @info
    def wait_over(self, msg: WaitOver) -> None:
        """Somebody's time is up."""
        waiter = self._waiters.over(msg)
        if waiter is not None:
            key = waiter.caller.message.key
            text = f"expected {key!r} to be registered in {self._label} within {waiter.timeout:g} s, got nobody"
            self.fail(waiter.caller, CallTimeout(text, target=str(key), timeout=waiter.timeout, state="unregistered"))

    @call
    def lock(self, msg: Lock) -> NoReply | Fail | None:
        """Answer when the caller has the lock."""

        def work() -> NoReply | None:
            attempt = Attempt(self._claimant(msg.owner), msg.number, self.caller)
            if not self._locks.acquire(msg.key, attempt):
                return NoReply()
            self._track(attempt.owner)
            return None

        return self._answer(work)

    @cast
    def unlock(self, msg: Unlock) -> None:
        """Pass a lock on."""

        def work() -> None:
            owner = _local(msg.owner)
            successor = self._locks.release(msg.key, owner, msg.number)
            if successor is not None:
                self._grant(successor)
            self._untrack(owner)

        # A key that cannot be one was refused when it was to be locked, and nobody waits for this answer.
        self._answer(work)

    def _grant(self, attempt: Attempt[LocalAddress, Call]) -> None:
        self._track(attempt.owner)
        self.reply(attempt.ticket, None)

    def _still_waits(self, attempt: Attempt[LocalAddress, Call]) -> bool:
        return not attempt.ticket.settled and self.system.alive(attempt.owner)

    @property
    def _label(self) -> str | ActorAddress:
        return self.name or self.myAddress

    def _listen(self, message: KeyRegistered | KeyUnregistered) -> None:
        for listener in self._listeners:
            address: ActorAddress | None = None if isinstance(listener, str) else listener
            if isinstance(listener, str):
                entry = self.system.names.get(qualify(self.namespace, listener))
                address = entry.address if entry is not None else None
            if address is not None and self.system.alive(address):
                self.send(address, message)


def _local(address: object) -> LocalAddress:
    """An address that can be a key; whoever is no actor of ours owns nothing."""
    return address if isinstance(address, LocalAddress) else LocalAddress("", -1)


__all__ = (
    "ANY",
    "ENTRY",
    "CountEntries",
    "CountMatch",
    "CountSelect",
    "DeleteMeta",
    "GetMeta",
    "KeyRegistered",
    "KeyUnregistered",
    "Keys",
    "Lock",
    "Lookup",
    "Match",
    "PutMeta",
    "Register",
    "Registry",
    "RegistryClient",
    "SelectEntries",
    "Unlock",
    "Unregister",
    "UnregisterMatch",
    "UpdateValue",
    "Values",
    "Var",
    "WaitForKey",
    "WhereIs",
)
