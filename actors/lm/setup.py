"""What a request to a provider is made with, from its beginning to its end."""

from __future__ import annotations

from dataclasses import dataclass, field

from ..configuration.provider_settings import ProviderSettings
from ..configuration.settings import MonitoringSettings
from ..http.leased_transport import LeasedTransport
from ..wire_format import WireFormat


@dataclass(frozen=True, slots=True)
class House:
    """What surrounds the provider; nothing if it runs without the standard tree.

    Attributes:
        monitoring: what is measured and noted.
        capture_prompts: whether events hold prompts.
        capture_content: whether telemetry is given prompts and answers.
        cached: whether answers are looked up and kept in the cache.
        protected: whether protection and budgets stand beside it.
    """

    monitoring: MonitoringSettings = field(default_factory=MonitoringSettings)
    capture_prompts: bool = False
    capture_content: bool = False
    cached: bool = False
    protected: bool = False


@dataclass(frozen=True, slots=True)
class Setup:
    """What belongs together: a request ends with the settings and the connections it began with.

    Attributes:
        provider: the provider's id.
        settings: its settings.
        format: its protocol.
        lease: its connections.
        house: what surrounds it.
    """

    provider: str
    settings: ProviderSettings
    format: WireFormat
    lease: LeasedTransport
    house: House
