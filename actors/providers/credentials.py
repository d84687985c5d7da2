"""A provider's secrets in clear, for the moment of one request."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from ...runtime.errors import ConfigError, LMError
from ...runtime.secret import SecretValue
from ..configuration.provider_settings import BASE_URLS, ProviderSettings
from ..lm.failures import lm_error


@dataclass(frozen=True, slots=True)
class Credentials:
    """Secrets in clear. Never stored, never sent in a message.

    Attributes:
        key: the API key, or None for servers that want none.
        headers: the provider's extra headers.
    """

    key: str | None = field(default=None, repr=False)
    headers: Mapping[str, str] = field(default_factory=dict[str, str], repr=False, hash=False)

    @property
    def secrets(self) -> tuple[str, ...]:
        """Everything that must not show in what a server says."""
        return (*([self.key] if self.key else ()), *self.headers.values())


def resolve(settings: ProviderSettings) -> Credentials:
    """Read the secrets that the settings name.

    Raises:
        LMAuthError: one is missing, or cannot be sent; nothing of it shows.
    """
    if settings.api_key is None and settings.base_url == BASE_URLS[settings.kind]:
        raise _missing("api_key", "expected an API key, got none")
    key = None if settings.api_key is None else _read("api_key", settings.api_key)
    return Credentials(key, {name: _read(f"headers.{name}", value) for name, value in settings.headers.items()})


def _read(where: str, secret: SecretValue) -> str:
    error: LMError
    try:
        value = secret.resolve()
    except ConfigError as unset:
        error = _missing(where, str(unset))
    else:
        # An HTTP header holds nothing else, and the libraries' own errors would quote the value.
        if value.isascii() and value.isprintable():
            return value
        error = _missing(where, "expected a secret of printable ASCII characters, got others")
    raise error


def _missing(where: str, said: str) -> LMError:
    return lm_error("auth", f"{said}, at {where}", path=where)
