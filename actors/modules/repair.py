"""The repair round: an answer that does not fit is shown to the model with what is wrong, once."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import replace
from decimal import Decimal
from typing import Any, Final, TypeAlias

from ...runtime.errors import CallError, LMError, ParseError
from ..lm.values import LMResponse, Message, Usage, UsageSource
from .outputs import AnswerPlan, read_outputs

Messages: TypeAlias = tuple[Message, ...]
Asking: TypeAlias = Callable[[Messages], Awaitable[LMResponse]]

SHOWN: Final = 20_000
"""Characters of a wrong answer that the model is shown."""
_COUNTS: Final = (
    "input_tokens",
    "output_tokens",
    "total_tokens",
    "cached_tokens",
    "cache_write_tokens",
    "reasoning_tokens",
)
_SOURCES: Final[tuple[UsageSource, ...]] = ("unknown", "estimated", "provider")  # the worse one counts
_FINAL: Final = ("length", "content_filter")


async def read_or_repair(
    plan: AnswerPlan, messages: Messages, response: LMResponse, ask: Asking
) -> tuple[dict[str, Any], LMResponse]:
    """The outputs of an answer; if it does not fit the signature, those of a second one.

    There is one repair at most, if the plan has it, and none of a refusal or of an answer that was cut off: the model
    could but do the same again.

    Args:
        plan: what the module works with.
        messages: what was asked.
        response: the answer.
        ask: sends messages and gives the answer, within the time that is left.

    Returns:
        The outputs, and the last answer, whose usage, cost and attempts are those of both.

    Raises:
        ParseError: no answer fits (fact ``repairs``); or the first did not, and the request for the second failed
            (fact ``repair_error``, its code).
    """
    try:
        return read_outputs(plan, response), response
    except ParseError as error:
        if not plan.retry_failed_predictions or not repairable(response):
            raise
        wrong = error
    try:
        second = await ask((*messages, *repair_messages(response.text, wrong)))
    except (LMError, CallError) as failed:
        message = f"{wrong.message}; it could not be repaired: {failed.message}"
        raise ParseError(message, **{**wrong.facts, "repair_error": failed.code}) from failed
    try:
        return read_outputs(plan, second), both(response, second)
    except ParseError as error:
        raise ParseError(error.message, **{**error.facts, "repairs": 1}) from wrong


def repairable(response: LMResponse) -> bool:
    """Whether asking again may help."""
    return response.refusal is None and response.finish_reason not in _FINAL


def repair_messages(answer: str, wrong: ParseError) -> Messages:
    """The wrong answer, and what is wrong with it; providers refuse an empty turn, so that one is only told of."""
    problem = (
        f"Your answer does not fit: {wrong.message}.\nWrite the whole answer again, in the form that was asked for."
    )
    asked = Message("user", problem)
    if not answer.strip():
        return (asked,)
    shown = answer if len(answer) <= SHOWN else f"{answer[:SHOWN]}..."
    return (Message("assistant", shown), asked)


def both(first: LMResponse, second: LMResponse) -> LMResponse:
    """The second answer, with the usage, cost and attempts of both."""
    return replace(
        second,
        usage=_usage(first.usage, second.usage),
        cost=_cost(first.cost, second.cost),
        attempts=(*first.attempts, *second.attempts),
        cache_hit=first.cache_hit and second.cache_hit,
    )


def _usage(first: Usage, second: Usage) -> Usage:
    # What is not known of one is not known of both.
    counts: dict[str, Any] = {}
    for name in _COUNTS:
        one, other = getattr(first, name), getattr(second, name)
        counts[name] = None if one is None or other is None else one + other
    sources = {first.source, second.source}
    source: UsageSource = next(name for name in _SOURCES if name in sources)
    return Usage(source=source, **counts)


def _cost(first: Decimal | None, second: Decimal | None) -> Decimal | None:
    return None if first is None or second is None else first + second
