"""The supervisor of partitions, as Elixir's PartitionSupervisor: one spec, n processes, a key for each (OTP PAR-01)."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Hashable
from dataclasses import dataclass, replace
from typing import Any, Final

from ..runtime.child_spec import ChildSpec, as_child_spec, check_options
from ..runtime.engine import Engine
from ..runtime.errors import NoProcess, SpecError, UsageError
from ..runtime.gen_server import Fail, GenServer, Stop, call
from ..runtime.names import qualify
from .messages import RestartChild, TerminateChild
from .specs import AnySpec, Seconds, supervisor_child
from .supervisor import Supervisor

WithArguments = Callable[[tuple[Any, ...], int], tuple[Any, ...]]
"""The arguments of one partition, from those of the spec and its number."""
OPTIONS: Final = ("child", "partitions", "with_arguments", "max_restarts", "max_seconds")
_COUNT: Final = "partitions"


@dataclass(frozen=True, slots=True)
class Resize:
    """Have so many partitions run; answers how many there were.

    Keys move: with another number of partitions most of them lead elsewhere.

    Raises at the caller:
        UsageError: not between 0 and the number it started with.
        StartError: a partition did not start.
        SupervisorError: a partition is in the middle of a restart.
    """

    partitions: int


def partition_of(key: Hashable, partitions: int) -> int:
    """The partition of a key: ``abs(key) mod n`` for an integer, else a hash of its text, the same in every run.

    Args:
        key: an integer, text, bytes, or anything whose ``repr`` says what it is.
        partitions: how many there are, from 1.

    Raises:
        UsageError: there are none, or the key's text says only where it lies in memory.
    """
    if partitions < 1:
        raise UsageError("expected a partition for the key, but there are none now")
    if isinstance(key, int):
        return abs(key) % partitions
    if type(key).__repr__ is object.__repr__:
        kind = type(key).__name__
        raise UsageError(f"expected a key whose repr says what it is, got a {kind}; use its id, or give it a __repr__")
    return zlib.crc32(repr(key).encode()) % partitions


class PartitionSupervisor(Supervisor):
    """Runs ``partitions`` children with ids 0 .. n-1 from one spec, each restarted by itself (``one_for_one``).

    Started with a registered name, ``jobs/cache`` say, its children are called ``jobs/cache.0`` and so on,
    and :meth:`route` finds the one of a key without asking anybody::

        await self.call(PartitionSupervisor.route(self, "jobs/cache", msg.user), Get(msg.user))
    """

    strategy = "one_for_one"

    async def init(  # type: ignore[override]  # one child spec, where its base has many
        self,
        child: AnySpec,  # pyright: ignore[reportIncompatibleMethodOverride]
        *,
        partitions: int,
        with_arguments: WithArguments | None = None,
        max_restarts: int | None = None,
        max_seconds: Seconds | None = None,
        **unknown: Any,
    ) -> Stop | None:
        """Check everything, then start the partitions in order.

        Args:
            child: the spec of each; its id is not used, and it has no name.
            partitions: how many, from 1.
            with_arguments: makes the arguments of each partition from those of the spec and its number.
            max_restarts: as for ``Supervisor``.
            max_seconds: as for ``Supervisor``.
            **unknown: refused, with the nearest known option.

        Returns:
            None, or a failed start, as of ``Supervisor``.
        """
        check_options(self.label, unknown, OPTIONS)
        try:
            specs = partition_specs(child, partitions, with_arguments, self.name)
        except SpecError as error:
            return Stop(("start_spec", error.reason))
        self._most = partitions
        self._publish(partitions)
        return await super().init(specs, max_restarts=max_restarts, max_seconds=max_seconds)

    @classmethod
    def child_spec(  # type: ignore[override]
        cls,
        id: Hashable = None,
        child: AnySpec | None = None,  # pyright: ignore[reportIncompatibleMethodOverride]
        **options: Any,
    ) -> ChildSpec:
        """This supervisor as a child of another one, checked now.

        Args:
            id: its id there; the class's name if not given.
            child: as for :meth:`init`.
            **options: the other arguments of :meth:`init`, and fields of a child spec (``restart``, ``name`` ...).

        Raises:
            SpecError: an option is unknown or malformed.
        """
        flags: dict[str, Any] = {name: options.pop(name) for name in OPTIONS if name in options}
        if child is None:
            raise SpecError("expected child=, the spec of each partition, got none", reason="missing_start")
        partition_specs(child, flags.get(_COUNT), flags.get("with_arguments"), None)
        cls._flags_of(None, flags.get("max_restarts"), flags.get("max_seconds"), None)
        return supervisor_child(id, cls, flags, options, (child,))

    @staticmethod
    def route(caller: GenServer | Engine, name: str, key: Hashable, *, namespace: str = "") -> str:
        """The name of the partition that serves ``key``. No message is sent; from any thread.

        Args:
            caller: an actor, or the engine for code outside all actors.
            name: the registered name of the partition supervisor.
            key: see :func:`partition_of`.
            namespace: where an outside caller's name is looked up; an actor has its own.

        Raises:
            NoProcess: nobody has this name.
            UsageError: it is no partition supervisor's, it has no partitions now, or the key is no key.
        """
        actor = caller if isinstance(caller, GenServer) else None
        engine = caller.system if isinstance(caller, GenServer) else caller
        full = qualify(namespace if actor is None else actor.namespace, name)
        if engine.names.get(full) is None:
            raise NoProcess(f"no partition supervisor {full!r}: nobody has this name", target=full, reason=None)
        partitions = engine.names.metadata(full).get(_COUNT)
        if not isinstance(partitions, int):
            raise UsageError(f"expected the name of a partition supervisor, got {full!r}")
        return f"{full if ':' in full else ':' + full}.{partition_of(key, partitions)}"

    @call
    async def resize(self, message: Resize) -> int | Fail:
        """See :class:`Resize`. Fewer: keys are led away first. More: the new ones run first."""
        wanted, now = message.partitions, self._partitions
        if type(wanted) is not int or not 0 <= wanted <= self._most:
            return Fail(
                UsageError(f"{self.label}: expected from 0 to {self._most} partitions, as started, got {wanted!r}")
            )
        for number in range(now, wanted):
            outcome = await self.restart_child(RestartChild(number))
            if isinstance(outcome, Fail):
                return outcome
            self._publish(number + 1)
        self._publish(wanted)
        for number in range(wanted, now):
            await self.terminate_child(TerminateChild(number))
        return now

    def _publish(self, partitions: int) -> None:
        self._partitions = partitions
        if self.name is not None:
            self.system.names.set_metadata(self.name, {_COUNT: partitions})


def partition_specs(
    child: AnySpec, partitions: object, with_arguments: WithArguments | None, name: str | None
) -> tuple[ChildSpec, ...]:
    """The specs of the partitions.

    Args:
        child: the spec they share.
        partitions: how many.
        with_arguments: varies the arguments, or None.
        name: the registered name of their supervisor, or None.

    Raises:
        SpecError: something is malformed.
    """
    spec = as_child_spec(child)
    if isinstance(partitions, bool) or not isinstance(partitions, int) or partitions < 1:
        raise SpecError(
            f"partition supervisor, partitions: expected a whole number from 1, got {partitions!r}",
            reason=("invalid_partitions", partitions),
        )
    if spec.name is not None:
        raise SpecError(
            f"partition supervisor, child: expected a spec without a name, got {spec.name!r}; "
            "the partitions are called after their supervisor",
            reason=("invalid_name", spec.name),
        )
    # With the namespace said, a partition is found where its supervisor is.
    base = name if name is None or ":" in name else f":{name}"
    return tuple(
        replace(
            spec,
            id=number,
            name=None if base is None else f"{base}.{number}",
            args=spec.args if with_arguments is None else with_arguments(spec.args, number),
        )
        for number in range(partitions)
    )


__all__ = ("OPTIONS", "PartitionSupervisor", "Resize", "WithArguments", "partition_of", "partition_specs")
