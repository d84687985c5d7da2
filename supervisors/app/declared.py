"""What configuration declares, as child specs: one supervisor for each provider and each module.

A provider or module that crashes too often trips its own supervisor only. That supervisor is transient,
so its end does not count in the pool (OTP SUP-44); the keeper starts it again, with backoff.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from ...actors.config_messages import GetSetting
from ...actors.settings import AiSettings
from ...runtime.child_spec import ChildSpec
from ...runtime.gen_server import GenServer
from ..dynamic_supervisor import DynamicSupervisor
from ..supervisor import Supervisor
from . import names

if TYPE_CHECKING:
    from ...actors.protection_memory import ProtectionMemories


def provider_spec(id: str, memories: ProtectionMemories) -> ChildSpec:
    """The supervisor of one provider. Its protection stands left of it, so that a crash does not reset that.

    Args:
        id: the provider's.
        memories: what of protections outlives this whole supervisor.
    """
    from ...actors.protection import ProtectionActor  # noqa: PLC0415 - with its libraries, only where it is used
    from ...actors.provider import ProviderActor  # noqa: PLC0415 - likewise

    return Supervisor.child_spec(
        f"provider/{id}",
        [
            ChildSpec("protection", ProtectionActor, (id,), {"memory": memories.of(id)}, name=f"protection/{id}"),
            ChildSpec("provider", ProviderActor, (id,), name=f"provider/{id}"),
            DynamicSupervisor.child_spec("streams", name=f"streams/{id}"),
        ],
        strategy="rest_for_one",
        restart="transient",
        name=f"supervisor/provider/{id}",
    )


def route_spec(id: str) -> ChildSpec:
    """The supervisor of one route across providers; it stands among them and answers as one of them does."""
    from ...actors.route import RouteActor  # noqa: PLC0415 - only where it is used

    return Supervisor.child_spec(
        f"provider/{id}",
        [ChildSpec("route", RouteActor, (id,), name=f"provider/{id}")],
        restart="transient",
        name=f"supervisor/provider/{id}",
    )


def module_spec(id: str) -> ChildSpec:
    """The supervisor of one module."""
    from ...actors.module_actor import ModuleActor  # noqa: PLC0415 - only where it is used

    return Supervisor.child_spec(
        f"module/{id}",
        [
            ChildSpec("module", ModuleActor, (id,), name=f"module/{id}"),
            DynamicSupervisor.child_spec("streams", name=f"streams/module/{id}"),
        ],
        strategy="rest_for_one",
        restart="transient",
        name=f"supervisor/module/{id}",
    )


def load_actors() -> None:
    """Load what providers and modules are made of, with the libraries below them. Blocks (some tenths of a second)."""
    for name in ("protection", "provider", "route", "module_actor"):
        import_module(f"...actors.{name}", __package__)


async def declared_providers(memories: ProtectionMemories, keeper: GenServer) -> list[ChildSpec]:
    """Every provider and every route that configuration knows now."""
    ai: AiSettings = await keeper.call(names.CONFIG, GetSetting(("ai",)))
    if ai.providers or ai.routes:
        await keeper.run_blocking(load_actors)
    return [provider_spec(id, memories) for id in ai.providers] + [route_spec(id) for id in ai.routes]


async def declared_modules(keeper: GenServer) -> list[ChildSpec]:
    """Every module that configuration knows now."""
    modules = await keeper.call(names.CONFIG, GetSetting(("modules",)))
    return [module_spec(id) for id in modules]


async def nothing_declared(keeper: GenServer) -> list[ChildSpec]:
    """Runs are started by their callers, not by configuration."""
    return []
