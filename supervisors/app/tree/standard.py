"""The standard tree (``DESIGN`` section 5). What the right side needs stands left of it.

::

    application (rest_for_one)
    ├── core (rest_for_one): event store · configuration · budgets · registry
    ├── providers (rest_for_one): pool (dynamic) · keeper
    ├── modules   (rest_for_one): pool (dynamic) · keeper
    ├── runs      (rest_for_one): pool (dynamic) · keeper
    ├── observers (one_for_one): telemetry · otel (if configured) · cache
    ├── children  (one_for_one): the user's own
    └── gateway   (one_for_one), if it is enabled: the HTTP gateway

The supervisors of the standard parts are patient. What they restart comes back in a millisecond and has lost nothing
(events and settings are in the journal, the rest is read again), while giving up goes upwards and ends in the end of
the application. So they take a burst, and still end within seconds if a part cannot come back at all. A provider and a
module have supervisors of their own with OTP's usual patience: there giving up costs one name.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from functools import cached_property, partial
from pathlib import Path
from typing import Any, Final

from ....actors.budgets.actor import BudgetActor
from ....actors.budgets.ledger import BudgetLedger
from ....actors.cache.actor import CacheActor
from ....actors.configuration.actor import ConfigurationActor, Subscriptions
from ....actors.configuration.settings import Settings
from ....actors.events.retention import Retention
from ....actors.events.store import EventStore, open_journal
from ....actors.journal import Journal
from ....actors.journals.sqlite_file import default_path
from ....actors.protection.memory import ProtectionMemories
from ....actors.registry.actor import RegistryActor
from ....actors.runs.store import RunStore, runs_path
from ....actors.telemetry.actor import TelemetryActor
from ....runtime.child_spec import ChildSpec
from ....runtime.gen_server import GenServer
from ....runtime.secret import SecretVault
from ...backoff import Backoff
from ...dynamic_supervisor import DynamicSupervisor
from ...gateway.door import Door
from ...gateway.exposure import check_gateway
from ...keeper import Keeper
from ...supervisor import Supervisor
from .. import names
from .children import ChildrenSupervisor, KeptSpecs
from .declared import declared_modules, declared_providers
from .run_keeper import RunKeeper

Declared = Callable[[GenServer], Awaitable[list[ChildSpec]]]

PATIENCE: Final[dict[str, Any]] = {"max_restarts": 100, "max_seconds": 5.0}
"""Intensity of the supervisors of the standard parts."""
GATEWAY_BACKOFF: Final = Backoff(initial=0.5, maximum=30.0)
"""Between two tries to listen, at a port that is taken for instance."""
CHILDREN_BACKOFF: Final = Backoff(initial=0.1, maximum=30.0)
"""Between two tries to start the user's children again: what is wrong with one of them must not end the application."""


@dataclass(frozen=True)
class Plan:
    """What an application is started with.

    Attributes:
        settings: the checked configuration.
        children: the declared specs of the user's own actors; outlive the supervisor that runs them.
        vault: literal secrets given at run time; outlives the configuration actor, never written down.
        subscriptions: who is told of changed settings; outlives the configuration actor too.
        ledger: what was spent; outlives the budget actor.
        protections: what of each provider's protection outlives its supervisor.
        door: where the gateway listens; outlives it.
        begun: the specs of the runs that were begun here; outlive their keeper.
    """

    settings: Settings
    children: KeptSpecs = field(default_factory=KeptSpecs)
    vault: SecretVault = field(default_factory=SecretVault)
    subscriptions: Subscriptions = field(default_factory=Subscriptions)
    ledger: BudgetLedger = field(default_factory=BudgetLedger)
    protections: ProtectionMemories = field(default_factory=ProtectionMemories)
    door: Door = field(default_factory=Door)
    begun: KeptSpecs = field(default_factory=KeptSpecs)

    @cached_property
    def runs(self) -> RunStore:
        """The runs; in memory if the events are."""
        events = self.settings.events
        if events.in_memory:
            return RunStore(None)
        return RunStore(runs_path(Path(events.path or default_path(self.settings.app.name))))

    def journal(self) -> Journal | Callable[[], Journal]:
        """How the event store gets its journal: a file is opened by the actor, a journal in memory outlives it."""
        events = self.settings.events
        retention = Retention(max_events=events.max_events, max_age=events.max_age)
        if events.in_memory:
            return open_journal(in_memory=True, retention=retention)
        return partial(
            open_journal,
            app=self.settings.app.name,
            path=events.path,
            retention=retention,
            durability=events.durability,
        )


def application_children(plan: Plan) -> list[ChildSpec]:
    """The children of the application's root supervisor, in start order."""
    return [
        _core(plan),
        _kept(
            "providers",
            names.PROVIDERS,
            names.PROVIDER_POOL,
            _keeper(names.PROVIDER_POOL, names.PROVIDER_KEEPER, partial(declared_providers, plan.protections)),
        ),
        _kept(
            "modules",
            names.MODULES,
            names.MODULE_POOL,
            _keeper(names.MODULE_POOL, names.MODULE_KEEPER, declared_modules),
        ),
        _kept(
            "runs",
            names.RUNS,
            names.RUN_POOL,
            ChildSpec("keeper", RunKeeper, (names.RUN_POOL, plan.begun), name=names.RUN_KEEPER),
        ),
        _observers(plan),
        _children(plan),
        *_gateway(plan),
    ]


def _core(plan: Plan) -> ChildSpec:
    return Supervisor.child_spec(
        "core",
        [
            ChildSpec("events", EventStore, (plan.journal(),), name=names.EVENTS),
            ChildSpec(
                "config",
                ConfigurationActor,
                kwargs={"settings": plan.settings, "vault": plan.vault, "subscriptions": plan.subscriptions},
                name=names.CONFIG,
            ),
            ChildSpec("budgets", BudgetActor, kwargs={"ledger": plan.ledger}, name=names.BUDGETS),
            ChildSpec("registry", RegistryActor, name=names.REGISTRY),
        ],
        strategy="rest_for_one",
        name=names.CORE,
        **PATIENCE,
    )


def _keeper(pool: str, name: str, declared: Declared) -> ChildSpec:
    return ChildSpec("keeper", Keeper, (pool, declared), name=name)


def _kept(id: str, name: str, pool: str, keeper: ChildSpec) -> ChildSpec:
    return Supervisor.child_spec(
        id,
        [
            DynamicSupervisor.child_spec("pool", name=pool, **PATIENCE),
            keeper,
        ],
        strategy="rest_for_one",
        name=name,
        **PATIENCE,
    )


def _observers(plan: Plan) -> ChildSpec:
    telemetry = ChildSpec(
        "telemetry", TelemetryActor, kwargs={"settings": plan.settings.telemetry}, name=names.TELEMETRY
    )
    observers = [telemetry] if plan.settings.telemetry.enabled else []
    if plan.settings.telemetry.opentelemetry:
        from ....actors.telemetry.opentelemetry import OpenTelemetryActor  # noqa: PLC0415 - loaded by those who use it

        observers.append(ChildSpec("otel", OpenTelemetryActor, name=names.OTEL))
    observers.append(ChildSpec("cache", CacheActor, kwargs={"app": plan.settings.app.name}, name=names.CACHE))
    return Supervisor.child_spec("observers", observers, name=names.OBSERVERS, **PATIENCE)


def _children(plan: Plan) -> ChildSpec:
    return ChildSpec(
        "children",
        ChildrenSupervisor,
        (plan.children,),
        type="supervisor",
        name=names.CHILDREN,
        backoff=CHILDREN_BACKOFF,
    )


def _gateway(plan: Plan) -> list[ChildSpec]:
    settings = plan.settings.gateway
    if not settings.enabled:
        return []
    check_gateway(settings)
    from ...gateway.actor import GatewayActor  # noqa: PLC0415 - loaded by those who use it

    http = ChildSpec("http", GatewayActor, (settings, plan.door), name=names.GATEWAY, backoff=GATEWAY_BACKOFF)
    return [Supervisor.child_spec("gateway", [http], name=names.GATEWAY_SUPERVISOR, **PATIENCE)]
