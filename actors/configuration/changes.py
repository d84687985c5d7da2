"""One change of the running configuration: how it is applied, shown, journaled and read back. Pure.

The journal is the ``config_updated`` events. There a literal secret is a handle of the vault,
``{"$vault": handle}``; in what is shown otherwise it is a mask.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import timedelta
from decimal import Decimal
from typing import Any, Final, Literal, TypeAlias, cast

from pydantic import JsonValue

from ...runtime.errors import ConfigError
from ...runtime.secret import MASK, LostSecret, Secret, SecretRef, SecretVault
from .paths import Path, tree_of, with_value, without
from .problems import is_secret, validated
from .settings import Settings
from .types import is_table

Action: TypeAlias = Literal["updated", "removed", "reset"]

_HANDLE: Final = "$vault"


@dataclass(frozen=True, slots=True)
class Change:
    """What is to be done to the settings.

    Attributes:
        action: put a value, remove what is there, or go back to the configuration as loaded.
        path: where; empty for a reset.
        value: what to put, as a plain tree.
    """

    action: Action
    path: Path = ()
    value: Any = None


def applied(change: Change, settings: Settings, base: Settings) -> Settings:
    """Return the settings after a change; ``base`` is the configuration as loaded.

    Raises:
        ConfigError: the settings would not be valid; nothing has changed.
    """
    match change.action:
        case "updated":
            return validated(with_value(settings, change.path, change.value))
        case "removed":
            return validated(without(settings, change.path))
        case "reset":
            return base


def check_shapes(before: Settings, after: Settings) -> None:
    """Check that no module that is declared already would have other workers, or would run elsewhere.

    Raises:
        ConfigError: one would (``reason="update_forbidden"``): its tree of actors stands until it is stopped.
    """
    for id, new in after.modules.items():
        old = before.modules.get(id, new)
        for key in ("workers", "placement"):
            was, wanted, path = getattr(old, key), getattr(new, key), f"modules.{id}.{key}"
            if was != wanted:
                message = f"expected {key} as the module was started with, {was!r}, got {wanted!r}, at {path}"
                words = f"{message}; stop the module and start it anew, or put it in the configuration and start again"
                raise ConfigError(words, path=path, expected=was, got=wanted, reason="update_forbidden")


def public(value: object) -> JsonValue:
    """What may be shown of settings: plain values, secrets masked, references as they are."""
    return _json(tree_of(value), lambda _: MASK)


def journaled(value: object, vault: SecretVault, fresh: Callable[[], str]) -> JsonValue:
    """What is written of settings: as :func:`public`, but each literal secret is a handle of ``vault``.

    Args:
        value: settings, or a part of them.
        vault: keeps the literal secrets.
        fresh: makes handles that were never used.
    """

    def handle(secret: Secret | LostSecret) -> JsonValue:
        return {_HANDLE: secret.handle if isinstance(secret, LostSecret) else vault.put(secret, fresh())}

    return _json(tree_of(value), handle)


def restored(value: JsonValue, path: Path, vault: SecretVault) -> Any:
    """Read back what :func:`journaled` wrote for the settings at ``path``."""
    if isinstance(value, list):
        return [restored(entry, path, vault) for entry in value]
    if not isinstance(value, dict):
        return value
    handle = value.get(_HANDLE)
    if isinstance(handle, str) and is_secret(path):
        return vault.get(handle)
    return {name: restored(entry, (*path, name), vault) for name, entry in value.items()}


def secrets_in(value: object) -> Iterator[Secret]:
    """The literal secrets in settings, or a part of them."""
    if isinstance(value, Secret):
        yield value
    elif is_table(tree := tree_of(value)):
        for entry in tree.values():
            yield from secrets_in(entry)


def _json(value: object, secret: Callable[[Secret | LostSecret], JsonValue]) -> JsonValue:
    if isinstance(value, Secret | LostSecret):
        return secret(value)
    if isinstance(value, SecretRef):
        return {"system": value.system}
    if isinstance(value, timedelta):
        return value.total_seconds()
    if isinstance(value, Decimal):
        return str(value)  # exact, and read back as it is
    if is_table(value):
        return {name: _json(entry, secret) for name, entry in value.items()}
    if isinstance(value, list):
        return [_json(entry, secret) for entry in cast("list[object]", value)]
    assert value is None or isinstance(value, str | bool | int | float)
    return value
