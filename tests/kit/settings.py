"""For tests of the configuration: the seed's whole schema, one local provider, how a refusal is caught."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from dspex.actors.configuration.load import load_settings
from dspex.runtime.errors import ConfigError

KEY = "sk-do-not-show-me"
LOCAL: dict[str, Any] = {"kind": "openai", "base_url": "http://127.0.0.1:1/v1"}
"""A provider that needs nothing but an address."""
SEED = """
[ai.providers.openai]
api_key = {system = "OPENAI_API_KEY"}
base_url = "https://api.openai.com/v1"
default_model = "gpt-4"
timeout = 30
retry_attempts = 3
rate_limit = {window = 60, limit = 100}

[ai.providers.anthropic]
api_key = {system = "ANTHROPIC_API_KEY"}
base_url = "https://api.anthropic.com"
default_model = "claude-3-sonnet-20240229"
timeout = 30.0
retry_attempts = 3
rate_limit = {window = "1m", limit = 50}
failure_threshold = 5
recovery_time = "30s"

[ai.caching]
enabled = true
memory_cache_size = 1000
disk_cache_enabled = true
disk_cache_path = "./cache/dspex"
ttl_seconds = 86400

[ai.optimization]
default_parallel_workers = 4
max_optimization_iterations = 50
early_stopping_patience = 5
evaluation_batch_size = 10

[ai.monitoring]
cost_tracking_enabled = true
performance_logging = true
detailed_event_logging = false

[dspex.signatures]
validation_enabled = true
strict_field_checking = false

[dspex.modules]
default_adapter = "chat"
timeout = 30
retry_failed_predictions = true

[dspex.evaluation]
parallel_execution = true
max_workers = "auto"
progress_reporting = true
"""


def refused(config: Mapping[str, Any] | None = None, **options: Any) -> ConfigError:
    """The error with which a configuration is refused."""
    with pytest.raises(ConfigError) as caught:
        load_settings(config=config, environ=options.pop("environ", {}), **options)
    return caught.value
