"""The provider protocols, found by a provider's ``kind``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from ...runtime.errors import ConfigError
from ..wire_format import WireFormat
from .openai_chat import OpenAIChat

WIRE_FORMATS: Final[Mapping[str, WireFormat]] = {"openai": OpenAIChat()}


def wire_format(kind: str) -> WireFormat:
    """The protocol of providers of this kind.

    Raises:
        ConfigError: there is none.
    """
    try:
        return WIRE_FORMATS[kind]
    except KeyError:
        known = ", ".join(WIRE_FORMATS)
        raise ConfigError(
            f"expected a provider kind with a wire format ({known}), got {kind!r}, at kind",
            path="kind",
            expected=known,
            got=kind,
        ) from None
