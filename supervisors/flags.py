"""Supervisor flags: strategy, restart intensity, auto-shutdown (OTP SUP-01, SUP-02, SUP-68)."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Final, Literal, cast, get_args

from ..runtime.child_spec import AutoShutdown, checked_seconds
from ..runtime.errors import SpecError, did_you_mean
from .intensity import RestartWindow

Strategy = Literal["one_for_one", "one_for_all", "rest_for_one", "simple_one_for_one"]
STRATEGIES: Final = get_args(Strategy)
STATIC_STRATEGIES: Final = STRATEGIES[:3]
AUTO_SHUTDOWNS: Final = get_args(AutoShutdown)


@dataclass(frozen=True, slots=True)
class Flags:
    """What holds for a supervisor as a whole. Checked when made.

    Args:
        strategy: which siblings a restart moves.
        max_restarts: restarts allowed within ``max_seconds``; the next one ends the supervisor.
        max_seconds: the window, in seconds; over an hour as a timedelta.
        auto_shutdown: whether the end of significant children ends the supervisor.

    Raises:
        SpecError: ``reason`` is ``("supervisor_data", E)``, as a start with such flags answers in OTP.
    """

    strategy: Strategy = "one_for_one"
    max_restarts: int = 3
    max_seconds: float | timedelta = 5.0
    auto_shutdown: AutoShutdown = "never"

    def __post_init__(self) -> None:
        if self.strategy not in STRATEGIES:
            raise _bad("strategy", "strategy", self.strategy, one_of=STRATEGIES)
        check_intensity(self.max_restarts, self.max_seconds)
        if self.auto_shutdown not in AUTO_SHUTDOWNS:
            raise _bad("auto_shutdown", "auto_shutdown", self.auto_shutdown, one_of=AUTO_SHUTDOWNS)
        if self.strategy == "simple_one_for_one" and self.auto_shutdown != "never":
            combination = (("auto_shutdown", self.auto_shutdown), ("strategy", self.strategy))
            raise SpecError(
                f"supervisor flags: auto_shutdown {self.auto_shutdown!r} does not go with {self.strategy}",
                reason=("supervisor_data", ("bad_combination", combination)),
            )


@dataclass(frozen=True, slots=True)
class DynamicFlags:
    """Flags of a dynamic supervisor (OTP DYN-01). Checked when made.

    Args:
        max_restarts: as in :class:`Flags`.
        max_seconds: as in :class:`Flags`.
        max_children: how many children it may have, restarting ones included; None: any number.
        extra_arguments: come before the arguments of each child's own spec (OTP DYN-06).

    Raises:
        SpecError: ``reason`` is ``("supervisor_data", E)``.
    """

    max_restarts: int = 3
    max_seconds: float | timedelta = 5.0
    max_children: int | None = None
    extra_arguments: tuple[Any, ...] = ()

    def __post_init__(self) -> None:
        check_intensity(self.max_restarts, self.max_seconds)
        limit = cast("object", self.max_children)
        if limit is not None and (not isinstance(limit, int) or isinstance(limit, bool) or limit < 0):
            raise _bad("max_children", "max_children", limit, "a whole number from 0, or None")
        extra = cast("object", self.extra_arguments)
        if not isinstance(extra, (tuple, list)):
            raise _bad("extra_arguments", "extra_arguments", type(extra), "a tuple")  # the value may be secret
        object.__setattr__(self, "extra_arguments", tuple(self.extra_arguments))


def window_of(flags: Flags | DynamicFlags) -> RestartWindow:
    """An empty restart history for a supervisor with these flags (OTP SUP-42)."""
    return RestartWindow(flags.max_restarts, check_intensity(flags.max_restarts, flags.max_seconds))


def check_intensity(max_restarts: object, max_seconds: object) -> float:
    """Check both halves of a restart intensity; the window in seconds.

    Raises:
        SpecError: ``reason`` is ``("supervisor_data", ("invalid_intensity" or "invalid_period", x))``.
    """
    if not isinstance(max_restarts, int) or isinstance(max_restarts, bool) or max_restarts < 0:
        raise _bad("max_restarts", "intensity", max_restarts, "a whole number from 0")
    seconds = checked_seconds(max_seconds)
    if seconds is None or seconds <= 0:
        wanted = "seconds above 0 (up to 3600; longer as a timedelta)"
        raise _bad("max_seconds", "period", max_seconds, wanted)
    return seconds


def _bad(flag: str, otp_word: str, got: Any, expected: str = "", *, one_of: tuple[str, ...] = ()) -> SpecError:
    hint = did_you_mean(got, one_of) if isinstance(got, str) and one_of else ""
    wanted = expected or "one of " + ", ".join(map(repr, one_of))
    return SpecError(
        f"supervisor flags, {flag}: expected {wanted}, got {got!r}{hint}",
        reason=("supervisor_data", (f"invalid_{otp_word}", got)),
    )
