"""Which combination of choices to try next: optuna's tree-structured Parzen estimator, seeded, in memory.

Bergstra et al., "Algorithms for Hyper-Parameter Optimization", NIPS 2011. The study is made anew with each search, and
with the same seed and the same scores in the same order asks for the same combinations.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from typing import Any, Final, TypeAlias

from ...runtime.errors import ConfigError

Combination: TypeAlias = tuple[int, ...]
"""One choice for each parameter, in their order."""
_TRIES: Final = 8
"""How often more is asked for a combination that is new."""


class Tpe:
    """A study.

    Args:
        choices: how many there are of each parameter.
        seed: decides what is asked, with the scores; of 32 bits.
        startup: combinations that are drawn at random before scores are looked at.

    Raises:
        ConfigError: the extra ``optimize`` is not installed.
    """

    def __init__(self, choices: Mapping[str, int], *, seed: int, startup: int) -> None:
        optuna = load_optuna()
        self._choices = dict(choices)
        self._failed = optuna.trial.TrialState.FAIL
        sampler = optuna.samplers.TPESampler(seed=seed, n_startup_trials=startup)
        before = optuna.logging.get_verbosity()
        optuna.logging.set_verbosity(optuna.logging.WARNING)  # it announces each study
        try:
            self._study = optuna.create_study(direction="maximize", sampler=sampler)
        finally:
            optuna.logging.set_verbosity(before)
        self._open: dict[Combination, Any] = {}

    def ask(self, count: int, known: Mapping[Combination, float]) -> list[Combination]:
        """Up to ``count`` different combinations; none of those whose score is ``known``: the study is told it."""
        self._open = {}
        for _ in range(count * _TRIES):
            if len(self._open) == count:
                break
            trial = self._study.ask()
            combination = tuple(
                int(trial.suggest_categorical(name, range(choices))) for name, choices in self._choices.items()
            )
            if combination in known:
                self._study.tell(trial, known[combination])
            elif combination in self._open:
                self._study.tell(trial, state=self._failed)
            else:
                self._open[combination] = trial
        return list(self._open)

    def tell(self, combination: Combination, score: float) -> None:
        """The score of a combination that was asked for."""
        self._study.tell(self._open.pop(combination), score)


def load_optuna() -> Any:
    """Optuna, loaded when it is first needed.

    Raises:
        ConfigError: it is not installed.
    """
    try:
        return importlib.import_module("optuna")
    except ImportError as error:
        raise ConfigError(
            f"expected optuna to be installed (pip install 'dspex[optimize]'), got {error}, at method",
            path="method",
            expected="the extra optimize",
            got=str(error),
        ) from None
