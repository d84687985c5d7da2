"""What the configuration actor is asked and told, and what it tells its subscribers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal

from thespian.actors import ActorAddress

from .changes import Action
from .paths import Path, PathLike
from .provider_settings import ProviderSettings, RouteSettings
from .settings import ModuleSettings

NAME: Final = "core/config"
"""The name under which everybody finds the configuration."""
START_PATIENCE: Final = 1.0
"""Seconds that an actor waits for configuration while it starts. Its supervisors serve nobody meanwhile, not even the
one above that stops them before it can start configuration again (OTP SUP-78): so not long."""


@dataclass(frozen=True, slots=True)
class GetSettings:
    """Answers the whole configuration, :class:`~.configuration.settings.Settings`."""


@dataclass(frozen=True, slots=True)
class GetSetting:
    """Answers what stands at ``path``: a value, a table or a model; the empty path is the whole.

    None is a value. Fails with ConfigError (``reason="path_not_found"``) if no setting is there.
    """

    path: PathLike = ()


@dataclass(frozen=True, slots=True)
class UpdateSetting:
    """Replaces what stands at ``path`` and answers the new value, once it is journaled.

    Fails with ConfigError: the path or value is refused, the setting cannot be changed while the application
    runs (``reason="update_forbidden"``), or the whole would not be valid.
    """

    path: PathLike
    value: Any


@dataclass(frozen=True, slots=True)
class ResetSettings:
    """Goes back to the configuration as it was loaded, and answers it."""


@dataclass(frozen=True, slots=True)
class DeclareProvider:
    """Declares a provider, or replaces its settings; answers :class:`~.provider_settings.ProviderSettings`."""

    name: str
    settings: Mapping[str, Any] | ProviderSettings


@dataclass(frozen=True, slots=True)
class AmendProvider:
    """Changes some settings of a configured provider, others stay; answers the new ``ProviderSettings``."""

    name: str
    settings: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class DeclareRoute:
    """Declares a route across providers, or replaces its settings; answers ``RouteSettings``."""

    name: str
    settings: Mapping[str, Any] | RouteSettings


@dataclass(frozen=True, slots=True)
class UndeclareRoute:
    """Forgets a route. Fails with ConfigError (``reason="path_not_found"``) if there is none."""

    name: str


@dataclass(frozen=True, slots=True)
class DeclareModule:
    """Declares a module, or replaces its settings; answers :class:`~.configuration.settings.ModuleSettings`.

    Fails with SignatureError if the signature is malformed, with ConfigError if anything else is.
    """

    id: str
    settings: Mapping[str, Any] | ModuleSettings


@dataclass(frozen=True, slots=True)
class UndeclareProvider:
    """Forgets a provider. Fails with ConfigError (``reason="path_not_found"``) if there is none."""

    name: str


@dataclass(frozen=True, slots=True)
class UndeclareModule:
    """Forgets a module. Fails with ConfigError (``reason="path_not_found"``) if there is none."""

    id: str


@dataclass(frozen=True, slots=True)
class GetModuleSettings:
    """Answers one module's settings with the defaults of ``dspex.modules`` filled in."""

    id: str


@dataclass(frozen=True, slots=True)
class ValidateSettings:
    """Answers what is wrong with a configuration (:class:`~.configuration.problems.Problem`), changing nothing."""

    settings: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class SubscribeSettings:
    """Has ``address`` told by :class:`ConfigChanged` of every change at, above or below ``path``.

    Subscribing twice is once; several paths add up. A subscriber that ends is dropped.
    """

    address: ActorAddress
    path: PathLike = ()


@dataclass(frozen=True, slots=True)
class UnsubscribeSettings:
    """Ends all subscriptions of ``address``; answers whether there were any."""

    address: ActorAddress


@dataclass(frozen=True, slots=True)
class ConfigChanged:
    """Sent to subscribers after a change; read the settings themselves with :class:`GetSetting`.

    Attributes:
        path: where; empty for a reset.
        value: what was put, as plain values, secrets masked; None after a removal or a reset.
        action: ``updated``, ``removed`` or ``reset``; a reset is also told of when the actor was restarted and has
            read its journal back, as its crash may have overtaken the news of a change.
    """

    path: Path
    value: Any
    action: Action


@dataclass(frozen=True, slots=True)
class ConfigStatus:
    """Answers a :class:`ConfigStatusReport`."""


@dataclass(frozen=True, slots=True)
class ConfigStatusReport:
    """How the configuration actor is.

    Attributes:
        uptime: seconds since it was started.
        updates: changes made since then, resets included.
        resets: how many of them were resets.
        last_update: wall time of the last one (seconds), or None.
        subscribers: actors that are told of changes.
        restored: changes read back from the journal at the start.
        skipped: changes in the journal that no longer fit, as text.
        journal: whether changes are journaled: ``none`` where there is no event store, ``unknown`` before the first.
    """

    uptime: float
    updates: int
    resets: int
    last_update: float | None
    subscribers: int
    restored: int
    skipped: tuple[str, ...]
    journal: Literal["unknown", "events", "none"]
