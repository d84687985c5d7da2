"""PartitionDispatcher: each event goes to the one consumer of its partition (OTP DSP-20 to DSP-24). Pure."""

from __future__ import annotations

import zlib
from collections import deque
from collections.abc import Callable, Hashable, Iterable, Mapping
from typing import Any, cast

from ..errors import SpecError, UsageError, did_you_mean
from .dispatcher import Events, Link

HashFunction = Callable[[Any], tuple[Any, Hashable] | None]
"""Of an event: ``(event, partition)``, or None to drop it."""


class _WaitingInfo:
    """An info that waits for the queues of some partitions."""

    __slots__ = ("message", "queues")

    def __init__(self, message: Any) -> None:
        self.message = message
        self.queues = 0


class _Partition:
    """One partition: its consumer, and either what that may still get or the events that wait for it."""

    __slots__ = ("arrived", "demand", "link", "queue")

    def __init__(self) -> None:
        self.reset()
        self.arrived: list[Any] = []

    def reset(self) -> None:
        self.link: Link | None = None
        self.demand = 0
        self.queue: deque[Any] | None = None


class PartitionDispatcher:
    """One consumer for each partition. Subscriptions need the option ``partition``.

    Events for a partition without demand wait in it, unbounded: uneven partitions pile up.

    Args:
        partitions: how many (called 0, 1, ..), or their names.
        hash: decides where an event goes. Needed where partitions have names; else it goes by the event:
            the number of an integer, the CRC-32 of the text of anything else, modulo the partitions.

    Raises:
        SpecError: no partitions, or names without ``hash``.
    """

    def __init__(self, partitions: int | Iterable[Hashable], *, hash: HashFunction | None = None) -> None:
        names = _names(partitions)
        if hash is None and names != tuple(range(len(names))):
            raise _bad("hash", "a function, as the partitions have names", None)
        self._partitions: dict[Hashable, _Partition] = {name: _Partition() for name in names}
        self._hash = hash or self._by_value
        self._by_link: dict[Link, _Partition] = {}
        self._waiting = 0  # demand of all together
        self._pending = 0  # asked upstream for consumers that are gone

    def _by_value(self, event: Any) -> tuple[Any, Hashable]:
        number = event if isinstance(event, int) else zlib.crc32(str(event).encode("utf-8", "surrogatepass"))
        return event, number % len(self._partitions)

    def on_info(self, deliver: Callable[[Any], None]) -> None:
        """See :class:`.dispatcher.Dispatcher`."""
        self._deliver = deliver

    def subscribe(self, link: Link, options: Mapping[str, Any]) -> int:
        """See :class:`.dispatcher.Dispatcher`."""
        name: Any = options.get("partition")
        known = ", ".join(map(repr, self._partitions))
        if name is None:
            raise _bad("partition", f"one of {known} in the subscription's options", None)
        partition = self._partitions.get(name)
        if partition is None:
            raise _bad("partition", f"one of {known}", name, did_you_mean(str(name), map(str, self._partitions)))
        if partition.link is not None:
            raise _bad("partition", "one that is free", name, f": it is taken by {partition.link.consumer!r}")
        partition.link = link
        self._by_link[link] = partition
        return 0

    def ask(self, link: Link, count: int) -> int:
        """See :class:`.dispatcher.Dispatcher`. What waits in the partition goes first."""
        partition = self._by_link[link]
        if partition.queue is None:
            partition.demand += count
        else:
            self._send_queued(partition, partition.queue, count)
        known = min(self._pending, count)
        self._pending -= known
        self._waiting += count - known
        return count - known

    def _send_queued(self, partition: _Partition, queue: deque[Any], count: int) -> None:
        batch: list[Any] = []
        while count and queue:
            entry = queue.popleft()
            if type(entry) is _WaitingInfo:
                batch = self._send(partition, batch)
                self._passed(entry)
            else:
                batch.append(entry)
                count -= 1
        self._send(partition, batch)
        if count:
            partition.queue, partition.demand = None, count

    def _send(self, partition: _Partition, batch: list[Any]) -> list[Any]:
        if batch and partition.link is not None:
            partition.link.send(tuple(batch))
        return []

    def cancel(self, link: Link) -> int:
        """See :class:`.dispatcher.Dispatcher`. What waited in its partition is dropped and asked for again."""
        partition = self._by_link.pop(link, None)
        if partition is None:
            return 0
        queue, demand = partition.queue, partition.demand
        partition.reset()
        if queue is None:
            self._pending += demand
            return 0
        dropped = 0
        for entry in queue:
            if type(entry) is _WaitingInfo:
                self._passed(entry)
            else:
                dropped += 1
        self._waiting += dropped
        return dropped

    def dispatch(self, events: Events) -> Events:
        """See :class:`.dispatcher.Dispatcher`. As many are hashed as were asked for by all together."""
        at, waiting, touched = 0, self._waiting, dict[int, _Partition]()
        for event in events:
            if not waiting:
                break
            at += 1
            placed = self._place(event)
            if placed is not None:
                waiting -= 1
                touched[id(placed)] = placed
        self._waiting = waiting
        if len(touched) == 1:
            self._deliver_to(*touched.values())
        elif touched:
            for partition in self._partitions.values():
                if partition.arrived:
                    self._deliver_to(partition)
        return events[at:]

    def _place(self, event: Any) -> _Partition | None:
        answer: Any = self._hash(event)
        if answer is None:
            return None
        try:
            event, name = answer
        except (TypeError, ValueError):
            got = type(answer).__name__
            raise UsageError(f"partition dispatcher, hash: expected (event, partition) or None, got {got}") from None
        partition = self._partitions.get(name)
        if partition is None:
            known = ", ".join(map(repr, self._partitions))
            raise UsageError(f"partition dispatcher, hash: expected a partition of {known}, got {name!r}")
        partition.arrived.append(event)
        return partition

    def _deliver_to(self, partition: _Partition) -> None:
        arrived, partition.arrived = partition.arrived, []
        if partition.queue is not None:
            partition.queue.extend(arrived)
            return
        demand = partition.demand
        self._send(partition, arrived[:demand])
        if len(arrived) >= demand:  # a queue, though perhaps empty, until more is asked for
            partition.queue, partition.demand = deque(arrived[demand:]), 0
        else:
            partition.demand = demand - len(arrived)

    def info(self, message: Any) -> None:
        """See :class:`.dispatcher.Dispatcher`. It waits for the queues there are now (OTP DSP-23)."""
        waiting = _WaitingInfo(message)
        for partition in self._partitions.values():
            if partition.queue is not None:
                partition.queue.append(waiting)
                waiting.queues += 1
        if not waiting.queues:
            self._deliver(message)

    def _passed(self, info: _WaitingInfo) -> None:
        """One of the queues it waits for has come to it."""
        info.queues -= 1
        if not info.queues:
            self._deliver(info.message)


def _names(partitions: object) -> tuple[Hashable, ...]:
    given, names = repr(partitions), tuple[Hashable, ...]()
    if isinstance(partitions, int) and not isinstance(partitions, bool):
        names = tuple(range(partitions))
    elif isinstance(partitions, Iterable) and not isinstance(partitions, str):
        names = tuple(dict.fromkeys(cast("Iterable[Hashable]", partitions)))
    if not names:
        raise _bad("partitions", "a number from 1, or names", given)
    return names


def _bad(option: str, expected: str, got: object, hint: str = "") -> SpecError:
    text = f"partition dispatcher, {option}: expected {expected}, got {got!r}{hint}"
    return SpecError(text, reason=("bad_opts", text))


__all__ = ("HashFunction", "PartitionDispatcher")
