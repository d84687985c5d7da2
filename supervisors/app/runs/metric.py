"""Whom a run asks beside its module, judges and metrics that are actors among them: it must be there at the start."""

from __future__ import annotations

from functools import partial

from ....actors.evaluation.scoring import ActorMetric, Scorer
from ....actors.runs.program import models_of
from ....actors.scorers.llm_judge import LMJudge
from ....runtime.errors import ConfigError
from ..life import Life
from ..views import CALL_TIMEOUT


async def judges_of(life: Life, scorer: Scorer) -> str | None:
    """Which models judge, in words; None if none does.

    Raises:
        ConfigError: the metric asks somebody who is not there.
    """
    metric = scorer.metric
    if isinstance(metric, ActorMetric):
        must_be_there(life, metric.name, "metric")
    if not isinstance(metric, LMJudge):
        return None
    must_be_there(life, f"provider/{metric.provider}", "metric")
    return await models_of(partial(life.call, timeout=CALL_TIMEOUT), metric.provider, metric.model)


def must_be_there(life: Life, name: str, where: str) -> None:
    """Refuse the name of an actor that nobody has; one that is being restarted is there.

    Raises:
        ConfigError: nobody has it, or whoever had it is dead.
    """
    entry = life.entry(name)
    if entry is not None and entry.state != "dead":
        return
    raise ConfigError(
        f"expected an actor that is there, got {name!r}{life.engine.names.near(name)}, at {where}",
        path=where,
        expected="an actor that is there",
        got=name,
    )
