"""Who can reach the gateway: only this machine, unless a token is configured."""

from __future__ import annotations

import importlib.util
import ipaddress
from typing import Final

from ...actors.configuration.settings import GatewaySettings
from ...runtime.errors import ConfigError

_NEEDED: Final = ("starlette", "uvicorn")


def check_gateway(settings: GatewaySettings) -> None:
    """Refuse a gateway that everybody could use, or that cannot run here.

    Raises:
        ConfigError: it would listen beyond this machine without a token, or the token is not where it should be; or
            what the gateway needs is not installed.
    """
    if settings.token is not None:
        settings.token.resolve()
    if settings.token is None and not is_loopback(settings.host):
        raise ConfigError(
            f"expected a token for a gateway that others than this machine can reach, got none, at gateway.token; "
            f"set one, or listen at 127.0.0.1 (gateway.host is {settings.host!r})",
            path="gateway.token",
            expected="a token",
            got=None,
        )
    missing = [name for name in _NEEDED if importlib.util.find_spec(name) is None]
    if missing:
        raise ConfigError(
            f"expected {' and '.join(_NEEDED)} for the gateway, got no {' and no '.join(missing)}, at gateway.enabled; "
            "install dspex[gateway]",
            path="gateway.enabled",
            expected="dspex[gateway]",
            got=missing,
        )


def is_loopback(host: str) -> bool:
    """Whether an address can be reached from this machine only; of names only ``localhost`` is known to be."""
    if host.lower().rstrip(".") == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def is_local_name(header: str) -> bool:
    """Whether a Host header names this machine.

    A page in a browser can have its own name resolve to 127.0.0.1, and then send requests there (DNS rebinding); its
    name still stands in the header.
    """
    name = header.strip()
    if name.startswith("["):
        return is_loopback(name[1:].partition("]")[0])
    return is_loopback(name.partition(":")[0])
