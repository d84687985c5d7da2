"""Everything that can be configured, as frozen models; ``docs/configuration.md`` lists every key.

Times are seconds. Zero and false are values, never "unset" (a limit of 0 lets nothing through). There is no
provider and no model unless configured. A key marked ``later`` is checked and kept, and read by a later release.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Final, Literal, Self, TypeAlias

from pydantic import AfterValidator, Field, Strict, field_validator, model_validator

from ..runtime.errors import SignatureError
from .settings_types import (
    Examples,
    Flag,
    FrozenDict,
    Headers,
    Hidden,
    Kind,
    Limit,
    Name,
    NamedSeconds,
    Number,
    PositiveLimit,
    PositiveSeconds,
    Seconds,
    SettingsModel,
    Table,
    Text,
    Url,
    Whole,
    Workers,
    is_table,
    key,
    refuse,
)
from .signature import Signature

ProviderKind: TypeAlias = Literal["openai", "openai_responses", "anthropic", "gemini"]

BASE_URLS: Final[Mapping[str, str]] = {
    "openai": "https://api.openai.com/v1",
    "openai_responses": "https://api.openai.com/v1",
    "anthropic": "https://api.anthropic.com",
    "gemini": "https://generativelanguage.googleapis.com",
}
"""Where each kind of provider lives unless configured otherwise; the keys are the kinds."""

MEMORY_EVENTS: Final = 100_000
"""How many events a store in memory keeps unless configured otherwise."""

_PROTECTION: Final = "later: protection"
_STREAMS: Final = "later: streams"
_OPTIMIZATION: Final = "later: optimization"
_EVALUATION: Final = "later: evaluation"
_CACHE: Final = "later: cache"


class AppSettings(SettingsModel):
    """The application as a whole."""

    name: Name = key("dspex", "Name of the application; the default event file is named after it.")
    console: Flag = key(True, "Whether this user's other processes can look at it: `dspex ps`, `top`.")


class RateLimit(SettingsModel):
    """How much a provider lets through. Each limit is optional; 0 lets nothing through."""

    window: PositiveSeconds = key(60.0, "Length of the window of `limit` and `tokens`.", effect=_PROTECTION)
    limit: Limit = key(100, "Requests in a window; 0 refuses all, none is no limit.", effect=_PROTECTION)
    tokens: Whole | None = key(None, "Tokens in a window, input and output.", ge=0, effect=_PROTECTION)
    concurrency: Whole | None = key(None, "Requests in flight at once.", ge=1, effect=_PROTECTION)
    on_limit: Literal["wait", "fail"] = key("wait", "What a request does that finds no room.", effect=_PROTECTION)
    max_wait: Seconds | None = key(None, "Longest wait for room; none is up to the deadline.", effect=_PROTECTION)


class ProviderSettings(SettingsModel):
    """One language-model provider."""

    kind: ProviderKind = Field(
        description="Wire protocol; may be left out when the provider's name is a kind. Now: openai.",
        json_schema_extra={"effect": "now"},
    )
    api_key: Hidden | None = key(None, 'Key, best as `{system = "VARIABLE"}`, read at each use.')
    base_url: Url = key("", "Address of the server; by default that of the kind.")
    default_model: Text | None = key(None, "Model for requests that name none.")
    timeout: PositiveSeconds = key(30.0, "Deadline of a whole call, its retries included.")
    connect_timeout: PositiveSeconds = key(5.0, "Longest wait for a connection.")
    write_timeout: PositiveSeconds = key(30.0, "Longest wait for the server to take the next bytes.")
    max_connections: Whole = key(100, "Connections open at once.", ge=1)
    max_tokens_field: Literal["max_tokens", "max_completion_tokens"] | None = key(
        None, "Name under which the output limit is sent; by default chosen by `base_url`."
    )
    headers: Headers = key(FrozenDict[str, Any](), "Extra request headers; their values are kept as secrets.")
    organization: Text | None = key(None, "Organization to bill, where the protocol has it.")
    project: Text | None = key(None, "Project to bill, where the protocol has it.")
    retry_attempts: Whole = key(
        3, "Attempts of one call in all, the first included; 0 and 1 both mean no retry.", ge=0, effect=_PROTECTION
    )
    retry_base_delay: Seconds = key(0.5, "Upper bound of the first pause; it doubles.", effect=_PROTECTION)
    retry_max_delay: Seconds = key(8.0, "Upper bound of any pause of our own.", effect=_PROTECTION)
    retry_after_max: Seconds = key(120.0, "Longest Retry-After that is waited for.", effect=_PROTECTION)
    rate_limit: RateLimit | None = key(None, "Limits on requests and tokens; none is no limit.", effect=_PROTECTION)
    failure_threshold: Whole = key(
        5, "Counted failures in a row that open the breaker; 0 turns it off.", ge=0, effect=_PROTECTION
    )
    recovery_time: Seconds = key(30.0, "Time an open breaker waits before a probe.", effect=_PROTECTION)
    first_chunk_timeout: PositiveSeconds = key(60.0, "Longest wait for the first chunk.", effect=_STREAMS)
    chunk_timeout: PositiveSeconds = key(30.0, "Longest wait between two chunks.", effect=_STREAMS)

    @model_validator(mode="after")
    def _address_of_kind(self) -> Self:
        # Not a set field: should the kind be changed later, the address follows it.
        if "base_url" not in self.model_fields_set:
            object.__setattr__(self, "base_url", BASE_URLS[self.kind])
        return self


class CachingSettings(SettingsModel):
    """The cache of model answers."""

    enabled: Flag = key(True, "Whether answers are cached at all.", effect=_CACHE)
    memory_cache_size: Whole = key(1000, "Answers kept in memory; 0 keeps none.", ge=0, effect=_CACHE)
    disk_cache_enabled: Flag = key(False, "Whether answers are kept on disk too.", effect=_CACHE)
    disk_cache_path: Text | None = key(
        None, "Folder of the disk cache; by default the user's cache folder.", effect=_CACHE
    )
    ttl_seconds: NamedSeconds = key(3600.0, "Age at which an answer is forgotten.", effect=_CACHE)


class OptimizationSettings(SettingsModel):
    """Defaults of optimization runs."""

    default_parallel_workers: Whole = key(4, "Workers of a run.", ge=1, effect=_OPTIMIZATION)
    max_optimization_iterations: Whole = key(50, "Iterations of a run at most.", ge=0, effect=_OPTIMIZATION)
    early_stopping_patience: Whole = key(
        5, "Iterations without improvement that end a run; 0 never ends it early.", ge=0, effect=_OPTIMIZATION
    )
    evaluation_batch_size: Whole = key(10, "Examples scored at once.", ge=1, effect=_OPTIMIZATION)


class MonitoringSettings(SettingsModel):
    """What is measured and noted about model calls."""

    cost_tracking_enabled: Flag = key(True, "Whether cost is worked out and counted.", effect="later: cost")
    performance_logging: Flag = key(True, "Whether durations are measured.", effect="later: observability")
    detailed_event_logging: Flag = key(
        False, "Whether each attempt and chunk gets an event of its own.", effect="later: observability"
    )


class AiSettings(SettingsModel):
    """Providers and what surrounds them."""

    providers: Table[ProviderSettings] = key(FrozenDict[str, ProviderSettings](), "The providers, by name.")
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


def _with_kind(name: str, table: object) -> object:
    return {"kind": name, **table} if name in BASE_URLS and is_table(table) else table


class SignatureSettings(SettingsModel):
    """How inputs and outputs are held to their signature."""

    validation_enabled: Flag = key(True, "Whether values are checked against the signature.", effect="later: programs")
    strict_field_checking: Flag = key(
        False, "Whether a value of a convertible type is refused.", effect="later: programs"
    )


class ModuleDefaults(SettingsModel):
    """What a module has where its own table is silent."""

    default_adapter: Literal["chat", "json"] = key("chat", "Adapter of a module. Now: chat.")
    timeout: PositiveSeconds = key(30.0, "Deadline of one prediction.")
    retry_failed_predictions: Flag = key(
        True, "Whether an answer that does not fit the signature is asked for once more.", effect="later: programs"
    )


class EvaluationSettings(SettingsModel):
    """Defaults of evaluations."""

    parallel_execution: Flag = key(True, "Whether examples are scored side by side.", effect=_EVALUATION)
    max_workers: Workers = key("auto", "Examples in work at once; auto fits the machine.", effect=_EVALUATION)
    progress_reporting: Flag = key(True, "Whether progress is reported.", effect=_EVALUATION)


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


class ModuleSettings(SettingsModel):
    """One module that the application starts by itself."""

    kind: Literal["predict"] = key("predict", "Kind of module.")
    signature: SignatureText = Field(
        description="Inputs and outputs: `question -> answer`.", json_schema_extra={"effect": "now"}
    )
    provider: Name = Field(description="Name of the provider it asks.", json_schema_extra={"effect": "now"})
    instructions: Text | None = key(None, "What the model is told to do.")
    demos: Examples = key((), "Worked examples shown to the model: tables of field values.")
    adapter: Literal["chat", "json"] | None = key(None, "Adapter; by default `dspex.modules.default_adapter`.")
    model: Text | None = key(None, "Model; by default the provider's.")
    temperature: Number | None = key(None, "Sampling temperature; sent only if set.", ge=0)
    max_tokens: Whole | None = key(None, "Limit on output tokens; sent only if set.", ge=1)
    timeout: PositiveSeconds | None = key(None, "Deadline of one prediction; by default `dspex.modules.timeout`.")
    max_concurrency: Whole = key(16, "Predictions in work at once; more wait.", ge=1)


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


class Settings(SettingsModel):
    """The whole configuration of an application; a frozen snapshot, safe to share."""

    app: AppSettings = key(AppSettings(), "The application as a whole.")
    ai: AiSettings = key(AiSettings(), "Providers and what surrounds them.")
    dspex: DspexSettings = key(DspexSettings(), "Defaults for programs.")
    modules: Table[ModuleSettings] = key(FrozenDict[str, ModuleSettings](), "Modules to start, by id.")
    events: EventsSettings = key(EventsSettings(), "The event store.")
    telemetry: TelemetrySettings = key(TelemetrySettings(), "Metrics.")

    def module(self, module_id: str) -> ModuleSettings:
        """Return one module's settings with the defaults of ``dspex.modules`` filled in.

        Raises:
            KeyError: no such module is configured.
        """
        module, defaults = self.modules[module_id], self.dspex.modules
        return module.model_copy(
            update={
                "adapter": module.adapter or defaults.default_adapter,
                "timeout": defaults.timeout if module.timeout is None else module.timeout,
            }
        )
