"""The configuration actor, ``core/config``: who reads settings asks it, who changes them tells it.

A change is checked (path, value, may it be changed now, the whole), journaled, and only then takes effect and is
acknowledged; one that fails at any step changes nothing. Changes come one after another, a bounded number of them
waiting; reading never waits for one. At its start the actor reads its own journal back, so that a restart loses
nothing. Without an event store it works too, and remembers as long as it lives.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field, replace
from typing import Any, Final, Literal, TypeAlias

from thespian.actors import ActorAddress

from ...runtime.calls import Call
from ...runtime.errors import ActorDied, ConfigError, EventInvalid, NoProcess, Overloaded, SignatureError
from ...runtime.gen_server import Fail, GenServer, NoReply, call, info
from ...runtime.messages import Down, Reply
from ...runtime.secret import SecretVault
from ..events.kinds import ConfigUpdated, stamp
from ..events.query import EventQuery
from ..events.store import NAME as EVENTS
from ..events.store import AppendAcked, Query
from ..signatures.signature import Signature
from .changes import Change, applied, check_shapes, journaled, public, restored, secrets_in
from .messages import (
    AmendProvider,
    ConfigChanged,
    ConfigStatus,
    ConfigStatusReport,
    DeclareModule,
    DeclareProvider,
    DeclareRoute,
    GetModuleSettings,
    GetSetting,
    GetSettings,
    ResetSettings,
    SubscribeSettings,
    UndeclareModule,
    UndeclareProvider,
    UndeclareRoute,
    UnsubscribeSettings,
    UpdateSetting,
    ValidateSettings,
)
from .paths import LIMITS, Limits, Path, dotted, find_at, parse_path, plain, read_at, tree_of
from .problems import Problem, validated
from .schema import LIVE, is_fixed, is_live
from .settings import ModuleSettings, Settings
from .types import is_table

_JOURNAL_VERSION: Final = 2
"""Version of ``config_updated`` that says ``action`` and ``vault``, which is what is needed to read it back."""

_PAGE: Final = 1000
_APPEND_ATTEMPTS: Final = 3
MAX_WAITING: Final = 1000
"""Changes that may wait for the journal; more are refused."""


@dataclass(slots=True)
class Subscriptions:
    """Who wants to know of which paths. Handed to the actor from outside, it outlives the actor's crash."""

    paths: dict[ActorAddress, tuple[Path, ...]] = field(default_factory=dict[ActorAddress, tuple[Path, ...]])


@dataclass(frozen=True, slots=True)
class _Next:
    """To itself: take the next change."""


@dataclass(slots=True, eq=False)
class _Pending:
    """A change on its way through the journal."""

    caller: Call
    change: Change
    settings: Settings
    event: ConfigUpdated
    attempts: int = 1


_ChangeMessage: TypeAlias = (
    UpdateSetting
    | ResetSettings
    | DeclareProvider
    | AmendProvider
    | DeclareRoute
    | DeclareModule
    | UndeclareProvider
    | UndeclareRoute
    | UndeclareModule
)


class ConfigurationActor(GenServer):
    """The actor ``core/config``.

    Args:
        settings: the configuration as loaded; defaults if not given.
        vault: keeps literal secrets given at run time, and says whose changes come back at a start.
        subscriptions: survive a crash of the actor if handed in.
        limits: how large a path or value may be.
    """

    async def init(
        self,
        settings: Settings | None = None,
        vault: SecretVault | None = None,
        subscriptions: Subscriptions | None = None,
        limits: Limits = LIMITS,
    ) -> None:
        """Read the journal back and watch the subscribers of an earlier incarnation."""
        self._base = self._settings = settings or Settings()
        self._vault = SecretVault() if vault is None else vault
        self._subscriptions = Subscriptions() if subscriptions is None else subscriptions
        self._limits = limits
        self._waiting: deque[tuple[Call, _ChangeMessage]] = deque()
        self._pending: _Pending | None = None
        self._started = self.clock.monotonic()
        self._updates = self._resets = self._restored = 0
        self._last_update: float | None = None
        self._skipped: list[str] = []
        self._journal: Literal["unknown", "events", "none"] = "unknown"
        self._monitors = {self.monitor(address): address for address in self._subscriptions.paths}
        if self._vault.in_use:
            await self._restore()
            # The crash may have come between the journal and those who are told of a change.
            self._notify(Change("reset"))

    # -- reading ---------------------------------------------------------------------------------

    @call
    def get_settings(self, msg: GetSettings) -> Settings:
        """The whole."""
        return self._settings

    @call
    def get_setting(self, msg: GetSetting) -> Any:
        """What stands at a path."""
        try:
            return read_at(self._settings, parse_path(msg.path, self._limits))
        except ConfigError as error:
            return Fail(error)

    @call
    def get_module_settings(self, msg: GetModuleSettings) -> ModuleSettings | Fail:
        """A module's settings, defaults filled in."""
        try:
            read_at(self._settings, parse_path(("modules", msg.id), self._limits))
        except ConfigError as error:
            return Fail(error)
        return self._settings.module(msg.id)

    @call
    def validate(self, msg: ValidateSettings) -> tuple[Problem, ...]:
        """What is wrong with a configuration."""
        try:
            validated(plain(msg.settings, limits=self._limits))
        except ConfigError as error:
            facts = error.facts
            return facts.get("problems") or (Problem(facts["path"], facts["expected"], facts["got"]),)
        return ()

    @call
    def status(self, msg: ConfigStatus) -> ConfigStatusReport:
        """How it is."""
        return ConfigStatusReport(
            uptime=self.clock.monotonic() - self._started,
            updates=self._updates,
            resets=self._resets,
            last_update=self._last_update,
            subscribers=len(self._subscriptions.paths),
            restored=self._restored,
            skipped=tuple(self._skipped),
            journal=self._journal,
        )

    # -- changing --------------------------------------------------------------------------------

    @call
    def change(self, msg: _ChangeMessage) -> NoReply | Fail:
        """Queue a change; it is answered when it is journaled."""
        if len(self._waiting) >= MAX_WAITING:
            label = self.name or "the configuration"
            return Fail(
                Overloaded(
                    f"expected at most {MAX_WAITING} changes waiting for the journal, got one more, at {label}",
                    target=label,
                    limit=MAX_WAITING,
                )
            )
        self._waiting.append((self.caller, msg))
        if self._pending is None and len(self._waiting) == 1:
            # From a message of its own the append has no caller's deadline: what was journaled is always applied.
            self.start_timer(0.0, _Next())
        return NoReply()

    @info
    def take_next(self, msg: _Next) -> None:
        """Check the next change and send it to the journal."""
        while self._waiting and self._pending is None:
            caller, message = self._waiting.popleft()
            if caller.settled:
                continue  # the caller gave up before its turn
            if caller.context is not None:
                self.set_context(caller.context)
            try:
                self._pending = self._planned(caller, message)
            except (ConfigError, SignatureError, EventInvalid) as error:
                self.fail(caller, error)
                continue
            self._append(self._pending)

    @info
    def journal_answered(self, msg: Reply) -> None:
        """Make the change take effect, or refuse it, as the journal says."""
        pending = self._pending
        assert pending is not None
        assert msg.tag is pending
        # The append may have reached the store that died; events are idempotent, so it is safe to ask again.
        if isinstance(msg.error, ActorDied) and pending.attempts < _APPEND_ATTEMPTS:
            pending.attempts += 1
            self._append(pending)
            return
        self._pending = None
        absent = isinstance(msg.error, NoProcess) and msg.error.facts.get("reason") is None
        if msg.error is None or absent:
            self._journal = "none" if absent else "events"
            self._commit(pending)
        else:
            self._forget_unused(pending.settings)
            self.fail(pending.caller, msg.error)
        self.take_next(_Next())

    def _append(self, pending: _Pending) -> None:
        self._vault.in_use = True
        self.request(EVENTS, AppendAcked((pending.event,)), timeout=None, tag=pending)

    def _planned(self, caller: Call, message: _ChangeMessage) -> _Pending:
        asked = self._asked(message)
        settings = applied(asked, self._settings, self._base)
        if asked.action == "updated":
            check_shapes(self._settings, settings)
        if isinstance(message, DeclareRoute):
            _check_route(message.name, settings)
        # Journaled as validated: durations in seconds, secrets as secrets.
        value = read_at(settings, asked.path) if asked.action == "updated" else None
        change = Change(asked.action, asked.path, value)
        event = stamp(
            self,
            ConfigUpdated,
            version=_JOURNAL_VERSION,
            path=change.path,
            value=journaled(value, self._vault, self.ids.sortable),
            previous=public(find_at(self._settings, change.path) if change.path else None),
            action=change.action,
            vault=self._vault.id,
        )
        return _Pending(caller, change, settings, event)

    def _asked(self, message: _ChangeMessage) -> Change:
        match message:
            case ResetSettings():
                return Change("reset")
            case UpdateSetting(path, value):
                return self._put(parse_path(path, self._limits), value)
            case DeclareProvider(name, settings):
                return self._put(parse_path(("ai", "providers", name), self._limits), settings)
            case AmendProvider(name, settings):
                # At its turn: of two at the same time neither is lost.
                path = parse_path(("ai", "providers", name), self._limits)
                return self._put(path, tree_of(read_at(self._settings, path)) | settings)
            case DeclareRoute(name, settings):
                return self._put(parse_path(("ai", "routes", name), self._limits), settings)
            case UndeclareRoute(name):
                return self._remove(parse_path(("ai", "routes", name), self._limits))
            case DeclareModule(module_id, settings):
                _check_signature(settings)
                return self._put(parse_path(("modules", module_id), self._limits), settings)
            case UndeclareProvider(name):
                return self._remove(parse_path(("ai", "providers", name), self._limits))
            case UndeclareModule(module_id):
                return self._remove(parse_path(("modules", module_id), self._limits))

    def _put(self, path: Path, value: object) -> Change:
        tree = plain(value, path, self._limits)
        if not is_live(path) and not is_fixed(path):
            read_at(self._settings, path)  # a misspelt path deserves a hint, not a prohibition
            patterns = ", ".join(map(dotted, LIVE))
            raise ConfigError(
                f"expected a setting that may change while the application runs ({patterns}), got {dotted(path)}; "
                "put it in the configuration and start again",
                path=dotted(path),
                expected="a live setting",
                got=dotted(path),
                reason="update_forbidden",
            )
        return Change("updated", path, tree)

    def _remove(self, path: Path) -> Change:
        read_at(self._settings, path)
        return Change("removed", path)

    def _commit(self, pending: _Pending) -> None:
        change, before = pending.change, self._settings
        self._settings = pending.settings
        self._updates += 1
        self._resets += change.action == "reset"
        self._last_update = self.clock.time()
        self._forget_unused(before)
        self._notify(change)
        metadata = {"path": ".".join(change.path), "action": change.action}
        self.system.telemetry.execute(("dspex", "config", "updated"), {"count": 1}, metadata)
        removed = change.action == "removed"
        self.reply(pending.caller, None if removed else read_at(self._settings, change.path))

    def _forget_unused(self, dropped: Settings) -> None:
        """Drop from the vault what only ``dropped`` still names."""
        if not self._vault.count:
            return
        used = set(secrets_in(self._settings))
        for secret in secrets_in(dropped):
            if secret not in used:
                self._vault.forget(secret)

    # -- subscribers -----------------------------------------------------------------------------

    @call
    def subscribe(self, msg: SubscribeSettings) -> Fail | None:
        """Add a subscription."""
        try:
            path = parse_path(msg.path, self._limits)
        except ConfigError as error:
            return Fail(error)
        known = self._subscriptions.paths.get(msg.address)
        if known is None:
            self._monitors[self.monitor(msg.address)] = msg.address
        if path not in (known or ()):
            self._subscriptions.paths[msg.address] = (*(known or ()), path)
        return None

    @call
    def unsubscribe(self, msg: UnsubscribeSettings) -> bool:
        """End an actor's subscriptions."""
        for ref, address in list(self._monitors.items()):
            if address == msg.address:
                self.demonitor(ref)
                del self._monitors[ref]
        return self._subscriptions.paths.pop(msg.address, None) is not None

    @info
    def subscriber_down(self, msg: Down) -> None:
        """Forget a subscriber that ended."""
        address = self._monitors.pop(msg.ref, None)
        if address is not None:
            self._subscriptions.paths.pop(address, None)

    def _notify(self, change: Change) -> None:
        told = ConfigChanged(change.path, public(change.value), change.action)
        for address, paths in self._subscriptions.paths.items():
            if any(_touches(path, change.path) for path in paths):
                self.send(address, told)

    # -- the journal -----------------------------------------------------------------------------

    async def _restore(self) -> None:
        wanted = EventQuery.of(type="config_updated", where={"vault": self._vault.id}, order="oldest", limit=_PAGE)
        while True:
            try:
                page = await self.call(EVENTS, Query(wanted), timeout=None)
            except NoProcess:
                self._journal = "none"
                return
            for event in page.events:
                self._redo(event)
            if not page.more:
                return
            wanted = replace(wanted, cursor=page.cursor)

    def _redo(self, event: Any) -> None:
        try:
            change = Change(event.action, event.path, restored(event.value, event.path, self._vault))
            self._settings = applied(change, self._settings, self._base)
            self._restored += 1
        except ConfigError as error:
            # Written by another release: starting without it beats not starting; status and telemetry tell.
            self._skipped.append(str(error))
            metadata = {"path": ".".join(event.path), "reason": str(error)}
            self.system.telemetry.execute(("dspex", "config", "skipped"), {"count": 1}, metadata)


def _check_signature(settings: object) -> None:
    # Who declares a module by its signature wants the signature's own error, with text and position.
    if is_table(settings) and isinstance(text := settings.get("signature"), str):
        Signature(text)


def _check_route(name: str, settings: Settings) -> None:
    # Other changes may make a circle for a while: a route in one tells those who ask it.
    from ..providers.route_choice import check_circle  # noqa: PLC0415 - with the failure table, only where it is used

    check_circle(name, settings.ai.routes)


def _touches(wanted: Path, changed: Path) -> bool:
    shorter = min(len(wanted), len(changed))
    return wanted[:shorter] == changed[:shorter]


__all__ = (
    "MAX_WAITING",
    "AmendProvider",
    "ConfigChanged",
    "ConfigStatus",
    "ConfigStatusReport",
    "ConfigurationActor",
    "DeclareModule",
    "DeclareProvider",
    "DeclareRoute",
    "GetModuleSettings",
    "GetSetting",
    "GetSettings",
    "ResetSettings",
    "SubscribeSettings",
    "Subscriptions",
    "UndeclareModule",
    "UndeclareProvider",
    "UndeclareRoute",
    "UnsubscribeSettings",
    "UpdateSetting",
    "ValidateSettings",
)
