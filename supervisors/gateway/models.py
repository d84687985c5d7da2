"""Which provider a model's name stands for, and the list of names."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from ...actors.configuration.settings import AiSettings
from ...runtime.errors import did_you_mean
from .problems import refused

_ANSWER_TIME: Final = 1.0
"""Seconds beyond a provider's own deadline in which its word about a missed one arrives."""


@dataclass(frozen=True, slots=True)
class Target:
    """Who is asked.

    Attributes:
        id: a provider, or a route.
        model: which of its models; None for its default.
        name: what a stream calls the model, which it hears of only at its end.
    """

    id: str
    model: str | None
    name: str


def resolve(name: str, ai: AiSettings) -> Target:
    """Who answers for a model's name.

    ``provider`` is its default model, ``provider/model`` any of its models; a route goes in the place of a provider.
    Any other name must be the ``default_model`` of a provider; of several the first.

    Raises:
        Refused: nobody does (404).
    """
    found = _targets(ai)
    if name in found:
        return Target(name, None, found[name] or name)
    id, _, model = name.partition("/")
    if id in found and model:
        return Target(id, model, model)
    for id, default in found.items():
        if default == name:
            return Target(id, name, name)
    known = [each["id"] for each in listing(ai, 0)]
    such = f"a model such as {known[0]}" if known else "a configured provider"
    hint = did_you_mean(name, [*known, *filter(None, found.values())])
    raise refused(
        404,
        f"expected {such}, got {name!r}, at model{hint}",
        "model_not_found",
        param="model",
    )


def listing(ai: AiSettings, created: int) -> list[dict[str, Any]]:
    """Every name that is sure to work, as OpenAI lists models."""
    names: list[tuple[str, str]] = []
    for id, default in _targets(ai).items():
        names.append((id, id))
        if default is not None:
            names.append((f"{id}/{default}", id))
    return [{"id": name, "object": "model", "created": created, "owned_by": owner} for name, owner in names]


def patience(id: str, ai: AiSettings, *, stream: bool) -> float:
    """Seconds to wait for an answer, or for a stream's first chunk: providers have deadlines of their own."""
    return sum(_own_time(each, ai, stream) for each in _members(id, ai, ())) + _ANSWER_TIME


def longest(id: str, ai: AiSettings) -> float:
    """Seconds that a whole stream may take, the client's reading included."""
    times = [ai.providers[each].stream_timeout for each in _members(id, ai, ()) if each in ai.providers]
    return max(times, default=0.0) + patience(id, ai, stream=True)


def _targets(ai: AiSettings) -> Mapping[str, str | None]:
    """Providers and routes by id, with their default models."""
    return {**{id: each.default_model for id, each in ai.providers.items()}, **dict.fromkeys(ai.routes)}


def _members(id: str, ai: AiSettings, above: tuple[str, ...]) -> list[str]:
    """The providers that may be asked one after the other. A route may lead to routes."""
    route = ai.routes.get(id)
    if route is None or id in above:
        return [id]
    return [each for target in route.targets for each in _members(target.provider, ai, (*above, id))]


def _own_time(id: str, ai: AiSettings, stream: bool) -> float:
    provider = ai.providers.get(id)
    if provider is None:
        return 0.0
    return max(provider.timeout, provider.first_chunk_timeout) if stream else provider.timeout
