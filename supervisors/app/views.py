"""What an application shows of its registry, events, telemetry and providers, as coroutines."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from typing import Any

from ...actors.events.kinds import CustomEvent, Event
from ...actors.events.query import EventPage, EventQuery
from ...actors.events.store import AppendAcked, GetEvent, Query, StoreStatistics, StoreStats, TraceTree
from ...actors.events.tree import TraceNode
from ...actors.lm.chunks import LMChunk
from ...actors.lm.values import LMResponse, Message
from ...actors.modules.messages import check_max_demand
from ...actors.providers.messages import Complete, OnLimit
from ...actors.registry.messages import Count, Lookup, Select, WaitForName
from ...actors.registry.rows import RegistryRow
from ...actors.telemetry.actor import Snapshot
from ...actors.telemetry.metrics_snapshot import MetricsSnapshot
from ...actors.telemetry.prometheus_text import prometheus_text
from ...runtime.context import Context
from ...runtime.errors import ConfigError
from ...runtime.names import qualify
from . import names
from .asks import ask_of, stream_of
from .life import Life
from .streams import MAX_DEMAND, AsyncAnswerStream

CALL_TIMEOUT = 5.0
"""Seconds a call may take unless told otherwise (OTP's default)."""
LM_TIMEOUT = 30.0


class AsyncRegistry:
    """Who is who: names, their state and what they announced of themselves.

    In a view on a namespace names are those of the namespace, unless they carry one.
    """

    def __init__(self, life: Life, namespace: str = "") -> None:
        self._life = life
        self._namespace = namespace

    async def _ask(self, message: Any, timeout: float = CALL_TIMEOUT) -> Any:
        return await self._life.call(names.REGISTRY, message, timeout=timeout)

    def _within(self, conditions: dict[str, Any]) -> dict[str, Any]:
        return {"namespace": self._namespace, **conditions} if self._namespace else conditions

    async def lookup(self, name: str) -> RegistryRow | None:
        """The row of a name, or None."""
        return await self._ask(Lookup(qualify(self._namespace, name)))  # type: ignore[no-any-return]

    async def select(self, **conditions: Any) -> tuple[RegistryRow, ...]:
        """Rows that meet all conditions.

        Args:
            **conditions: ``kind``, ``namespace``, ``pattern`` (``"module/*"``), ``state``, ``where`` (clauses
                ``(path, op, value)``), or any metadata attribute that must be equal: ``provider="local"``.
        """
        return await self._ask(Select.of(**self._within(conditions)))  # type: ignore[no-any-return]

    async def count(self, **conditions: Any) -> int:
        """How many rows meet all conditions."""
        return await self._ask(Count.of(**self._within(conditions)))  # type: ignore[no-any-return]

    async def wait_for(self, name: str, *, timeout: float = 5.0) -> RegistryRow:
        """Wait until a name is running.

        Args:
            name: which.
            timeout: seconds.

        Raises:
            CallTimeout: it was not, in time.
        """
        message = WaitForName(qualify(self._namespace, name), timeout)
        return await self._ask(message, timeout + 1.0)  # type: ignore[no-any-return]


class AsyncEvents:
    """What happened."""

    def __init__(self, life: Life) -> None:
        self._life = life

    async def _ask(self, message: Any) -> Any:
        return await self._life.call(names.EVENTS, message, timeout=CALL_TIMEOUT)

    async def query(self, **conditions: Any) -> EventPage:
        """Events that meet all conditions, newest first unless asked otherwise (see ``EventQuery.of``)."""
        return await self._ask(Query(EventQuery.of(**conditions)))  # type: ignore[no-any-return]

    async def get(self, id: str) -> Event:
        """One event by its id.

        Raises:
            EventNotFound: there is none.
        """
        return await self._ask(GetEvent(id))  # type: ignore[no-any-return]

    async def tree(self, correlation_id: str) -> tuple[TraceNode, ...]:
        """The events of one piece of work, as a tree of its steps."""
        return await self._ask(TraceTree(correlation_id))  # type: ignore[no-any-return]

    async def append(self, events: Event | Iterable[Event]) -> tuple[str, ...]:
        """Append events and wait until they are kept; all or none. Their ids."""
        batch = (events,) if isinstance(events, Event) else tuple(events)
        return await self._ask(AppendAcked(batch))  # type: ignore[no-any-return]

    async def record(self, type: str, data: Mapping[str, Any] | None = None, *, context: Context | None = None) -> str:
        """Append an event of one's own type. Its id."""
        engine = self._life.engine
        place = context or Context.root(engine.ids)
        event = CustomEvent(
            id=engine.ids.sortable(),
            type=type,
            time=engine.clock.time(),
            trace_id=place.trace_id,
            span_id=place.span_id,
            parent_id=place.parent_id,
            user=place.user,
            data=dict(data or {}),
        )
        return (await self.append(event))[0]

    async def stats(self) -> StoreStatistics:
        """Numbers of the store."""
        return await self._ask(StoreStats())  # type: ignore[no-any-return]


class AsyncTelemetry:
    """How much of it: counters, gauges, histograms."""

    def __init__(self, life: Life) -> None:
        self._life = life

    async def snapshot(self) -> MetricsSnapshot:
        """All metrics now.

        Raises:
            ConfigError: the configuration has turned telemetry off.
        """
        if not self._life.plan.settings.telemetry.enabled:
            path = "telemetry.enabled"
            raise ConfigError(f"expected telemetry to be on, got false, at {path}", path=path, expected=True, got=False)
        return await self._life.call(names.TELEMETRY, Snapshot(), timeout=CALL_TIMEOUT)  # type: ignore[no-any-return]

    async def prometheus(self) -> str:
        """All metrics now, as the text that Prometheus scrapes (``prometheus_text.CONTENT_TYPE``).

        Raises:
            ConfigError: the configuration has turned telemetry off.
        """
        return prometheus_text(await self.snapshot())


class AsyncLM:
    """The providers themselves, without a module."""

    def __init__(self, life: Life) -> None:
        self._life = life

    async def complete(
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
        """Send one request to a provider.

        Args:
            provider: its id.
            messages: the conversation; a text is one user message.
            timeout: seconds for the whole call.
            user: on whose behalf.
            accounts: budgets that pay for it beside the provider's own.
            on_limit: ``wait`` for room or ``fail`` at once; as the provider is configured if None.
            cache: whether an answer from the cache will do, and may be kept there.
            **fields: other fields of ``LMRequest``: model, temperature, max_tokens, ...; only what is given is sent.

        Raises:
            LMError: the provider failed.
            UsageError: a field is unknown, or an argument is of the wrong type.
        """
        asked, context = ask_of(self._life, Complete, messages, user, accounts, on_limit, fields, cache=cache)
        return await self._life.call(f"provider/{provider}", asked, timeout=timeout, context=context)  # type: ignore[no-any-return]

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
    ) -> AsyncAnswerStream[LMChunk, LMResponse]:
        """Send one request to a provider and read its answer in pieces.

        Args:
            provider: its id.
            messages: the conversation; a text is one user message.
            timeout: seconds until the first piece; then the provider's limits of a stream hold.
            user: on whose behalf.
            max_demand: pieces that are asked for and not read yet.
            accounts: budgets that pay for it beside the provider's own.
            on_limit: ``wait`` for room or ``fail`` at once; as the provider is configured if None.
            **fields: other fields of ``LMRequest``.

        Raises:
            ConfigError: ``max_demand`` is no whole number from 1.

        Raises (when it is begun or read):
            LMError: the provider failed; StreamInterrupted if that was after a piece had been delivered.
            UsageError: a field is unknown, or an argument is of the wrong type.
        """
        check_max_demand(max_demand)
        ask = partial(stream_of, self._life, provider, messages, timeout, user, max_demand, accounts, on_limit, fields)
        return AsyncAnswerStream(self._life, ask)
