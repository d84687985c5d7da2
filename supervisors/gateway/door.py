"""Where the gateway listens, from its first actor to its last."""

from __future__ import annotations

from dataclasses import dataclass

from ...actors.configuration.settings import GatewaySettings


@dataclass(slots=True)
class Door:
    """The port of a gateway; it outlives the actor, so that clients find the next one where the last one was.

    Attributes:
        port: what the system gave for port 0; 0 until then.
    """

    port: int = 0

    def at(self, settings: GatewaySettings) -> GatewaySettings:
        """The settings, with the port that was given before in the place of 0."""
        return settings.model_copy(update={"port": settings.port or self.port})
