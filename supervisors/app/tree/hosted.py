"""Hosted DSPy modules as child specs: of one actor, or of several workers behind a pool."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import fields
from typing import Any, Final, TypedDict, Unpack

from ....actors.dspy.hosted import HostedModule
from ....actors.modules.messages import PredictOptions, worker_name
from ....runtime.child_spec import ChildSpec, Placement
from ....runtime.errors import ConfigError, did_you_mean
from ...supervisor import Supervisor
from .declared import pool_spec

START_TIMEOUT: Final = 120.0
"""Seconds for the import of DSPy and of the program."""
_OPTIONS: Final = frozenset(each.name for each in fields(PredictOptions))
_COUNTS: Final = {"workers": (1, 1000), "max_concurrency": (1, math.inf), "max_queue": (0, math.inf)}


class HostedSettings(TypedDict, total=False):
    """How a module is hosted, beside what :func:`hosted_spec` names.

    Keys:
        signature: what it takes and gives, ``"question -> answer"``; needed unless it has just one predictor.
        state: what ``module.save("x.json")`` wrote: the file's path, or its content.
        max_concurrency: calls in work at once, in each worker; 8 unless given.
        max_queue: calls that may wait for their turn, at each worker; 256 unless given.
        start_timeout: seconds for the import of DSPy and of the program; 120 unless given.
        model, temperature, top_p, max_tokens, stop, seed, timeout, cache, rollout: of the model calls, as of
            :class:`~dspex.actors.modules.messages.PredictOptions`; the timeout is 120 s unless given.
    """

    signature: str | None
    state: str | Mapping[str, Any] | None
    max_concurrency: int
    max_queue: int
    start_timeout: float
    model: str | None
    temperature: float | None
    top_p: float | None
    max_tokens: int | None
    stop: tuple[str, ...] | None
    seed: int | None
    timeout: float | None
    cache: bool | None
    rollout: str | None


def hosted_spec(
    id: str,
    factory: str,
    /,
    *,
    provider: str,
    workers: int = 1,
    placement: Placement = "local",
    **settings: Unpack[HostedSettings],
) -> ChildSpec:
    """The child spec of a hosted module: ``app.start_child(hosted_spec("qa", "shop.qa:build", provider="local"))``.

    Its id below ``supervisor/children`` is ``module/<id>``, however many workers it has.

    Args:
        id: its id; it is called as ``module/<id>``.
        factory: import path of what makes the module.
        provider: id of the provider or route.
        workers: actors that serve its calls, each with a program and limits of its own, behind a pool that hands each
            call to the one with the fewest.
        placement: ``process`` hosts each of them in a process of its own: it computes beside the others, and a kill
            is one.
        **settings: see :class:`HostedSettings`.

    Raises:
        ConfigError: a setting is unknown, ``workers`` no whole number from 1 to 1000, another count none,
            ``start_timeout`` no time, or the signature no text.
        ConfigError, LMInvalidRequest: an option of the model calls is none.
        SpecError: the placement is unknown.
    """
    _check({**settings, "workers": workers})
    arguments: dict[str, Any] = {"provider": provider, "module": id, "start_timeout": START_TIMEOUT, **settings}
    if workers == 1:
        name = worker_name(id)
        return ChildSpec(name, HostedModule, (factory,), arguments, name=name, placement=placement)
    names = tuple(worker_name(id, number) for number in range(1, workers + 1))
    return pool_spec(id, [_worker(name, names, factory, arguments, placement) for name in names], placement)


def _worker(
    name: str, names: tuple[str, ...], factory: str, arguments: dict[str, Any], placement: Placement
) -> ChildSpec:
    """One worker, below a supervisor of its own: one that ends again and again does not end the others."""
    arguments = {**arguments, "others": tuple(each for each in names if each != name)}
    actor = ChildSpec("module", HostedModule, (factory,), arguments, name=name, placement=placement)
    return Supervisor.child_spec(name, [actor], name=f"supervisor/{name}")


def _check(settings: Mapping[str, Any]) -> None:
    known = ("provider", "workers", "placement", *HostedSettings.__annotations__)
    for name in settings:
        if name not in known:
            text = f"expected the settings {', '.join(known)}, got {name!r}{did_you_mean(name, known)}"
            raise ConfigError(text, path=name, got=name)
    for name, (least, most) in _COUNTS.items():
        value = settings.get(name, least)
        if not isinstance(value, int) or isinstance(value, bool) or not least <= value <= most:
            expected = f"a whole number from {least}" + ("" if most == math.inf else f" to {most:g}")
            text = f"expected {expected}, got {value!r}, at {name}"
            raise ConfigError(text, path=name, expected=expected, got=value)
    seconds = settings.get("start_timeout")
    if seconds is not None and (isinstance(seconds, bool) or not isinstance(seconds, int | float) or not seconds > 0):
        expected = "seconds above 0"
        text = f"expected {expected}, got {seconds!r}, at start_timeout"
        raise ConfigError(text, path="start_timeout", expected=expected, got=seconds)
    signature = settings.get("signature")
    if not isinstance(signature, str | None):
        text = f"expected a signature as text, got {signature!r}, at signature"
        raise ConfigError(text, path="signature", expected="a signature as text", got=signature)
    PredictOptions.of({name: value for name, value in settings.items() if name in _OPTIONS})  # which checks them
