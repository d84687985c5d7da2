"""The provider protocols, found by a provider's ``kind``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from ...runtime.errors import ConfigError
from ..wire_format import WireFormat
from .anthropic import AnthropicMessages
from .gemini import GeminiGenerate
from .openai_chat import OpenAIChat
from .openai_responses import OpenAIResponses

WIRE_FORMATS: Final[Mapping[str, WireFormat]] = {
    "openai": OpenAIChat(),
    "openai_responses": OpenAIResponses(),
    "anthropic": AnthropicMessages(),
    "gemini": GeminiGenerate(),
}


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
