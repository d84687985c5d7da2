"""How the registry finds out whether an actor is well: six outcomes, none of them an exception."""

from __future__ import annotations

from typing import Any

from ...runtime.errors import ActorDied, CallTimeout, Error, NameUnavailable, NoProcess, UnknownMessage
from ...runtime.gen_server import GenServer
from ...runtime.messages import GetStatistics
from ..scrub import scrub
from .messages import HealthCheck, HealthReport, Outcome
from .rows import REASON_LENGTH, reason_text


async def check_health(asker: GenServer, question: HealthCheck) -> HealthReport:
    """Ask one actor; to be run as a task of ``asker``.

    Args:
        asker: the actor that asks.
        question: whom, with what, and how long it may take.
    """
    engine = asker.system
    began = engine.now()
    outcome, detail = await _ask(asker, question)
    text = None if detail is None else scrub(detail[: 4 * REASON_LENGTH])[:REASON_LENGTH]
    return HealthReport(question.name, outcome, text, engine.now() - began)


async def _ask(asker: GenServer, question: HealthCheck) -> tuple[Outcome, str | None]:
    entry = asker.system.names.get(question.name)
    if entry is None or entry.state != "running":
        return "dead", "nobody has this name" if entry is None else f"it is {entry.state}"
    message: Any = GetStatistics() if question.check is None else question.check
    try:
        answer = await asker.call(question.name, message, timeout=question.timeout, fail_fast=True)
    except CallTimeout as error:
        return "timeout", str(error)
    except (NoProcess, NameUnavailable) as error:
        return "dead", str(error)
    except ActorDied as error:
        return "crashed", reason_text(error.reason)
    except Error as error:
        if question.check is None and isinstance(error, UnknownMessage):
            return "healthy", None  # a plain Thespian actor knows no system message, but it lives to say so
        return "error", f"{error.code}: {error}"
    except Exception as error:  # fault boundary: an actor may refuse with any exception, and the registry must live
        return "error", f"{type(error).__name__}: {error}"
    well = answer is None or answer is True or (isinstance(answer, str) and answer == "ok")
    return ("healthy", None) if well or question.check is None else ("failed", _shown(answer))


def _shown(answer: object) -> str:
    try:
        return repr(answer)
    except Exception:  # fault boundary: the answer's own __repr__
        return type(answer).__name__
