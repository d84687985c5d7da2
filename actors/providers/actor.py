"""The provider actor, ``provider/<id>``: one language-model provider, its settings and its connections.

A request is a task of its own, so the mailbox never waits for the network; it ends with its caller, down to the
socket. A failed request is a reply, not a crash.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import asdict, replace
from functools import partial
from typing import Final, TypeAlias

from thespian.actors import ActorAddress

from ...runtime.child_spec import ChildSpec, StartChild
from ...runtime.engine import MAILBOX_LIMIT
from ...runtime.errors import ConfigError, Error, did_you_mean
from ...runtime.gen_server import Fail, NoReply, Stop, call, cast, info
from ...runtime.messages import Down, TaskDone, TaskFailed
from ...runtime.outcomes import Started
from ..budgets.prices import load_price_list
from ..cache.cached_answer import cached
from ..configuration.follower import SettingsFollower
from ..configuration.provider_settings import ProviderSettings
from ..configuration.settings import Settings
from ..events.outbox import EventOutbox
from ..http.leased_transport import LeasedTransport
from ..http.transport import Transport
from ..lm.session import Session
from ..lm.setup import House, Setup
from ..lm.stream import Connect, LMStream, StreamClosed
from ..lm.values import LMResponse
from ..registry.actor import announce
from ..registry.announcing import Announcing
from ..wire_formats import wire_format
from . import credentials
from .messages import Complete, Leave, OpenStream, ProviderStatus, ProviderStatusReport, StreamOpened
from .tally import Health, Tally

TransportFactory: TypeAlias = Callable[[ProviderSettings], Transport]

STREAMS: Final = ("dspex", "lm", "streams")
"""Telemetry: a stream was opened or has ended. Measurements: ``open`` (how many are); metadata: ``provider``."""

_FOLLOWED: Final = (("events", "capture_prompts"), ("ai", "monitoring"), ("ai", "caching", "enabled"))


class ProviderActor(SettingsFollower, Announcing):
    """One provider.

    Args:
        provider: its id; its settings are ``ai.providers.<id>``.
        settings: its settings, for use without a configuration actor.
        capture_prompts: whether prompts are kept in events; with a configuration actor, as configured.
        transport: makes the way to the network; :func:`http_transport`, on a thread, if not given.

    Raises:
        ConfigError: the provider is not configured, or its kind has no wire format.
    """

    async def init(
        self,
        provider: str,
        *,
        settings: ProviderSettings | None = None,
        capture_prompts: bool = False,
        transport: TransportFactory | None = None,
    ) -> None:
        """Read the settings, and be told when they change."""
        self._provider = provider
        self._new_transport = transport
        self._tally = Tally()
        # Many requests wait here together while the store is away.
        self._outbox = EventOutbox(self.system, MAILBOX_LIMIT)
        self._streams: dict[ActorAddress, int] = {}
        self._count_streams()  # those of an earlier incarnation ended with it
        self._started = self.clock.monotonic()
        self._refusal: ConfigError | None = None
        self._setup: Setup | None = None
        self._house = House(capture_prompts=capture_prompts)
        if settings is None:
            whole = await self.follow_settings(("ai", "providers", provider), *_FOLLOWED)
            settings, self._house = _own_settings(whole, provider), _house(whole)
        await self._adopt(settings)
        if self._house.monitoring.cost_tracking_enabled:
            # No request waits for the prices but one that is answered before they are there.
            self.start_task(self.run_blocking(load_price_list))

    # -- what it is asked ------------------------------------------------------------------------

    @call
    def complete(self, msg: Complete) -> NoReply | Fail:
        """Serve a request in a task of its own."""
        return self._refused() or self.serve(self._complete(msg, self.caller.deadline))

    @call
    def open_stream(self, msg: OpenStream) -> NoReply | Fail:
        """Start a stream and open it; it is an actor of its own beside this one."""
        return self._refused() or self.serve(self._open_stream(msg, self.caller.deadline))

    def _refused(self) -> Fail | None:
        refusal = self._refusal
        return None if refusal is None else Fail(ConfigError(refusal.message, **refusal.facts))

    @call
    def status(self, msg: ProviderStatus) -> ProviderStatusReport:
        """How it is."""
        settings = self._settings
        return ProviderStatusReport(
            provider=self._provider,
            kind=settings.kind,
            base_url=settings.base_url,
            default_model=settings.default_model,
            uptime=self.clock.monotonic() - self._started,
            **asdict(replace(self._tally, health=self._health)),
        )

    # -- settings --------------------------------------------------------------------------------

    async def use_settings(self, settings: Settings) -> None:
        """Go on with the new settings; requests in flight end as they began."""
        self._house = _house(settings)
        try:
            await self._adopt(_own_settings(settings, self._provider))
        except ConfigError as error:
            # Requests in flight may end; new ones are told what is wrong until it is put right.
            self._refusal, self._tally.last_error = error, str(error)
        self._announce()

    async def _adopt(self, settings: ProviderSettings) -> None:
        wire, old = wire_format(settings.kind), self._setup
        if old is not None and _connection(old.settings) == _connection(settings):
            lease = old.lease
        else:
            lease = self.own(LeasedTransport(await self._open(settings), self.disown))
        if old is not None and old.settings != settings:
            self._tally.health = "ready"
        self._setup = Setup(self._provider, settings, wire, lease, self._house)
        self._refusal = None
        if old is not None and old.lease is not lease:
            await old.lease.retire()
        self._announce()

    async def _open(self, settings: ProviderSettings) -> Transport:
        if self._new_transport is not None:
            return self._new_transport(settings)
        # The HTTP library and the certificates take their time to load: not on the loop.
        return await self.run_blocking(http_transport, settings)

    @property
    def _health(self) -> Health:
        return self._tally.health if self._refusal is None else "misconfigured"

    @property
    def _settings(self) -> ProviderSettings:
        return self._present.settings

    @property
    def _present(self) -> Setup:
        assert self._setup is not None
        return self._setup

    # -- requests --------------------------------------------------------------------------------

    async def _complete(self, ask: Complete, deadline: float | None) -> LMResponse:
        self.set_context(self.context.child(self.ids))
        setup = self._present
        async with setup.lease as transport:
            session = Session(self, setup, ask, deadline, stream=False, outbox=self._outbox)
            self._tally.begin()
            try:
                response = await cached(self, session, partial(self._attempt, session, transport))
            except Error as error:
                self._failed(session, error)
                raise
            except asyncio.CancelledError:
                self._failed(session, None)
                raise
            self._tally.succeed(response.usage)
            self._announce_soon()
            return response

    async def _attempt(self, session: Session, transport: Transport) -> LMResponse:
        """One try on the wire."""
        setup = session.setup
        secrets = credentials.resolve(setup.settings)
        wire = setup.format.encode(session.ask.request, setup.settings, secrets)
        with session.clock() as limit:
            answer = await transport.send(wire, timeout=limit)
        session.heard(answer)
        session.check(answer, secrets)
        return setup.format.decode(answer, model=session.model or "", secrets=secrets.secrets)

    def _failed(self, session: Session, error: Error | None) -> None:
        session.failed(error)
        self._tally.fail("cancelled" if error is None else error.code, error)
        self._announce_soon()

    # -- streams ---------------------------------------------------------------------------------

    async def _open_stream(self, ask: OpenStream, deadline: float | None) -> StreamOpened:
        id = f"stream-{self.ids.span_id()}"
        spec = ChildSpec(id, LMStream, (self._present, ask, self.myAddress), restart="temporary")
        timeout = None if deadline is None else max(deadline - self.system.now(), 0.0)
        started: Started = await self.call(f"streams/{self._provider}", StartChild(spec, Leave()), timeout=timeout)
        stream = started.address
        self._tally.begin()
        self._streams[stream] = self.monitor(stream)
        self._count_streams()
        try:
            await self.call(stream, Connect(), timeout=timeout)
        except BaseException:  # fault boundary: nothing is handled here, the stream is of no use
            self.cast(stream, Leave())
            raise
        return StreamOpened(stream, self._provider)

    @cast
    def stream_closed(self, msg: StreamClosed) -> None:
        """A stream has ended, and says how."""
        ref = self._streams.pop(msg.stream, None)
        if ref is None:
            return
        self.demonitor(ref)
        self._count_streams()
        if msg.code is None:
            self._tally.succeed(msg.usage)
        else:
            self._tally.fail(msg.code, msg.error)
        self._announce_soon()

    @info
    def prices_loaded(self, msg: TaskDone | TaskFailed) -> Stop | None:
        """The price list is there. That it cannot be loaded is a defect of the installation, and not hidden."""
        return Stop(msg.reason) if isinstance(msg, TaskFailed) else None

    @info
    def stream_down(self, msg: Down) -> None:
        """A stream has ended without a word: it was killed, or crashed."""
        if msg.address is not None and self._streams.pop(msg.address, None) is not None:
            self._tally.fail("killed", None)
            self._count_streams()
            self._announce_soon()

    def _count_streams(self) -> None:
        self.system.telemetry.execute(STREAMS, {"open": len(self._streams)}, {"provider": self._provider})

    # -- the registry ----------------------------------------------------------------------------

    def _announce(self) -> None:
        settings = self._settings
        metadata = {
            "type": "provider",
            "kind": settings.kind,
            "base_url": settings.base_url,
            "model": settings.default_model,
            "status": self._health,
            **self._tally.counters(),
        }
        announce(self, metadata)


def http_transport(settings: ProviderSettings) -> Transport:
    """The network, as the settings want it. Blocks while the HTTP library and the certificates are loaded."""
    from ..http.http_transport import HttpTransport  # noqa: PLC0415 - its import costs as much as all the rest

    return HttpTransport(
        settings.base_url,
        max_connections=settings.max_connections,
        connect_timeout=settings.connect_timeout,
        write_timeout=settings.write_timeout,
    )


def _connection(settings: ProviderSettings) -> tuple[object, ...]:
    """What a transport is made of; all else is read with each request."""
    return settings.base_url, settings.max_connections, settings.connect_timeout, settings.write_timeout


def _house(settings: Settings) -> House:
    ai = settings.ai
    return House(
        ai.monitoring,
        settings.events.capture_prompts,
        settings.telemetry.capture_content,
        ai.caching.enabled,
        protected=True,
    )


def _own_settings(settings: Settings, provider: str) -> ProviderSettings:
    found = settings.ai.providers.get(provider)
    if found is None:
        known = tuple(settings.ai.providers)
        path = f"ai.providers.{provider}"
        raise ConfigError(
            f"expected a configured provider ({', '.join(known) or 'there is none'}), got {provider!r}, at {path}"
            f"{did_you_mean(provider, known)}",
            path=path,
            expected="a configured provider",
            got=provider,
        )
    return found


__all__ = (
    "STREAMS",
    "Complete",
    "ProviderActor",
    "ProviderStatus",
    "ProviderStatusReport",
    "TransportFactory",
    "http_transport",
)
