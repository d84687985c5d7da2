"""What a supervisor does about an end, as pure functions of what it knows (OTP 1.2 to 1.7).

No actor is touched here: children in, decisions out.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable
from dataclasses import dataclass
from typing import Literal, Protocol

from ..runtime.child_spec import BRUTAL_KILL, AutoShutdown, Restart, Shutdown
from ..runtime.reasons import KILLED, NORMAL, SHUTDOWN, Reason, is_normal
from .flags import Strategy

ChildState = Literal["running", "restarting", "undefined"]
"""OTP's words: it has a process; a restart failed and will be tried again; spec kept, no process."""

Verdict = Literal["restart", "keep", "forget"]


class Member(Protocol):
    """One child as the strategies see it."""

    @property
    def id(self) -> Hashable:
        """Its id."""
        ...

    @property
    def restart(self) -> Restart:
        """Its restart type."""
        ...

    @property
    def significant(self) -> bool:
        """Whether its end may end the supervisor."""
        ...

    @property
    def state(self) -> ChildState:
        """Whether it runs."""
        ...


@dataclass(frozen=True, slots=True)
class Plan:
    """One restart.

    Attributes:
        stop: ids of running siblings, in the order in which they stop.
        forget: ids of temporary siblings, dropped once stopped (OTP SUP-33).
        start: ids in the order in which they start; the first failure ends the attempt.
    """

    stop: tuple[Hashable, ...]
    forget: tuple[Hashable, ...]
    start: tuple[Hashable, ...]


def verdict(restart: Restart, reason: Reason) -> Verdict:
    """What becomes of a child that ended with ``reason`` (the table of OTP 1.3)."""
    if restart == "temporary":
        return "forget"
    if restart == "permanent" or not is_normal(reason):
        return "restart"
    return "keep"


def end_is_reported(restart: Restart, reason: Reason) -> bool:
    """Whether an end makes a child_terminated report (OTP 1.3, LOG-01)."""
    return restart == "permanent" or not is_normal(reason)


def plan_restart(strategy: Strategy, children: Iterable[Member], failed: Hashable) -> Plan:
    """Plan the restart of ``failed``, which is not running (OTP SUP-30 to SUP-34, SUP-51, SUP-52).

    A retry is planned alike, with the child whose start failed: so one_for_all begins again at the
    first child, and rest_for_one at the one that failed.

    Args:
        strategy: the supervisor's.
        children: all children, in start order.
        failed: the id of the child that died, or whose start failed.
    """
    if strategy in ("one_for_one", "simple_one_for_one"):
        return Plan((), (), (failed,))
    everyone = tuple(children)
    group = everyone if strategy == "one_for_all" else everyone[_place(everyone, failed) :]
    others = [child for child in reversed(group) if child.id != failed]
    return Plan(
        stop=tuple(child.id for child in others if child.state == "running"),
        forget=tuple(child.id for child in others if child.restart == "temporary"),
        start=tuple(child.id for child in group if child.restart != "temporary" or child.id == failed),
    )


def shuts_down(auto_shutdown: AutoShutdown, ended: Member, left: Iterable[Member]) -> bool:
    """Whether the end of ``ended``, which is not restarted, ends the supervisor (OTP SUP-61, 62, 66).

    Args:
        auto_shutdown: the supervisor's.
        ended: the child that ended by itself.
        left: the other children.
    """
    if auto_shutdown == "never" or not ended.significant:
        return False
    if auto_shutdown == "any_significant":
        return True
    return not any(child.significant and child.state != "undefined" for child in left)


def stop_is_expected(restart: Restart, shutdown: Shutdown, reason: Reason) -> bool:
    """Whether a static child that was asked to stop ended as asked (OTP SUP-14)."""
    if reason == (KILLED if shutdown == BRUTAL_KILL else SHUTDOWN):
        return True
    return restart != "permanent" and is_normal(reason)


def parallel_stop_is_expected(restart: Restart, shutdown: Shutdown, reason: Reason) -> bool:
    """The same for a child of a dynamic or simple_one_for_one supervisor (OTP SIM-06, DYN-09)."""
    if shutdown == BRUTAL_KILL:
        return bool(reason == KILLED)
    return is_normal(reason) and (reason != NORMAL or restart != "permanent")


def earlier_end_is_expected(restart: Restart, reason: Reason) -> bool:
    """The same for one that a parallel stop finds dead already, its exit not yet handled."""
    return bool(reason == NORMAL) and restart != "permanent"


def _place(children: Iterable[Member], failed: Hashable) -> int:
    return next(place for place, child in enumerate(children) if child.id == failed)
