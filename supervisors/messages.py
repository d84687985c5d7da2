"""Management calls of supervisors, and what they answer (OTP 1.8 to 1.10).

All are calls. In OTP they have no timeout, and a supervisor serves nothing else while a child of it
starts or stops (OTP SUP-78): pass ``timeout=None`` unless the caller has a deadline of its own.
A refused call raises at the caller; ``error.reason`` is OTP's term for the refusal.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from dataclasses import dataclass, field
from typing import Any

from thespian.actors import ActorAddress

from ..runtime.child_spec import ChildType, check_arguments, check_name
from .strategy import ChildState


@dataclass(frozen=True, slots=True)
class StartInstance:
    """Start one more child of a simple_one_for_one supervisor, with extra arguments (OTP SIM-02).

    Answers as :class:`StartChild`.

    Raises:
        SpecError: the arguments are no tuple, or the keyword arguments no mapping, or hold ``name``; or
            the name is no text.
    """

    args: tuple[Any, ...] = field(default=(), repr=False)  # may hold what no log should show
    kwargs: Mapping[str, Any] = field(default_factory=dict[str, Any], repr=False)
    name: str | None = None

    def __post_init__(self) -> None:
        check_arguments(self.args, self.kwargs)
        check_name(self.name)


@dataclass(frozen=True, slots=True)
class TerminateChild:
    """Stop a child: by its id (static), by its address or registered name (dynamic, simple). Answers None.

    It never triggers a restart. A static supervisor keeps the spec, unless the child is temporary
    (OTP SUP-71, SIM-03, DYN-04).

    Raises at the caller:
        SupervisorError: ``not_found``; ``simple_one_for_one`` for an id.
    """

    child: Hashable | ActorAddress


@dataclass(frozen=True, slots=True)
class RestartChild:
    """Start a child that is not running, by its id; static only (OTP SUP-72). Answers as :class:`StartChild`.

    Raises at the caller:
        SupervisorError: ``running``, ``restarting`` or ``not_found``.
        StartError: it did not start (``reason`` unwrapped); its spec is kept.
    """

    id: Hashable


@dataclass(frozen=True, slots=True)
class DeleteChild:
    """Forget the spec of a child that is not running, by its id; static only (OTP SUP-73). Answers None.

    Raises at the caller:
        SupervisorError: ``running``, ``restarting`` or ``not_found``.
    """

    id: Hashable


@dataclass(frozen=True, slots=True)
class WhichChildren:
    """List the children: a tuple of :class:`ChildInfo`, newest first (OTP SUP-74)."""


@dataclass(frozen=True, slots=True)
class WhichChild:
    """One row of the listing, by id (static) or by address (OTP 27's which_child).

    Raises at the caller:
        SupervisorError: ``not_found``.
    """

    child: Hashable | ActorAddress


@dataclass(frozen=True, slots=True)
class CountChildren:
    """Count the children: a :class:`ChildCounts` (OTP SUP-75)."""


@dataclass(frozen=True, slots=True)
class GetChildSpec:
    """The full spec of a child, by id (static) or by address (OTP SUP-76, SIM-04).

    Raises at the caller:
        SupervisorError: ``not_found``.
    """

    child: Hashable | ActorAddress


@dataclass(frozen=True, slots=True)
class ChildInfo:
    """One row of a listing.

    Attributes:
        id: the child's id; None in a simple_one_for_one or dynamic supervisor.
        state: ``running``, ``restarting``, or ``undefined`` (spec kept, no process).
        address: its process, if it runs.
        type: ``worker`` or ``supervisor``.
        start: the class or start function, as text.
        name: its registered name, or None.
    """

    id: Hashable
    state: ChildState
    address: ActorAddress | None
    type: ChildType
    start: str
    name: str | None = None


@dataclass(frozen=True, slots=True)
class ChildCounts:
    """How many children.

    Attributes:
        specs: all specs.
        active: those with a process.
        supervisors: specs of type supervisor, running or not.
        workers: specs of type worker, running or not.
    """

    specs: int
    active: int
    supervisors: int
    workers: int
