"""Everything that can be configured, as frozen models; ``docs/configuration.md`` lists every key.

Times are seconds. Zero and false are values, never "unset" (a limit of 0 lets nothing through). There is no
provider and no model unless configured.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Final, Literal, Self, TypeAlias

from pydantic import AfterValidator, Field, Strict, field_validator, model_validator

from ...runtime.errors import ConfigError, LMInvalidRequest, SignatureError
from ..modules.program_state import ProgramState
from ..signatures.signature import Signature
from .provider_settings import BASE_URLS, Budget, ProviderSettings, RouteSettings
from .types import (
    Examples,
    Flag,
    FrozenDict,
    Hidden,
    Kind,
    Name,
    NamedSeconds,
    Number,
    PositiveLimit,
    PositiveSeconds,
    Seconds,
    SettingsModel,
    Table,
    Text,
    ToolList,
    Whole,
    Workers,
    frozen_table,
    is_table,
    key,
    refuse,
)

MEMORY_EVENTS: Final = 100_000
"""How many events a store in memory keeps unless configured otherwise."""


class AppSettings(SettingsModel):
    """The application as a whole."""

    name: Name = key("dspex", "Name of the application; the default event file is named after it.")
    console: Flag = key(True, "Whether this user's other processes can look at it: `dspex ps`, `top`.")


class CachingSettings(SettingsModel):
    """The cache of model answers."""

    enabled: Flag = key(True, "Whether answers are cached at all.")
    memory_cache_size: Whole = key(1000, "Answers kept in memory; 0 keeps none.", ge=0)
    disk_cache_enabled: Flag = key(False, "Whether answers are kept on disk too.")
    disk_cache_path: Text | None = key(None, "Folder of the disk cache; by default the user's cache folder.")
    ttl_seconds: NamedSeconds = key(3600.0, "Age at which an answer is forgotten.")


class OptimizationSettings(SettingsModel):
    """Defaults of optimization runs."""

    default_parallel_workers: Whole = key(4, "Examples that a run works on at once.", ge=1)
    max_optimization_iterations: Whole = key(50, "Iterations of a run at most; 0 sets no limit.", ge=0)
    early_stopping_patience: Whole = key(
        5, "Iterations without improvement that end a run; 0 never ends it early.", ge=0
    )
    evaluation_batch_size: Whole = key(10, "Examples of one candidate in work at once.", ge=1)
    keep_runs: PositiveSeconds | None = key(
        30 * 86400.0, "Age at which a run that is over is forgotten, with its journal; none keeps all."
    )


class MonitoringSettings(SettingsModel):
    """What is measured and noted about model calls."""

    cost_tracking_enabled: Flag = key(True, "Whether cost is worked out and counted.")
    performance_logging: Flag = key(True, "Whether durations are measured.")
    detailed_event_logging: Flag = key(False, "Whether each attempt gets an event of its own.")


class AiSettings(SettingsModel):
    """Providers and what surrounds them."""

    providers: Table[ProviderSettings] = key(FrozenDict[str, ProviderSettings](), "The providers, by name.")
    routes: Table[RouteSettings] = key(FrozenDict[str, RouteSettings](), "Several providers under one name, by that.")
    caching: CachingSettings = key(CachingSettings(), "The cache of model answers.")
    optimization: OptimizationSettings = key(OptimizationSettings(), "Defaults of optimization runs.")
    monitoring: MonitoringSettings = key(MonitoringSettings(), "What is measured.")

    @field_validator("providers", mode="before")
    @classmethod
    def _kind_from_name(cls, value: object) -> object:
        # The seed's tables have no kind: [ai.providers.openai] says it by its name.
        if not is_table(value):
            return value
        return {name: _with_kind(name, table) for name, table in value.items()}

    @model_validator(mode="after")
    def _one_name_for_one(self) -> Self:
        both = sorted(set(self.providers) & set(self.routes))
        if both:
            refuse(f"routes whose names no provider has ({', '.join(both)})")
        return self


def _with_kind(name: str, table: object) -> object:
    return {"kind": name, **table} if name in BASE_URLS and is_table(table) else table


class SignatureSettings(SettingsModel):
    """How inputs and outputs are held to their signature."""

    validation_enabled: Flag = key(True, "Whether values are checked against the signature.")
    strict_field_checking: Flag = key(False, "Whether an output of a convertible type is refused.")


class ModuleDefaults(SettingsModel):
    """What a module has where its own table is silent."""

    default_adapter: Literal["chat", "json"] = key("chat", "Adapter of a module.")
    timeout: PositiveSeconds = key(30.0, "Deadline of one prediction.")
    retry_failed_predictions: Flag = key(
        True, "Whether an answer that does not fit the signature is asked for once more."
    )


class EvaluationSettings(SettingsModel):
    """Defaults of evaluations."""

    parallel_execution: Flag = key(True, "Whether examples are scored side by side.")
    max_workers: Workers = key("auto", "Examples in work at once; auto fits the machine.")
    progress_reporting: Flag = key(True, "Whether progress is reported.")


class DspexSettings(SettingsModel):
    """Defaults for programs."""

    signatures: SignatureSettings = key(SignatureSettings(), "How values are held to their signature.")
    modules: ModuleDefaults = key(ModuleDefaults(), "What a module has where its own table is silent.")
    evaluation: EvaluationSettings = key(EvaluationSettings(), "Defaults of evaluations.")


def _signature_text(text: str) -> str:
    try:
        Signature(text)
    except SignatureError as error:
        refuse(f"a signature with {error.expected} at position {error.position}")
    return text


SignatureText: TypeAlias = Annotated[str, Strict(), AfterValidator(_signature_text), Kind("signature", text=True)]


def _state(table: Mapping[str, Any]) -> Mapping[str, Any]:
    try:
        ProgramState.from_dict(table)
    except (ConfigError, LMInvalidRequest):
        refuse("the state of a program, as saving it writes it")
    return frozen_table(table)


StateTable: TypeAlias = Annotated[Mapping[str, Any], AfterValidator(_state), Kind("table")]


class ModuleSettings(SettingsModel):
    """One module that the application starts by itself."""

    kind: Literal["predict", "chain_of_thought", "best_of_n", "refine", "react", "program"] = key(
        "predict", "Kind of module."
    )
    signature: SignatureText = Field(description="Inputs and outputs: `question -> answer`.")
    provider: Name = Field(description="Name of the provider it asks.")
    instructions: Text | None = key(None, "What the model is told to do.")
    demos: Examples = key((), "Worked examples shown to the model: tables of field values.")
    adapter: Literal["chat", "json"] | None = key(None, "Adapter; by default `dspex.modules.default_adapter`.")
    model: Text | None = key(None, "Model; by default the provider's.")
    temperature: Number | None = key(None, "Sampling temperature; sent only if set.", ge=0)
    max_tokens: Whole | None = key(None, "Limit on output tokens; sent only if set.", ge=1)
    timeout: PositiveSeconds | None = key(None, "Deadline of one prediction; by default `dspex.modules.timeout`.")
    validation_enabled: Flag | None = key(
        None, "Whether values are checked; by default `dspex.signatures.validation_enabled`."
    )
    strict_field_checking: Flag | None = key(
        None, "Whether convertible outputs are refused; by default `dspex.signatures.strict_field_checking`."
    )
    retry_failed_predictions: Flag | None = key(
        None, "Whether answers that do not fit are repaired; by default `dspex.modules.retry_failed_predictions`."
    )
    max_concurrency: Whole = key(16, "Predictions in work at once, in each worker; more wait.", ge=1)
    workers: Whole = key(1, "Actors that serve its predictions, each with `max_concurrency` of its own.", ge=1, le=1000)
    placement: Literal["local", "process"] = key(
        "local", "Where they run: in the application's process, or each in a child process of its own."
    )
    budget: Budget | None = key(None, "What its predictions may spend; none is no limit.")
    program: Text | None = key(None, "Of a program: its class, `package.module:Class`.")
    n: Whole | None = key(None, "Of best_of_n and refine: answers at most; 3 unless given.", ge=1)
    metric: Text | None = key(None, "Of best_of_n and refine: what they choose by, such as `package.module:function`.")
    threshold: Number | None = key(None, "Of best_of_n and refine: a score that is good enough; 1 unless given.", ge=0)
    tools: ToolList | None = key(None, "Of react: functions, `package.module:function`, or tables of actor, message.")
    max_steps: Whole | None = key(None, "Of react: rounds of tool calls at most; 10 unless given.", ge=1)
    tool_timeout: PositiveSeconds | None = key(None, "Of react: time of one tool call; 30 unless given.")
    state: StateTable | None = key(None, "What its predictors tell their models, as `qa.save` writes it.")


class EventsSettings(SettingsModel):
    """The event store. ``durable = false`` and ``in_memory = true`` say the same; each implies the other."""

    durable: Flag = key(True, "Whether events are kept in a file.")
    in_memory: Flag = key(False, "Whether events are kept in memory only; the opposite of `durable`.")
    path: Text | None = key(None, "The file; by default `<user state folder>/dspex/<app.name>.db`.")
    durability: Literal["process", "power"] = key(
        "process", "What acknowledged events survive: the end of the process, or also a power cut (slower)."
    )
    max_events: PositiveLimit = key(
        1_000_000, "Events kept at most, oldest dropped first; 100000 when in memory; none keeps all."
    )
    max_age: PositiveSeconds | None = key(None, "Age at which events are dropped; none keeps all.")
    capture_prompts: Flag = key(False, "Whether prompts and answers are kept in events, not only their hash.")

    @model_validator(mode="before")
    @classmethod
    def _one_implies_the_other(cls, value: object) -> object:
        if not is_table(value):
            return value
        table = dict(value)
        durable, in_memory = table.get("durable"), table.get("in_memory")
        if isinstance(durable, bool) and isinstance(in_memory, bool) and durable == in_memory:
            refuse("a table in which `durable` and `in_memory` are opposite")
        if isinstance(durable, bool):
            table.setdefault("in_memory", not durable)
        elif isinstance(in_memory, bool):
            table.setdefault("durable", not in_memory)
        if table.get("in_memory") is True:
            table.setdefault("max_events", MEMORY_EVENTS)
        return table


class TelemetrySettings(SettingsModel):
    """Metrics."""

    enabled: Flag = key(True, "Whether metrics are collected.")
    retention: Seconds = key(300.0, "Age at which a series without new values is dropped.")
    max_series: Whole = key(1000, "Label combinations of one metric; more fold into one overflow series.", ge=1)
    opentelemetry: Flag = key(False, "Whether requests become OpenTelemetry spans and metrics; needs dspex[otel].")
    capture_content: Flag = key(False, "Whether spans hold prompts and answers.")


class GatewaySettings(SettingsModel):
    """An HTTP server that speaks OpenAI's protocol over our providers; needs dspex[gateway]."""

    enabled: Flag = key(False, "Whether it is started.")
    host: Text = key("127.0.0.1", "Address to listen at; by default only this machine can connect.")
    port: Whole = key(8321, "Port to listen at; 0 takes a free one and keeps it.", ge=0, le=65535)
    token: Hidden | None = key(None, "Bearer token that clients must send; none lets everybody in.")
    max_body: Whole = key(33_554_432, "Largest request, in bytes.", ge=1)
    max_requests: Whole = key(1000, "Requests in work at once; more are refused.", ge=1)


class Settings(SettingsModel):
    """The whole configuration of an application; a frozen snapshot, safe to share."""

    app: AppSettings = key(AppSettings(), "The application as a whole.")
    ai: AiSettings = key(AiSettings(), "Providers and what surrounds them.")
    dspex: DspexSettings = key(DspexSettings(), "Defaults for programs.")
    modules: Table[ModuleSettings] = key(FrozenDict[str, ModuleSettings](), "Modules to start, by id.")
    events: EventsSettings = key(EventsSettings(), "The event store.")
    telemetry: TelemetrySettings = key(TelemetrySettings(), "Metrics.")
    gateway: GatewaySettings = key(GatewaySettings(), "The HTTP gateway.")

    def module(self, module_id: str) -> ModuleSettings:
        """Return one module's settings with the defaults of ``dspex.modules`` and ``dspex.signatures`` filled in.

        Raises:
            KeyError: no such module is configured.
        """
        module = self.modules[module_id]
        defaults: dict[str, object] = {
            "adapter": self.dspex.modules.default_adapter,
            "timeout": self.dspex.modules.timeout,
            "retry_failed_predictions": self.dspex.modules.retry_failed_predictions,
            "validation_enabled": self.dspex.signatures.validation_enabled,
            "strict_field_checking": self.dspex.signatures.strict_field_checking,
        }
        return module.model_copy(
            update={name: value for name, value in defaults.items() if getattr(module, name) is None}
        )
