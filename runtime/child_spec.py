"""Child specs: how a supervisor starts, restarts and stops one child (OTP SUP-01, SUP-02).

A spec is a value. An actor offers one, a supervisor takes it; neither needs to know the other.
"""

from __future__ import annotations

import inspect
import math
import random
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from datetime import timedelta
from typing import Any, Final, Literal, Never, Protocol, cast, get_args

from thespian.actors import Actor

from .errors import SpecError, did_you_mean
from .messages import Opens

Restart = Literal["permanent", "transient", "temporary"]
ChildType = Literal["worker", "supervisor"]
Placement = Literal["local", "process"]
AutoShutdown = Literal["never", "any_significant", "all_significant"]

BRUTAL_KILL: Final = "brutal_kill"
INFINITY: Final = "infinity"
Shutdown = float | Literal["brutal_kill", "infinity"]

WORKER_SHUTDOWN: Final = 5.0
LONGEST_BARE_SECONDS: Final = 3600.0

RESTARTS: Final = get_args(Restart)
CHILD_TYPES: Final = get_args(ChildType)
PLACEMENTS: Final = get_args(Placement)
_NOT_ARGUMENTS: Final = ("name", "supervised", "replaces", "restart_context", "placement")
"""Keyword arguments of ``spawn_link`` that are the supervisor's to give: they would never reach the child."""


class CertainSeconds(float):
    """Seconds that were checked once: a copied spec is not asked again whether they are milliseconds."""


class RestartDelay(Protocol):
    """How long to wait before a restart; our addition beside OTP's rule, off unless a spec has one."""

    @property
    def reset_after(self) -> float:
        """Seconds of running after which a child's failures are forgotten."""
        ...

    def delay(self, failures: int, rng: random.Random) -> float:
        """Seconds to wait before the restart that follows ``failures`` (1, 2, ..) failures in a row."""
        ...


@dataclass(frozen=True, slots=True, init=False)
class ChildSpec:
    """How to start, restart and stop one child. Checked when made.

    Attributes:
        id: the child's id within its supervisor; any hashable value.
        start: an actor class, or a start function. A start function is called, plain or async, as
            ``start(start_link, *args, **kwargs)`` inside the supervisor, and ends by returning what
            ``await start_link(ActorClass, ...)`` gave it. It may fail by returning ``StartFailed(reason)``
            or any other value (which then is the reason), or by raising (OTP SUP-07).
        args: positional arguments of ``start``.
        kwargs: keyword arguments of ``start``. Of an actor class, ``start_timeout`` (seconds) and
            ``mailbox_limit`` go to the engine.
        restart: ``permanent``: always; ``transient``: after an abnormal end; ``temporary``: never.
        shutdown: seconds between the request to stop and the kill, ``"brutal_kill"`` (kill at once) or
            ``"infinity"``. Default 5 s for workers, infinity for supervisors. Over an hour: a timedelta.
        type: ``worker`` or ``supervisor``.
        significant: its end may end the supervisor (``auto_shutdown``).
        name: the registered name, ``kind/id``, or None.
        backoff: a delay before each restart, or None: at once, as OTP does.
        placement: where the child runs; ``local`` is the supervisor's own process, ``process`` a child
            interpreter of its own (see ``runtime/placement``). Then class and arguments must pickle.

    Raises:
        SpecError: an option is unknown, or a value is not allowed; ``reason`` is OTP's term for it
            (OTP SUP-02).
    """

    id: Hashable
    start: Callable[..., Any]
    args: tuple[Any, ...] = field(default=(), repr=False)  # may hold what no log should show
    kwargs: Mapping[str, Any] = field(default_factory=dict[str, Any], repr=False, hash=False)
    restart: Restart = "permanent"
    shutdown: Shutdown = WORKER_SHUTDOWN
    type: ChildType = "worker"
    significant: bool = False
    name: str | None = None
    backoff: RestartDelay | None = None
    placement: Placement = "local"

    def __init__(
        self,
        id: Hashable,
        start: Callable[..., Any],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
        restart: Restart = "permanent",
        shutdown: Shutdown | timedelta | None = None,
        type: ChildType = "worker",
        significant: bool = False,
        name: str | None = None,
        backoff: RestartDelay | None = None,
        placement: Placement = "local",
        **unknown: Never,
    ) -> None:
        kwargs = {} if kwargs is None else kwargs
        if unknown:
            check_options("child spec", unknown, SPEC_FIELDS)
        # In OTP's order, so that of several mistakes the same one is named.
        _check_start(start, args, kwargs)
        if restart not in RESTARTS:
            raise _bad("restart", "restart_type", restart, one_of=RESTARTS)
        if significant is not True and significant is not False:
            raise _bad("significant", "significant", significant, "True or False")
        if type not in CHILD_TYPES:
            raise _bad("type", "child_type", type, one_of=CHILD_TYPES)
        put = object.__setattr__
        put(self, "shutdown", _checked_shutdown(shutdown, type))
        _check_additions(id, name, backoff, placement)
        put(self, "id", id)
        put(self, "start", start)
        put(self, "args", args)
        put(self, "kwargs", kwargs)
        put(self, "restart", restart)
        put(self, "type", type)
        put(self, "significant", significant)
        put(self, "name", name)
        put(self, "backoff", backoff)
        put(self, "placement", placement)

    @classmethod
    def from_mapping(cls, mapping: Mapping[str, Any]) -> ChildSpec:
        """Make a spec from OTP's map form, by OTP's rules to the letter (OTP SUP-02).

        Unknown keys are ignored. ``start`` is an actor class, a start function, or a tuple
        ``(start, args)`` or ``(start, args, kwargs)``.

        Raises:
            SpecError: ``reason`` is ``missing_id``, ``missing_start``, ``("invalid_mfa", x)``,
                ``("invalid_restart_type", x)``, ``("invalid_significant", x)``,
                ``("invalid_child_type", x)``, ``("invalid_shutdown", x)`` or ``("invalid_child_spec", x)``.
        """
        given: Any = mapping
        if not isinstance(given, Mapping):
            # Only its type: written as a tuple or a text, it may hold what no log should show.
            kind = cast("type[object]", type(given))
            raise SpecError(
                f"expected a child spec as a mapping, got {kind.__qualname__}", reason=("invalid_child_spec", kind)
            )
        for key in ("id", "start"):
            if key not in mapping:
                keys = ", ".join(map(repr, mapping))
                raise SpecError(f"expected a child spec with {key!r}, got the keys {keys}", reason=f"missing_{key}")
        known = {key: value for key, value in mapping.items() if key in SPEC_FIELDS}
        known.update(_split_start(mapping["start"]))
        return cls(**known)


SPEC_FIELDS: Final = tuple(each.name for each in fields(ChildSpec))


def child_spec(id: Hashable, start: Callable[..., Any], *args: Any, **options: Any) -> ChildSpec:
    """A child spec in one line: ``child_spec("qa", Predict, "question -> answer", restart="transient")``.

    Args:
        id: the child's id within its supervisor.
        start: an actor class or a start function.
        *args: positional arguments of ``start``.
        **options: any other field of :class:`ChildSpec`.

    Raises:
        SpecError: an option is unknown (with the nearest known one), or a value is not allowed.
    """
    check_options("child_spec", options, SPEC_FIELDS)
    if args:
        options["args"] = (*args, *options.get("args", ()))
    return ChildSpec(id=id, start=start, **options)


def as_child_spec(given: ChildSpec | Mapping[str, Any] | type[Actor]) -> ChildSpec:
    """Accept the three ways to write a child: a spec, OTP's map, or an actor class.

    A class answers for itself with a ``child_spec()`` class method, or is a worker whose id is its name.

    Raises:
        SpecError: it is none of them, or malformed; or the class's own ``child_spec()`` failed.
    """
    if isinstance(given, ChildSpec):
        return given
    if not isinstance(given, type):
        return ChildSpec.from_mapping(given)
    offer: Callable[[], object] | None = getattr(given, "child_spec", None)
    return ChildSpec(given.__name__, given) if offer is None else _offered(given, offer)


def _offered(cls: type, offer: Callable[[], object]) -> ChildSpec:
    reason = ("invalid_child_spec", cls)
    try:
        spec = offer()
    except SpecError:
        raise
    except Exception as error:  # fault boundary: it is the user's code, and a supervisor may be asking
        got = f"{type(error).__name__}: {error}"
        raise SpecError(f"{cls.__qualname__}.child_spec(): expected a child spec, got {got}", reason=reason) from error
    if not isinstance(spec, ChildSpec):
        got = type(spec).__qualname__
        raise SpecError(f"{cls.__qualname__}.child_spec(): expected a ChildSpec, got {got}", reason=reason)
    return spec


def check_significance(spec: ChildSpec, auto_shutdown: AutoShutdown) -> None:
    """Refuse a significant child where its end could mean nothing (OTP SUP-60, SUP-64).

    Raises:
        SpecError: ``reason`` is ``("bad_combination", ...)``.
    """
    if not spec.significant:
        return
    for word, value, bad in (("auto_shutdown", auto_shutdown, "never"), ("restart", spec.restart, "permanent")):
        if value == bad:
            raise SpecError(
                f"child {spec.id!r} is significant, which does not go with {word} {value!r}",
                reason=("bad_combination", ((word, value), ("significant", True))),
            )


def check_options(where: str, given: Mapping[str, Any], known: tuple[str, ...]) -> None:
    """Refuse option names that are not known.

    Raises:
        SpecError: names the first unknown one, and the nearest known one.
    """
    for name in given:
        if name not in known:
            raise SpecError(
                f"{where}: unknown option {name!r}{did_you_mean(name, known)} (known: {', '.join(known)})",
                reason=("unknown_option", name),
            )


def check_arguments(args: object, kwargs: object) -> None:
    """Check what a start is called with. Errors name types only: the values may be secret.

    Raises:
        SpecError: ``reason`` is ``("invalid_mfa", ...)``.
    """
    if not isinstance(args, tuple):
        raise _bad("args", "mfa", type(args), "a tuple")
    if not isinstance(kwargs, Mapping):
        raise _bad("kwargs", "mfa", type(kwargs), "a mapping")
    for key in cast("Mapping[object, Any]", kwargs):
        if not isinstance(key, str):
            raise _bad("kwargs", "mfa", type(key), "argument names as keys")
        if key in _NOT_ARGUMENTS:
            own = key in SPEC_FIELDS
            hint = ": a child spec has a field for it" if own else ": the engine takes it for itself"
            raise _bad("kwargs", "mfa", key, f"no {key!r} here{hint}")


def check_name(name: object) -> None:
    """Check a registered name.

    Raises:
        SpecError: ``reason`` is ``("invalid_name", name)``.
    """
    if name is not None and (not isinstance(name, str) or not name):
        raise _bad("name", "name", name, "a text such as 'module/qa', or None")


def checked_seconds(value: object) -> float | None:
    """``value`` in seconds, or None if it is no duration that we accept.

    A bare number over an hour is more likely milliseconds, and refused; a timedelta carries its unit.
    """
    if isinstance(value, CertainSeconds):
        return value
    if isinstance(value, timedelta):
        return CertainSeconds(value.total_seconds())
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
        return None
    return CertainSeconds(value) if value <= LONGEST_BARE_SECONDS else None


def _check_additions(id: object, name: object, backoff: object, placement: object) -> None:
    try:
        hash(id)
    except TypeError:
        raise _bad("id", "id", id, "a hashable value") from None
    check_name(name)
    if backoff is not None and not callable(getattr(backoff, "delay", None)):
        raise _bad("backoff", "backoff", backoff, "a Backoff, or None")
    if placement not in PLACEMENTS:
        raise _bad("placement", "placement", placement, one_of=PLACEMENTS)


def _check_start(start: Any, args: object, kwargs: object) -> None:
    if isinstance(start, type):
        if not issubclass(start, Actor):
            raise _bad("start", "mfa", start, "a subclass of Actor or a start function")
    elif not callable(start):
        raise _bad("start", "mfa", start, "an actor class or a start function")
    check_arguments(args, kwargs)


def _checked_shutdown(shutdown: object, child_type: ChildType) -> Shutdown:
    if shutdown is None:
        return WORKER_SHUTDOWN if child_type == "worker" else INFINITY
    if isinstance(shutdown, str):
        if shutdown == BRUTAL_KILL:
            return BRUTAL_KILL
        if shutdown == INFINITY:
            return INFINITY
        raise _bad("shutdown", "shutdown", shutdown, one_of=(BRUTAL_KILL, INFINITY))
    seconds = checked_seconds(shutdown)
    if seconds is None or seconds < 0:
        wanted = "seconds (0 to 3600; longer as a timedelta), 'brutal_kill' or 'infinity'"
        raise _bad("shutdown", "shutdown", shutdown, wanted)
    return seconds


def _split_start(start: object) -> dict[str, Any]:
    if not isinstance(start, (tuple, list)):
        return {"start": start}
    parts = tuple(cast("Sequence[Any]", start))
    if len(parts) not in {2, 3} or not isinstance(parts[1], (tuple, list)):
        # Of what may be arguments only the types.
        shown = (parts[0], *map(type, parts[1:])) if callable(parts[0] if parts else None) else tuple(map(type, parts))
        raise _bad("start", "mfa", shown, "(start, args) or (start, args, kwargs)")
    args = cast("Sequence[Any]", parts[1])
    return {"start": parts[0], "args": tuple(args), "kwargs": parts[2] if len(parts) == 3 else {}}


def _bad(key: str, otp_word: str, got: Any, expected: str = "", *, one_of: tuple[str, ...] = ()) -> SpecError:
    hint = did_you_mean(got, one_of) if isinstance(got, str) and one_of else ""
    wanted = expected or "one of " + ", ".join(map(repr, one_of))
    shown = got.__qualname__ if inspect.isclass(got) else repr(got)
    return SpecError(f"child spec, {key}: expected {wanted}, got {shown}{hint}", reason=(f"invalid_{otp_word}", got))


@dataclass(frozen=True, slots=True)
class StartChild(Opens):
    """Asks a supervisor to start a child and supervise it (OTP SUP-70, DYN-02).

    It stands here so that an actor may ask the supervisor beside it, without knowing more of supervisors.

    Answers ``Started(address, info)``, or ``Ignored()`` if its start function said ignore.

    Args:
        spec: the child spec.
        unclaimed: what is cast to the child if whoever asked has given up before the answer came; None: nothing, it
            runs on.

    Raises at the caller:
        SpecError: the spec is malformed.
        AlreadyStarted: static only; a child with this id runs (``address``).
        SupervisorError: ``already_present`` (static): the id is known, but not running;
            ``max_children`` (dynamic).
        StartError: it did not start. ``reason`` is ``(reason, spec)`` from a static supervisor, the
            bare reason from a dynamic one. Nothing is kept of it.
    """

    spec: ChildSpec | Mapping[str, Any] | type[Actor] = field(repr=False)  # as a mapping it shows its arguments
    unclaimed: Any = None

    def farewell(self) -> Any:
        """See :class:`~.messages.Opens`."""
        return self.unclaimed
