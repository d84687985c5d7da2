"""The registered names of the standard tree."""

from __future__ import annotations

from typing import Final

APPLICATION: Final = "supervisor/application"
CORE: Final = "supervisor/core"
EVENTS: Final = "core/events"
CONFIG: Final = "core/config"
BUDGETS: Final = "core/budgets"
REGISTRY: Final = "core/registry"
PROVIDERS: Final = "supervisor/providers"
PROVIDER_POOL: Final = "supervisor/provider-pool"
PROVIDER_KEEPER: Final = "keeper/providers"
MODULES: Final = "supervisor/modules"
MODULE_POOL: Final = "supervisor/module-pool"
MODULE_KEEPER: Final = "keeper/modules"
RUNS: Final = "supervisor/runs"
RUN_POOL: Final = "supervisor/run-pool"
RUN_KEEPER: Final = "keeper/runs"
OBSERVERS: Final = "supervisor/observers"
TELEMETRY: Final = "observers/telemetry"
OTEL: Final = "observers/otel"
CACHE: Final = "observers/cache"
CHILDREN: Final = "supervisor/children"
GATEWAY_SUPERVISOR: Final = "supervisor/gateway"
GATEWAY: Final = "gateway/http"

ESSENTIAL: Final = (EVENTS, CONFIG, REGISTRY, PROVIDER_POOL, PROVIDER_KEEPER, MODULE_POOL, MODULE_KEEPER)
"""What must run for the application to be healthy; without one of them it is unhealthy."""
HELPFUL: Final = (RUN_POOL, RUN_KEEPER, TELEMETRY, OTEL, CHILDREN, GATEWAY)
"""Without one of these it is degraded. What configuration turned off was never started, and is not missed."""
