"""The views of :mod:`.views` for plain code: the same methods, each waiting for its result."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Iterable, Mapping, Sequence
from functools import partial
from typing import Any

from ...actors.events.kinds import Event
from ...actors.events.query import EventPage
from ...actors.events.store import StoreStatistics
from ...actors.events.tree import TraceNode
from ...actors.lm.chunks import LMChunk
from ...actors.lm.values import LMResponse, Message
from ...actors.modules.messages import check_max_demand
from ...actors.providers.messages import OnLimit
from ...actors.registry.rows import RegistryRow
from ...actors.telemetry.metrics_snapshot import MetricsSnapshot
from ...runtime.context import Context
from .asks import stream_of
from .life import Life
from .streams import MAX_DEMAND, AnswerStream
from .views import LM_TIMEOUT, AsyncEvents, AsyncLM, AsyncRegistry, AsyncTelemetry

Run = Callable[[Coroutine[Any, Any, Any]], Any]


class Registry:
    """Who is who; see :class:`.AsyncRegistry`."""

    def __init__(self, view: AsyncRegistry, run: Run) -> None:
        self._view = view
        self._run = run

    def lookup(self, name: str) -> RegistryRow | None:
        """The row of a name, or None."""
        return self._run(self._view.lookup(name))  # type: ignore[no-any-return]

    def select(self, **conditions: Any) -> tuple[RegistryRow, ...]:
        """Rows that meet all conditions; see :meth:`.AsyncRegistry.select`."""
        return self._run(self._view.select(**conditions))  # type: ignore[no-any-return]

    def count(self, **conditions: Any) -> int:
        """How many rows meet all conditions."""
        return self._run(self._view.count(**conditions))  # type: ignore[no-any-return]

    def wait_for(self, name: str, *, timeout: float = 5.0) -> RegistryRow:
        """Wait until a name is running."""
        return self._run(self._view.wait_for(name, timeout=timeout))  # type: ignore[no-any-return]


class Events:
    """What happened; see :class:`.AsyncEvents`."""

    def __init__(self, view: AsyncEvents, run: Run) -> None:
        self._view = view
        self._run = run

    def query(self, **conditions: Any) -> EventPage:
        """Events that meet all conditions, newest first unless asked otherwise."""
        return self._run(self._view.query(**conditions))  # type: ignore[no-any-return]

    def get(self, id: str) -> Event:
        """One event by its id."""
        return self._run(self._view.get(id))  # type: ignore[no-any-return]

    def tree(self, correlation_id: str) -> tuple[TraceNode, ...]:
        """The events of one piece of work, as a tree of its steps."""
        return self._run(self._view.tree(correlation_id))  # type: ignore[no-any-return]

    def append(self, events: Event | Iterable[Event]) -> tuple[str, ...]:
        """Append events and wait until they are kept; all or none. Their ids."""
        return self._run(self._view.append(events))  # type: ignore[no-any-return]

    def record(self, type: str, data: Mapping[str, Any] | None = None, *, context: Context | None = None) -> str:
        """Append an event of one's own type. Its id."""
        return self._run(self._view.record(type, data, context=context))  # type: ignore[no-any-return]

    def stats(self) -> StoreStatistics:
        """Numbers of the store."""
        return self._run(self._view.stats())  # type: ignore[no-any-return]


class Telemetry:
    """How much of it; see :class:`.AsyncTelemetry`."""

    def __init__(self, view: AsyncTelemetry, run: Run) -> None:
        self._view = view
        self._run = run

    def snapshot(self) -> MetricsSnapshot:
        """All metrics now."""
        return self._run(self._view.snapshot())  # type: ignore[no-any-return]

    def prometheus(self) -> str:
        """All metrics now, as the text that Prometheus scrapes; see :meth:`.AsyncTelemetry.prometheus`."""
        return self._run(self._view.prometheus())  # type: ignore[no-any-return]


class LM:
    """The providers themselves; see :class:`.AsyncLM`."""

    def __init__(self, view: AsyncLM, life: Life) -> None:
        self._view = view
        self._life = life

    def complete(
        self,
        provider: str,
        messages: str | Sequence[Message],
        *,
        timeout: float | None = LM_TIMEOUT,
        user: str | None = None,
        accounts: Sequence[str] = (),
        on_limit: OnLimit | None = None,
        cache: bool = True,
        **fields: Any,
    ) -> LMResponse:
        """Send one request to a provider; see :meth:`.AsyncLM.complete`."""
        how: dict[str, Any] = {"accounts": accounts, "on_limit": on_limit, "cache": cache}
        return self._life.run(self._view.complete(provider, messages, timeout=timeout, user=user, **how, **fields))

    def stream(
        self,
        provider: str,
        messages: str | Sequence[Message],
        *,
        timeout: float | None = LM_TIMEOUT,
        user: str | None = None,
        max_demand: int = MAX_DEMAND,
        accounts: Sequence[str] = (),
        on_limit: OnLimit | None = None,
        **fields: Any,
    ) -> AnswerStream[LMChunk, LMResponse]:
        """Send one request to a provider and read its answer in pieces; see :meth:`.AsyncLM.stream`."""
        check_max_demand(max_demand)
        ask = partial(stream_of, self._life, provider, messages, timeout, user, max_demand, accounts, on_limit, fields)
        return AnswerStream(self._life, ask)
