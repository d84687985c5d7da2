"""Secrets: a reference resolved at use, a value that never shows, and where values outlive an actor.

A :class:`SecretRef` names an environment variable and holds nothing; it may travel anywhere. A :class:`Secret`
holds the value itself: no repr, text, format, JSON or pickle of it shows the value, and it refuses to leave
the process. Read either with ``resolve()`` where the key is needed, and keep the answer in a local variable.
"""

from __future__ import annotations

import hmac
import os
import threading
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, NoReturn, TypeAlias

from .errors import ConfigError, UsageError

MASK: Final = "**********"
"""What every secret looks like from outside."""


@dataclass(frozen=True, slots=True)
class SecretRef:
    """A secret that lives in an environment variable, read each time it is used.

    Attributes:
        system: the variable's name.
    """

    system: str

    def resolve(self, environ: Mapping[str, str] | None = None) -> str:
        """Return the value, without surrounding white space.

        Args:
            environ: where to look; the process's environment by default.

        Raises:
            ConfigError: the variable is unset or empty (facts: path, expected, got).
        """
        value = (os.environ if environ is None else environ).get(self.system, "").strip()
        if not value:
            raise ConfigError(
                f"expected environment variable {self.system} to hold a secret, got nothing",
                path=self.system,
                expected="a secret",
                got="nothing",
            )
        return value


class Secret:
    """A secret value. It compares and copies like a value, and shows nothing.

    Args:
        value: the secret; surrounding white space is dropped (a key read from a file ends with a newline).

    Raises:
        ConfigError: the value is empty.
    """

    __slots__ = ("_value",)

    def __init__(self, value: str) -> None:
        self._value = value.strip()
        if not self._value:
            raise ConfigError("expected a secret, got an empty text", expected="a secret", got="an empty text")

    def resolve(self, environ: Mapping[str, str] | None = None) -> str:
        """Return the value (``environ`` is there so that both kinds read the same)."""
        del environ
        return self._value

    def __repr__(self) -> str:
        return f"Secret('{MASK}')"

    def __str__(self) -> str:
        return MASK

    def __format__(self, format_spec: str) -> str:
        return format(MASK, format_spec)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Secret):
            return NotImplemented
        # Any text can be compared: an encoding error would carry the value.
        mine, theirs = (text.encode("utf-8", "surrogatepass") for text in (self._value, other._value))
        return hmac.compare_digest(mine, theirs)

    def __hash__(self) -> int:
        return hash((Secret, self._value))

    def __copy__(self) -> Secret:
        return self

    def __deepcopy__(self, memo: dict[int, Any]) -> Secret:
        return self

    def __reduce_ex__(self, protocol: object) -> NoReturn:
        raise UsageError(
            "expected a secret that may leave the process, got a literal one, at pickling; "
            'name an environment variable instead: {system = "NAME"}'
        )

    def __getstate__(self) -> NoReturn:
        self.__reduce_ex__(None)


@dataclass(frozen=True, slots=True)
class LostSecret:
    """Stands where a literal secret was given in an earlier process and, as promised, never written down.

    Attributes:
        handle: the vault handle that nobody knows any more.
    """

    handle: str

    def resolve(self, environ: Mapping[str, str] | None = None) -> str:
        """Never answers.

        Raises:
            ConfigError: always; the secret must be given again.
        """
        del environ
        raise ConfigError(
            "expected a secret, got the trace of one given to an earlier process, which is never written down; "
            'give it again, or name an environment variable: {system = "NAME"}',
            expected="a secret",
            got="a lost secret",
        )


SecretValue: TypeAlias = Secret | SecretRef | LostSecret
"""What a setting that holds a secret may be; each has ``resolve()``."""


class SecretVault:
    """Keeps literal secrets in memory, beside the actors, so that a restarted actor finds them again.

    One vault lives as long as its application. Nothing of it is ever written. Safe to use from several threads.

    Args:
        id: what the journal calls this vault; changes of settings come back only where the same id is given
            again. A fresh one by default: each application then starts from its configuration alone.

    Attributes:
        in_use: whether a journal may hold changes under this id; a fresh vault's owner need not look for any.
    """

    __slots__ = ("_handles", "_lock", "_secrets", "id", "in_use")

    def __init__(self, id: str | None = None) -> None:
        self.id = id or uuid.uuid4().hex
        self.in_use = id is not None
        self._lock = threading.Lock()
        self._secrets: dict[str, Secret] = {}
        self._handles: dict[Secret, str] = {}

    def put(self, secret: Secret, handle: str) -> str:
        """Keep a secret.

        Args:
            secret: what to keep.
            handle: the handle to keep it under, never used before.

        Returns:
            The handle it is kept under: the old one if it was here before.
        """
        with self._lock:
            kept = self._handles.setdefault(secret, handle)
            self._secrets[kept] = secret
            return kept

    def get(self, handle: str) -> Secret | LostSecret:
        """Return the secret of ``handle``, or a :class:`LostSecret`."""
        with self._lock:
            return self._secrets.get(handle) or LostSecret(handle)

    def forget(self, secret: Secret) -> None:
        """Drop a secret, if it is here."""
        with self._lock:
            handle = self._handles.pop(secret, None)
            if handle is not None:
                del self._secrets[handle]

    @property
    def count(self) -> int:
        """How many secrets it keeps."""
        with self._lock:
            return len(self._secrets)

    def __repr__(self) -> str:
        return f"SecretVault({self.count} secrets)"

    def __reduce_ex__(self, protocol: object) -> NoReturn:
        raise UsageError("expected a value that may leave the process, got a SecretVault, at pickling")
