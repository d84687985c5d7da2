"""What OpenAI's protocols have in common: headers."""

from __future__ import annotations

from ..configuration.provider_settings import ProviderSettings
from ..providers.credentials import Credentials


def openai_headers(settings: ProviderSettings, credentials: Credentials, *, stream: bool) -> dict[str, str]:
    """The headers of a request."""
    accept = "text/event-stream, application/json" if stream else "application/json"
    headers = {"content-type": "application/json", "accept": accept, "user-agent": "dspex"}
    if settings.organization is not None:
        headers["openai-organization"] = settings.organization
    if settings.project is not None:
        headers["openai-project"] = settings.project
    if credentials.key is not None:
        headers["authorization"] = f"Bearer {credentials.key}"
    # The user's own come last: some gateways want the key elsewhere.
    headers.update({name.lower(): value for name, value in credentials.headers.items()})
    return headers
