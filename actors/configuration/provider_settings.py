"""Settings of providers, of the limits around them and of the routes across them."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from typing import Annotated, Any, Final, Literal, Self, TypeAlias

from pydantic import AfterValidator, BeforeValidator, Field, PlainSerializer, PlainValidator, model_validator

from ...runtime.secret import Secret, SecretValue
from .types import (
    Flag,
    FrozenDict,
    Headers,
    Hidden,
    Kind,
    Limit,
    Name,
    PositiveSeconds,
    Seconds,
    SettingsModel,
    Text,
    Url,
    Whole,
    as_tuple,
    frozen_table,
    key,
    money,
    public_secret,
    refuse,
    secret,
)

ProviderKind: TypeAlias = Literal["openai", "openai_responses", "anthropic", "gemini"]

BASE_URLS: Final[Mapping[str, str]] = {
    "openai": "https://api.openai.com/v1",
    "openai_responses": "https://api.openai.com/v1",
    "anthropic": "https://api.anthropic.com",
    "gemini": "https://generativelanguage.googleapis.com",
}
"""Where each kind of provider lives unless configured otherwise; the keys are the kinds."""

STORE_SCHEMES: Final = ("redis", "rediss", "redis+unix")
"""What the address of a store of shared limits may begin with."""


def store_address(value: object) -> SecretValue:
    """Read a secret that is the address of a store; one that stands in a variable is looked at when it is used."""
    address = secret(value)
    if isinstance(address, Secret) and address.resolve().partition("://")[0].lower() not in STORE_SCHEMES:
        refuse(f"an address that begins with {', '.join(f'{scheme}://' for scheme in STORE_SCHEMES)}")
    return address


Money: TypeAlias = Annotated[Decimal, BeforeValidator(money), Kind("US dollars")]
StoreAddress: TypeAlias = Annotated[
    SecretValue, PlainValidator(store_address), PlainSerializer(public_secret), Kind("secret")
]


_GUARD: Final = {"guard": True}


def guard(default: Any, description: str, **constraints: Any) -> Any:
    """As :func:`~.configuration.types.key`, for a setting of a provider that protects it."""
    return key(default, description, json_schema_extra=_GUARD, **constraints)


class RateLimit(SettingsModel):
    """How much is let through. Each limit is optional; 0 lets nothing through."""

    window: PositiveSeconds = key(60.0, "Length of the window of `limit` and `tokens`.")
    limit: Limit = key(100, "Requests in a window; 0 refuses all, none is no limit.")
    tokens: Whole | None = key(None, "Tokens in a window, input and output.", ge=0)
    concurrency: Whole | None = key(None, "Requests in flight at once.", ge=1)
    on_limit: Literal["wait", "fail"] = key("wait", "What a request does that finds no room.")
    max_wait: Seconds | None = key(None, "Longest wait for room; none is up to the deadline.")
    max_waiting: Whole = key(10_000, "Requests that wait for room at once; more are refused.", ge=0)


class Budget(SettingsModel):
    """What may be spent in a window. Each part is optional; 0 lets nothing through."""

    window: PositiveSeconds | None = key(None, "Length of the window; none counts since the first request ever.")
    money: Money | None = key(None, "US dollars; a request whose price is unknown is refused.", ge=0)
    tokens: Whole | None = key(None, "Tokens, input and output.", ge=0)
    requests: Whole | None = key(None, "Requests.", ge=0)


class Price(SettingsModel):
    """What a model costs, in US dollars per million tokens; goes before the price list."""

    input: Money = Field(ge=0, description="Input tokens.")
    output: Money = Field(ge=0, description="Output tokens.")
    cached_input: Money | None = key(None, "Input tokens read from the provider's cache; by default as `input`.", ge=0)
    cache_write: Money | None = key(None, "Input tokens written into its cache; by default as `input`.", ge=0)


class ProviderSettings(SettingsModel):
    """One language-model provider."""

    kind: ProviderKind = Field(
        description="Wire protocol; may be left out when the provider's name is a kind.",
    )
    api_key: Hidden | None = key(None, 'Key, best as `{system = "VARIABLE"}`, read at each use.')
    base_url: Url = key("", "Address of the server; by default that of the kind.")
    default_model: Text | None = key(None, "Model for requests that name none.")
    timeout: PositiveSeconds = guard(30.0, "Deadline of a whole call, its retries included.")
    connect_timeout: PositiveSeconds = key(5.0, "Longest wait for a connection.")
    write_timeout: PositiveSeconds = key(30.0, "Longest wait for the server to take the next bytes.")
    max_connections: Whole = key(100, "Connections open at once.", ge=1)
    headers: Headers = key(FrozenDict[str, Any](), "Extra request headers; their values are kept as secrets.")
    organization: Text | None = key(None, "Organization to bill, where the protocol has it.")
    project: Text | None = key(None, "Project to bill, where the protocol has it.")
    # -- what the server can do
    max_tokens_field: Literal["max_tokens", "max_completion_tokens"] | None = key(
        None, "Name under which the output limit is sent; by default chosen by `base_url`."
    )
    default_max_tokens: Whole = key(4096, "Output limit where the protocol demands one and the request has none.", ge=1)
    sampling: Flag = key(True, "Whether temperature, top_p and seed may be sent; if not, requests with them fail.")
    schema_mode: Literal["json_schema", "json_object", "tool", "none"] | None = key(
        None, "How structured output is asked for; by default the protocol's own way, none refuses it."
    )
    stream_usage: Flag = key(True, "Whether a stream is asked to tell its usage; some servers refuse the question.")
    api_version: Text | None = key(None, "Version of the protocol, where it has one; by default chosen by the request.")
    # -- retries
    attempt_timeout: PositiveSeconds | None = guard(None, "Deadline of one attempt; none is up to that of the call.")
    retry_attempts: Whole = guard(
        3, "Attempts of one call in all, the first included; 0 and 1 both mean no retry.", ge=0
    )
    retry_base_delay: Seconds = guard(0.5, "Upper bound of the first pause; it doubles.")
    retry_max_delay: Seconds = guard(8.0, "Upper bound of any pause of our own.")
    retry_after_max: Seconds = guard(120.0, "Longest Retry-After that is waited for.")
    retry_max_elapsed: PositiveSeconds | None = guard(
        None, "No attempt begins later than this; none is up to the deadline."
    )
    # -- protection
    rate_limit: RateLimit | None = guard(None, "Limits of all requests together; none is no limit.")
    user_rate_limit: RateLimit | None = guard(None, "Limits of each user's requests; none is no limit.")
    limit_storage: StoreAddress | None = guard(
        None, "Address of the store of the limits, such as redis://host:6379; by default this process's memory."
    )
    failure_threshold: Whole = guard(5, "Counted failures in a row that open the breaker; 0 turns it off.", ge=0)
    recovery_time: Seconds = guard(30.0, "Time an open breaker waits before a probe.")
    probes: Whole = guard(1, "Probes at once while the breaker is half open.", ge=1)
    success_threshold: Whole = guard(1, "Successful probes in a row that close the breaker.", ge=1)
    gate_time: Seconds = guard(
        60.0, "Time for which a wrong key or an empty account refuses all, before one tries again."
    )
    budget: Budget | None = guard(None, "What may be spent; none is no limit.")
    prices: Annotated[Mapping[Text, Price], AfterValidator(frozen_table)] = key(
        FrozenDict[str, Price](), "Prices of models, before those of the price list."
    )
    # -- streams
    first_chunk_timeout: PositiveSeconds = key(60.0, "Longest wait for the first chunk.")
    chunk_timeout: PositiveSeconds = key(30.0, "Longest wait between two chunks.")
    stream_timeout: PositiveSeconds = key(600.0, "Deadline of a whole stream.")

    @model_validator(mode="after")
    def _address_of_kind(self) -> Self:
        # Not a set field: should the kind be changed later, the address follows it.
        if "base_url" not in self.model_fields_set:
            object.__setattr__(self, "base_url", BASE_URLS[self.kind])
        return self


PROTECTION_KEYS: Final = tuple(
    name for name, field in ProviderSettings.model_fields.items() if field.json_schema_extra == _GUARD
)
"""The settings of a provider that protect it."""


class RouteTarget(SettingsModel):
    """One provider of a route."""

    provider: Name = Field(description="Name of the provider.")
    model: Text | None = key(None, "Model to ask there; by default the request's, then the provider's.")
    weight: Whole = key(1, "Share of the requests, for the strategy `weight`.", ge=1)


Targets: TypeAlias = Annotated[
    tuple[RouteTarget, ...], BeforeValidator(as_tuple), Kind("list of tables", entries=tuple(RouteTarget.model_fields))
]
FallbackOn: TypeAlias = Literal["unavailable", "rate_limit", "quota", "auth", "budget", "context_length", "invalid"]
Failures: TypeAlias = Annotated[tuple[FallbackOn, ...], BeforeValidator(as_tuple), Kind("list of texts")]


class RouteSettings(SettingsModel):
    """Several providers under one name: `provider/<route>` answers as a provider does."""

    targets: Targets = Field(
        description="Tables of provider, model (by default the request's, then the provider's) and weight.",
    )
    strategy: Literal["order", "weight", "latency"] = key("order", "Who is asked first.")
    fallback_on: Failures = key(
        ("unavailable", "rate_limit", "quota", "auth", "budget"),
        "Failures after which the next one is asked; also context_length and invalid.",
    )

    @model_validator(mode="after")
    def _each_target_once(self) -> Self:
        if not self.targets:
            refuse("at least one target")
        seen = [(target.provider, target.model) for target in self.targets]
        if len(set(seen)) < len(seen):
            refuse("targets that each stand there once")
        return self
