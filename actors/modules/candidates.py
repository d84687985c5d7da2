"""A module's plan in the states that optimizers try: each of them comes with many calls, and is worked out once."""

from __future__ import annotations

from typing import Final

from .plan import ModulePlan
from .program_state import ProgramState

MOST: Final = 16
"""Plans kept; a generation has fewer candidates."""


class Candidates:
    """Plans by the state they are in; those of an older base are forgotten."""

    def __init__(self) -> None:
        self._base: ModulePlan | None = None
        self._plans: dict[str, ModulePlan] = {}

    def plan(self, base: ModulePlan, state: ProgramState) -> ModulePlan:
        """The plan in this state.

        Raises:
            SignatureError: a demo does not fit its signature.
            ConfigError: there is no predictor of a name.
        """
        if base is not self._base:
            self._base, self._plans = base, {}
        found = self._plans.pop(state.key, None) or base.with_state(state)
        self._plans[state.key] = found  # last: those that were not called for long are in front
        if len(self._plans) > MOST:
            del self._plans[next(iter(self._plans))]
        return found
