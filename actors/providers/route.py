"""The route actor, named ``provider/<id>`` as a provider is: several providers that stand in for one another.

A request goes to one target after the other until one answers, within the caller's deadline. A stream may go to the
next only before its first chunk: a provider answers ``OpenStream`` no sooner.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Final, TypeVar

from ...runtime.errors import CallError, ConfigError, Error, did_you_mean
from ...runtime.gen_server import Fail, NoReply, call
from ..configuration.follower import SettingsFollower
from ..configuration.provider_settings import RouteSettings, RouteTarget
from ..configuration.settings import Settings
from ..events.kinds import LmFallback, stamp
from ..events.outbox import EventOutbox
from ..lm.values import UNKNOWN_USAGE, Attempt, LMResponse
from ..registry.actor import announce
from ..registry.announcing import Announcing
from .messages import Ask, Complete, OpenStream, ProviderStatus, ProviderStatusReport, StreamOpened
from .route_choice import Latencies, check_circle, closed_for, falls_back, key_of, no_room, order
from .tally import Health, Tally

A = TypeVar("A", bound=Ask)

FALLBACK: Final = ("dspex", "lm", "fallback")
"""Telemetry: the next provider is asked. Measurements: ``count``; metadata: ``route``, ``provider`` (that failed),
``to_provider``, ``code``."""

_ONE: Final[Mapping[str, int]] = {"count": 1}


@dataclass(slots=True)
class _Journey:
    """One request on its way through the targets.

    Attributes:
        ask: what is asked.
        settings: the route's when it began.
        tried: ids of those that were asked, in order.
        codes: what each of them failed with.
        attempts: their tries on the wire.
        waits: targets that had no room, to be asked again with a wait.
    """

    ask: Complete | OpenStream
    settings: RouteSettings
    tried: list[str] = field(default_factory=list[str])
    codes: list[str] = field(default_factory=list[str])
    attempts: list[Attempt] = field(default_factory=list[Attempt])
    waits: list[RouteTarget] = field(default_factory=list[RouteTarget])


class RouteActor(SettingsFollower, Announcing):
    """One route.

    Args:
        route: its id; its settings are ``ai.routes.<id>``.
        settings: its settings, for use without a configuration actor.

    Raises:
        ConfigError: the route is not configured, or leads back to itself.
    """

    async def init(self, route: str, *, settings: RouteSettings | None = None) -> None:
        """Read the settings, and be told when they change."""
        self._route = route
        self._tally = Tally()
        self._latencies = Latencies()
        self._closed: dict[str, float] = {}
        self._outbox = EventOutbox(self.system)
        self._started = self.clock.monotonic()
        self._refusal: ConfigError | None = None
        if settings is not None:
            check_circle(route, {route: settings})
        else:
            # All routes: a change of another one may lead back here.
            settings = _own_settings(await self.follow_settings(("ai", "routes")), route)
        self._settings = settings
        self._announce()

    # -- what it is asked ------------------------------------------------------------------------

    @call
    def ask(self, msg: Complete | OpenStream) -> NoReply | Fail:
        """Serve a request in a task of its own."""
        if self._refusal is not None:
            return Fail(ConfigError(self._refusal.message, **self._refusal.facts))
        return self.serve(self._serve(_Journey(msg, self._settings)))

    @call
    def status(self, msg: ProviderStatus) -> ProviderStatusReport:
        """How it is: as a provider, of the kind ``route``."""
        return ProviderStatusReport(
            provider=self._route,
            kind="route",
            base_url="",
            default_model=None,
            uptime=self.clock.monotonic() - self._started,
            **asdict(replace(self._tally, health=self._health)),
        )

    # -- requests --------------------------------------------------------------------------------

    async def _serve(self, journey: _Journey) -> LMResponse | StreamOpened:
        self._tally.begin()
        error: Error | None = None
        answered = False
        try:
            answer = await self._travel(journey)
            answered = True
        except Error as failure:
            error = failure
            facts = {"route": self._route, "tried": tuple(journey.tried), "codes": tuple(journey.codes)}
            error.facts.update(facts, attempts=tuple(journey.attempts))
            raise
        finally:
            if not answered:  # also if the caller gave up
                self._failed(error)
            self._announce_soon()
        if isinstance(answer, LMResponse):
            self._tally.succeed(answer.usage)
            return replace(answer, attempts=(*journey.attempts, *answer.attempts))
        self._tally.succeed(UNKNOWN_USAGE)
        return answer

    async def _travel(self, journey: _Journey) -> LMResponse | StreamOpened:
        """Ask one target after the other; then, if that was for want of room only, wait for it at the first of them."""
        stream = isinstance(journey.ask, OpenStream)
        now = self.clock.monotonic()
        route = order(
            journey.settings,
            stream=stream,
            rng=self.random,
            latencies=self._latencies,
            closed=self._closed,
            now=now,
        )
        # While there is another way nobody waits: not for room, nor for a provider that restarts.
        hurried = replace(journey.ask, on_limit="fail") if "rate_limit" in journey.settings.fallback_on else journey.ask
        patient = len(route) == 1
        while True:
            target = route.pop(0)
            try:
                ask = journey.ask if patient else hurried
                return await self._go(journey, ask, target, fail_fast=bool(route))
            except Error as error:
                self._note(journey, target, error)
                if not route and not patient:
                    # The first that had no room is asked once more, unless the caller does not wait.
                    patient = True
                    route = [] if journey.ask.on_limit == "fail" else journey.waits[:1]
                if not route or not falls_back(error, journey.settings):
                    raise
                self._report(target, route[0], error)

    async def _go(
        self, journey: _Journey, ask: Complete | OpenStream, target: RouteTarget, *, fail_fast: bool
    ) -> LMResponse | StreamOpened:
        """Ask one target; its time counts, whatever the end."""
        journey.tried.append(target.provider)
        key, began = key_of(target, stream=isinstance(ask, OpenStream)), self.clock.monotonic()
        taken, failed = None, False
        self._latencies.begin(key)
        try:
            name = f"provider/{target.provider}"
            answer: LMResponse | StreamOpened = await self.call(
                name, _for_target(ask, target), timeout=None, fail_fast=fail_fast
            )
            if not (isinstance(answer, LMResponse) and answer.cache_hit):
                taken = self.clock.monotonic() - began
        except Error as error:
            failed = falls_back(error, journey.settings)
            taken = self.clock.monotonic() - began if failed else None
            raise
        finally:
            self._latencies.end(key, taken, self.clock.monotonic(), failed=failed)
        return answer

    def _note(self, journey: _Journey, target: RouteTarget, error: Error) -> None:
        """What is to be remembered of a failure."""
        journey.codes.append(error.code)
        journey.attempts.extend(error.facts.get("attempts", ()))
        if no_room(error):
            journey.waits.append(target)
        seconds = closed_for(error)
        if seconds is not None:
            self._closed[target.provider] = self.clock.monotonic() + seconds

    def _report(self, failed: RouteTarget, following: RouteTarget, error: Error) -> None:
        came, goes, code = failed.provider, following.provider, error.code
        event = stamp(self, LmFallback, route=self._route, from_provider=came, to_provider=goes, code=code)
        self._outbox.emit(event)
        metadata = {"route": self._route, "provider": came, "to_provider": goes, "code": code}
        self.system.telemetry.execute(FALLBACK, _ONE, metadata)

    def _failed(self, error: Error | None) -> None:
        self._tally.fail("cancelled" if error is None else error.code, error)
        if isinstance(error, CallError):
            self._tally.health = "failing"  # nobody was there; that is no mistake in the settings

    # -- settings --------------------------------------------------------------------------------

    async def use_settings(self, settings: Settings) -> None:
        """Go on with the new settings; requests on their way end as they began."""
        try:
            self._settings, self._refusal = _own_settings(settings, self._route), None
        except ConfigError as error:
            # New requests are told what is wrong until it is put right.
            self._refusal, self._tally.last_error = error, str(error)
        self._announce()

    # -- the registry ----------------------------------------------------------------------------

    @property
    def _health(self) -> Health:
        return self._tally.health if self._refusal is None else "misconfigured"

    def _announce(self) -> None:
        metadata = {
            "type": "route",
            "strategy": self._settings.strategy,
            "targets": [target.provider for target in self._settings.targets],
            "status": self._health,
            **self._tally.counters(),
        }
        announce(self, metadata)


def _for_target(ask: A, target: RouteTarget) -> A:
    """What is asked of one target: its own model, if it has one."""
    return ask if target.model is None else replace(ask, request=replace(ask.request, model=target.model))


def _own_settings(settings: Settings, route: str) -> RouteSettings:
    routes = settings.ai.routes
    found = routes.get(route)
    if found is None:
        path = f"ai.routes.{route}"
        raise ConfigError(
            f"expected a configured route ({', '.join(routes) or 'there is none'}), got {route!r}, at {path}"
            f"{did_you_mean(route, routes)}",
            path=path,
            expected="a configured route",
            got=route,
        )
    check_circle(route, routes)
    return found


__all__ = ("FALLBACK", "Complete", "OpenStream", "ProviderStatus", "RouteActor")
