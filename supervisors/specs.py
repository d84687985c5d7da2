"""Checks of everything a supervisor is given, before anything starts (OTP SUP-02)."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping
from datetime import timedelta
from typing import Any, TypeAlias, cast

from thespian.actors import Actor

from ..runtime.child_spec import AutoShutdown, ChildSpec, as_child_spec, check_significance
from ..runtime.errors import SpecError
from .flags import Flags, Strategy

AnySpec: TypeAlias = ChildSpec | Mapping[str, Any] | type[Actor]
"""A child: a spec, OTP's map form, or an actor class."""
Seconds: TypeAlias = float | timedelta
"""Seconds; more than an hour as a timedelta."""


def static_flags(strategy: Strategy, max_restarts: int, max_seconds: Seconds, auto_shutdown: AutoShutdown) -> Flags:
    """Check the flags of a static supervisor.

    Raises:
        SpecError: ``reason`` is ``("supervisor_data", E)``.
    """
    if strategy == "simple_one_for_one":
        raise SpecError(
            "supervisor flags, strategy: simple_one_for_one has a class of its own, SimpleSupervisor",
            reason=("supervisor_data", ("invalid_strategy", strategy)),
        )
    return Flags(strategy, max_restarts, max_seconds, auto_shutdown)


def check_specs(children: Iterable[AnySpec], auto_shutdown: AutoShutdown) -> tuple[ChildSpec, ...]:
    """Check the children of a static supervisor (OTP SUP-02, SUP-60, SUP-64).

    Raises:
        SpecError: ``reason`` is ``("start_spec", E)``.
    """
    specs: dict[Hashable, ChildSpec] = {}
    several = cast("object", children)
    if not isinstance(several, Iterable) or isinstance(several, str | Mapping):
        got = type(children).__name__
        raise SpecError(f"children: expected several child specs, as a list, got one {got}", reason=("start_spec", got))
    for given in children:
        spec = _checked(given, auto_shutdown)
        if spec.id in specs:
            raise SpecError(
                f"two children have the id {spec.id!r}; ids are unique within a supervisor",
                reason=("start_spec", ("duplicate_child_name", spec.id)),
            )
        specs[spec.id] = spec
    return tuple(specs.values())


def check_template(template: AnySpec | Iterable[AnySpec] | None) -> ChildSpec:
    """The one child spec of a simple_one_for_one supervisor.

    Raises:
        SpecError: ``reason`` is ``("bad_start_spec", specs)`` if there is not exactly one (OTP SIM-01),
            or ``("start_spec", E)``.
    """
    several = () if template is None else template
    given: tuple[Any, ...] = tuple(several) if isinstance(several, (tuple, list)) else (several,)
    if len(given) != 1:
        raise SpecError(
            f"a simple_one_for_one supervisor has exactly one child spec, its template; got {len(given)}",
            reason=("bad_start_spec", given),
        )
    return _checked(given[0], "never")


def _checked(given: AnySpec, auto_shutdown: AutoShutdown) -> ChildSpec:
    try:
        spec = as_child_spec(given)
        check_significance(spec, auto_shutdown)
    except SpecError as error:
        raise SpecError(error.message, reason=("start_spec", error.reason)) from error
    return spec


def supervisor_child(
    id: Hashable, cls: type[Actor], flags: Mapping[str, Any], options: Mapping[str, Any], args: tuple[Any, ...] = ()
) -> ChildSpec:
    """A supervisor class as a child of another supervisor.

    Args:
        id: its id there; None takes the class's name.
        cls: the supervisor class.
        flags: keyword arguments of its ``init``.
        options: fields of the child spec.
        args: positional arguments of its ``init``.

    Raises:
        SpecError: an option is unknown or malformed.
    """
    fields: dict[str, Any] = {"type": "supervisor", **options}
    return ChildSpec(cls.__name__ if id is None else id, cls, args, flags, **fields)
