"""What code outside of actors asks of providers, checked where it is written rather than where it ends up."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import fields as fields_of
from typing import Any, Final, TypeVar, cast, get_args

from ...actors.lm.values import LMRequest, Message
from ...actors.providers.messages import Ask, OnLimit, OpenStream
from ...runtime.context import Context
from ...runtime.errors import UsageError, did_you_mean
from .life import Life
from .streams import Opening

A = TypeVar("A", bound=Ask)

FIELDS: Final = tuple(field.name for field in fields_of(LMRequest) if field.name != "messages")
"""What may be said of a request beside its messages."""


def check_who(user: object, trace_id: object) -> None:
    """Check on whose behalf a call is made, and which trace it joins: both are written into events.

    Raises:
        UsageError: one is neither a text nor None.
    """
    for name, value in (("user", user), ("trace_id", trace_id)):
        if value is not None and not (isinstance(value, str) and value.isprintable() and value):
            shown = type(value).__name__ if not isinstance(value, str) else repr(value)
            raise UsageError(f"expected a printable text or None, got {shown}, at {name}")


def check_on_limit(word: object) -> None:
    """Check what is to be done where there is no room.

    Raises:
        UsageError: it is no such word, nor None.
    """
    words = get_args(OnLimit)
    if word is not None and word not in words:
        hint = did_you_mean(word, words) if isinstance(word, str) else ""
        raise UsageError(f"expected {' or '.join(map(repr, words))} or None, got {word!r}, at on_limit{hint}")


def ask_of(
    life: Life,
    kind: type[A],
    messages: str | Sequence[Message],
    user: str | None,
    accounts: Sequence[str],
    on_limit: OnLimit | None,
    fields: Mapping[str, Any],
    **how: Any,
) -> tuple[A, Context]:
    """A request to a provider, and the trace that it begins.

    Raises:
        UsageError: a field is unknown, or an argument is of the wrong type.
        LMInvalidRequest: a field is out of range.
    """
    check_who(user, None)
    check_on_limit(on_limit)
    for name in fields:
        if name not in FIELDS:
            raise UsageError(f"expected one of {', '.join(FIELDS)}, got {name!r}{did_you_mean(name, FIELDS)}")
    request = LMRequest(_conversation(messages), **fields)
    ask = kind(request, accounts=_accounts(accounts), on_limit=on_limit, **how)
    return ask, Context.root(life.engine.ids, user=user)


def stream_of(
    life: Life,
    provider: str,
    messages: str | Sequence[Message],
    timeout: float | None,
    user: str | None,
    max_demand: int,
    accounts: Sequence[str],
    on_limit: OnLimit | None,
    fields: Mapping[str, Any],
) -> Opening:
    """How a stream of a provider is begun. Raises as :func:`ask_of`."""
    asked, context = ask_of(life, OpenStream, messages, user, accounts, on_limit, fields)
    return Opening(f"provider/{provider}", asked, {"timeout": timeout, "context": context}, max_demand)


def _conversation(messages: object) -> tuple[Message, ...]:
    if isinstance(messages, str):
        return (Message("user", messages),)
    if not isinstance(messages, Sequence):
        raise UsageError(f"expected a text or a list of messages, got {type(messages).__name__}, at messages")
    return tuple(cast("Sequence[Message]", messages))


def _accounts(accounts: object) -> tuple[str, ...]:
    # A text is a sequence of texts too: one account for each letter is not what anybody means.
    if isinstance(accounts, str) or not isinstance(accounts, Sequence):
        raise UsageError(f"expected a list of accounts' names, got {type(accounts).__name__}, at accounts")
    found = tuple(cast("Sequence[object]", accounts))
    for account in found:
        if not (isinstance(account, str) and account):
            raise UsageError(f"expected a list of accounts' names, got {account!r} in it, at accounts")
    return cast("tuple[str, ...]", found)
