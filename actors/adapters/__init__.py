"""Implementations of the adapter port, by name."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from ...runtime.errors import ConfigError, did_you_mean
from ..adapter import Adapter
from .chat import ChatAdapter
from .json_adapter import JsonAdapter

ADAPTERS: Final[Mapping[str, Adapter]] = {adapter.name: adapter for adapter in (ChatAdapter(), JsonAdapter())}


def adapter_named(name: str) -> Adapter:
    """The adapter of that name.

    Raises:
        ConfigError: there is none.
    """
    if name not in ADAPTERS:
        known = ", ".join(ADAPTERS)
        raise ConfigError(
            f"expected one of the adapters {known}, got {name!r}{did_you_mean(str(name), ADAPTERS)}",
            path="adapter",
            expected=known,
            got=name,
        )
    return ADAPTERS[name]
