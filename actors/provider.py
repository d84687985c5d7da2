"""The provider actor, ``provider/<id>``: one language-model provider, its settings and its connections.

A request is a task of its own, so the mailbox never waits for the network; it ends with its caller, down to the
socket. A failed request is a reply, not a crash.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from typing import Final, TypeAlias

from ..runtime.errors import ActorDied, ConfigError, Error, LMError, LMTimeout, did_you_mean
from ..runtime.gen_server import Fail, GenServer, NoReply, call, info
from ..runtime.messages import Reply
from . import credentials
from .config_messages import START_PATIENCE, ConfigChanged, GetSettings, SubscribeSettings
from .credentials import Credentials
from .leased_transport import LeasedTransport
from .lm import Attempt, LMRequest, LMResponse
from .lm_failures import FAILURES, error_from_response
from .lm_reports import LmReports
from .provider_messages import Complete, ProviderStatus, ProviderStatusReport
from .provider_tally import Health, Tally
from .registry import announce
from .settings import ProviderSettings, Settings
from .transport import HttpResponse, Transport
from .wire_format import WireFormat
from .wire_formats import wire_format

TransportFactory: TypeAlias = Callable[[ProviderSettings], Transport]

_CONFIG: Final = "core/config"
_ANNOUNCE_EVERY: Final = 0.25
# What is left for the answer to reach a caller whose own deadline is near: it then hears what happened.
_MARGIN: Final = 0.02


@dataclass(frozen=True, slots=True)
class _AnnounceDue:
    """To itself: tell the registry how things are."""


@dataclass(frozen=True, slots=True)
class _Setup:
    """What belongs together: a request ends with the settings and the connections it began with."""

    settings: ProviderSettings
    format: WireFormat
    lease: LeasedTransport


@dataclass(slots=True)
class _Ticket:
    """One request on its way: what it, its events and its telemetry need.

    Attributes:
        request: what is asked.
        setup: with what.
        model: the model, the provider's default if the request names none.
        deadline: the caller's, on the loop's clock, or None.
        began: on the monotonic clock.
        event_id: of its ``lm_request`` event.
        attempts: its tries so far.
    """

    request: LMRequest
    setup: _Setup
    model: str | None
    deadline: float | None
    began: float
    event_id: str
    attempts: list[Attempt] = field(default_factory=list[Attempt])


class ProviderActor(GenServer):
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
        self._reports = LmReports(self, provider)
        self._started = self.clock.monotonic()
        self._announcing = False
        self._refusal: ConfigError | None = None
        self._setup: _Setup | None = None
        if settings is None:
            for path in (("ai", "providers", provider), ("events", "capture_prompts")):
                await self.call(_CONFIG, SubscribeSettings(self.myAddress, path), timeout=START_PATIENCE)
            whole: Settings = await self.call(_CONFIG, GetSettings(), timeout=START_PATIENCE)
            settings, capture_prompts = _own_settings(whole, provider), whole.events.capture_prompts
        self._capture_prompts = capture_prompts
        await self._adopt(settings)

    # -- what it is asked ------------------------------------------------------------------------

    @call
    def complete(self, msg: Complete) -> NoReply | Fail:
        """Serve a request in a task of its own."""
        if self._refusal is not None:
            return Fail(ConfigError(self._refusal.message, **self._refusal.facts))
        return self.serve(self._complete(msg.request, self.caller.deadline))

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

    @info
    def settings_changed(self, msg: ConfigChanged) -> None:
        """Read the settings again; requests go on meanwhile."""
        self.request(_CONFIG, GetSettings(), timeout=None)

    @info
    async def settings_read(self, msg: Reply) -> None:
        """Go on with the new settings; requests in flight end as they began."""
        if isinstance(msg.error, ActorDied):
            self.request(_CONFIG, GetSettings(), timeout=None)
            return
        if msg.error is not None:
            raise msg.error
        whole: Settings = msg.value
        self._capture_prompts = whole.events.capture_prompts
        try:
            await self._adopt(_own_settings(whole, self._provider))
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
        self._setup, self._refusal = _Setup(settings, wire, lease), None
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
    def _present(self) -> _Setup:
        assert self._setup is not None
        return self._setup

    # -- requests --------------------------------------------------------------------------------

    async def _complete(self, request: LMRequest, deadline: float | None) -> LMResponse:
        self.set_context(self.context.child(self.ids))
        setup = self._present
        async with setup.lease as transport:
            model = request.model or setup.settings.default_model
            event_id = self._reports.began(request, model, capture_prompts=self._capture_prompts)
            ticket = _Ticket(request, setup, model, deadline, self.clock.monotonic(), event_id)
            self._tally.begin()
            try:
                response = await self._attempts(ticket, transport)
            except LMError as error:
                self._failed(ticket, error.code, error)
                raise
            except asyncio.CancelledError:
                self._failed(ticket, "cancelled", None)
                raise
            self._tally.succeed(response.usage)
            self._reports.succeeded(event_id, model, response, self.clock.monotonic() - ticket.began)
            self._announce_soon()
            return response

    async def _attempts(self, ticket: _Ticket, transport: Transport) -> LMResponse:
        """All tries of one request: what protects the provider stands here, around each of them."""
        try:
            response = await self._attempt(ticket, transport, number=1)
        except LMError as error:
            error.facts.update(provider=self._provider, model=ticket.model, attempts=tuple(ticket.attempts))
            raise
        return replace(response, provider=self._provider, attempts=tuple(ticket.attempts))

    async def _attempt(self, ticket: _Ticket, transport: Transport, number: int) -> LMResponse:
        """One try on the wire, recorded in the ticket whatever its end."""
        began = self.clock.monotonic()
        status: int | None = None
        request_id: str | None = None
        code: str | None = "cancelled"
        try:
            secrets = credentials.resolve(ticket.setup.settings)
            answer = await self._send(ticket, transport, secrets)
            status, request_id = answer.status, answer.request_id
            response = self._read(ticket, answer, secrets)
            code = None
        except LMError as error:
            code, status = error.code, error.facts.get("status", status)
            raise
        finally:
            ticket.attempts.append(Attempt(number, status, self.clock.monotonic() - began, request_id, code))
        return response

    async def _send(self, ticket: _Ticket, transport: Transport, secrets: Credentials) -> HttpResponse:
        setup = ticket.setup
        wire = setup.format.encode(ticket.request, setup.settings, secrets)
        limit, whose = setup.settings.timeout, "timeout"
        if ticket.deadline is not None and (left := ticket.deadline - self.system.now() - _MARGIN) < limit:
            limit, whose = max(left, 0.0), "deadline"
        try:
            return await transport.send(wire, timeout=limit)
        except LMTimeout as error:
            if error.facts.get("timeout") == limit:
                # Whose time was up decides whether it speaks against the provider.
                error.facts.update(failure=whose, retryable=FAILURES[whose].retryable)
            raise

    def _read(self, ticket: _Ticket, answer: HttpResponse, secrets: Credentials) -> LMResponse:
        if not 200 <= answer.status < 300:
            place = ticket.setup.settings.base_url
            raise error_from_response(answer, place=place, now=self.clock.time(), secrets=secrets.secrets)
        return ticket.setup.format.decode(answer, model=ticket.model or "", secrets=secrets.secrets)

    def _failed(self, ticket: _Ticket, code: str, error: Error | None) -> None:
        self._tally.fail(code, error)
        duration = self.clock.monotonic() - ticket.began
        self._reports.failed(ticket.event_id, ticket.model, code, error, len(ticket.attempts), duration)
        self._announce_soon()

    # -- the registry ----------------------------------------------------------------------------

    def _announce_soon(self) -> None:
        # Counters change with each request; the registry hears of them a few times a second at most.
        if not self._announcing:
            self._announcing = True
            self.start_timer(_ANNOUNCE_EVERY, _AnnounceDue())

    @info
    def announce_due(self, msg: _AnnounceDue) -> None:
        """Tell the registry."""
        self._announcing = False
        self._announce()

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
    from .http_transport import HttpTransport  # noqa: PLC0415 - its import costs as much as all the rest

    return HttpTransport(
        settings.base_url,
        max_connections=settings.max_connections,
        connect_timeout=settings.connect_timeout,
        write_timeout=settings.write_timeout,
    )


def _connection(settings: ProviderSettings) -> tuple[object, ...]:
    """What a transport is made of; all else is read with each request."""
    return settings.base_url, settings.max_connections, settings.connect_timeout, settings.write_timeout


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
    "Complete",
    "ProviderActor",
    "ProviderStatus",
    "ProviderStatusReport",
    "TransportFactory",
    "http_transport",
)
