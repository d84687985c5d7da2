"""What configuration declares, as child specs: one supervisor for each provider and each module.

A provider or module that crashes too often trips its own supervisor only. That supervisor is transient,
so its end does not count in the pool (OTP SUP-44); the keeper starts it again, with backoff.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib import import_module
from typing import TYPE_CHECKING, Any, Final

from ....actors.configuration.messages import GetSetting
from ....actors.configuration.settings import AiSettings, ModuleSettings
from ....actors.modules.messages import streams_name, worker_name
from ....runtime.child_spec import ChildSpec, Placement
from ....runtime.gen_server import GenServer
from ...dynamic_supervisor import DynamicSupervisor
from ...supervisor import Supervisor
from .. import names

if TYPE_CHECKING:
    from ....actors.protection.memory import ProtectionMemories

START_TIMEOUT: Final = 60.0
"""Seconds that a module in a process of its own may take to start: it imports the program, with all that needs."""


def provider_spec(id: str, memories: ProtectionMemories) -> ChildSpec:
    """The supervisor of one provider. Its protection stands left of it, so that a crash does not reset that.

    Args:
        id: the provider's.
        memories: what of protections outlives this whole supervisor.
    """
    from ....actors.protection.actor import ProtectionActor  # noqa: PLC0415 - with its libraries, only where it is used
    from ....actors.providers.actor import ProviderActor  # noqa: PLC0415 - likewise

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
    from ....actors.providers.route import RouteActor  # noqa: PLC0415 - only where it is used

    return Supervisor.child_spec(
        f"provider/{id}",
        [ChildSpec("route", RouteActor, (id,), name=f"provider/{id}")],
        restart="transient",
        name=f"supervisor/provider/{id}",
    )


def module_spec(id: str, settings: ModuleSettings | None = None) -> ChildSpec:
    """The supervisor of one module: of its actor, or of its workers and the pool that hands them their calls.

    Args:
        id: the module's.
        settings: how many workers, and where they run; one, here, if not given.
    """
    placement: Placement = "local" if settings is None else settings.placement
    workers = 1 if settings is None else settings.workers
    if workers == 1:
        return _module_actor(id, None, placement, restart="transient")
    each = [_module_actor(id, number, placement) for number in range(1, workers + 1)]
    return pool_spec(id, each, placement, restart="transient")


def pool_spec(id: str, workers: Sequence[ChildSpec], placement: Placement, **options: Any) -> ChildSpec:
    """The supervisor of a module that has several workers, and of the pool that hands them their calls.

    Args:
        id: the module's.
        workers: of each its supervisor; their actors have the names ``module/<id>/1`` and so on.
        placement: where they run.
        **options: further fields of the child spec.
    """
    from ....actors.modules.pool import ModulePool  # noqa: PLC0415 - only where it is used

    return Supervisor.child_spec(
        f"module/{id}",
        [
            # Left of the pool: its end is none of theirs.
            Supervisor.child_spec("workers", workers, name=f"supervisor/module/{id}/workers"),
            ChildSpec("pool", ModulePool, (id, len(workers), placement), name=f"module/{id}"),
        ],
        strategy="rest_for_one",
        name=f"supervisor/module/{id}",
        **options,
    )


def _module_actor(id: str, worker: int | None, placement: Placement, **options: Any) -> ChildSpec:
    """The supervisor of one actor that is a module, or one of its workers, with its streams."""
    from ....actors.modules.actor import ModuleActor  # noqa: PLC0415 - only where it is used

    name = worker_name(id, worker)
    patience = {"start_timeout": START_TIMEOUT} if placement == "process" else {}
    return Supervisor.child_spec(
        name,
        [
            ChildSpec("module", ModuleActor, (id, worker), patience, name=name, placement=placement),
            DynamicSupervisor.child_spec("streams", name=streams_name(id, worker)),
        ],
        strategy="rest_for_one",
        name=f"supervisor/{name}",
        **options,
    )


def load_actors() -> None:
    """Load what providers and modules are made of, with the libraries below them. Blocks (some tenths of a second)."""
    for name in ("protection.actor", "providers.actor", "providers.route", "modules.actor"):
        import_module(f"....actors.{name}", __package__)


async def declared_providers(memories: ProtectionMemories, keeper: GenServer) -> list[ChildSpec]:
    """Every provider and every route that configuration knows now."""
    ai: AiSettings = await keeper.call(names.CONFIG, GetSetting(("ai",)))
    if ai.providers or ai.routes:
        await keeper.run_blocking(load_actors)
    return [provider_spec(id, memories) for id in ai.providers] + [route_spec(id) for id in ai.routes]


async def declared_modules(keeper: GenServer) -> list[ChildSpec]:
    """Every module that configuration knows now."""
    modules: Mapping[str, ModuleSettings] = await keeper.call(names.CONFIG, GetSetting(("modules",)))
    return [module_spec(id, settings) for id, settings in modules.items()]
