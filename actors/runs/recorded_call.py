"""One model call of a run: answered from the run's journal, or sent and written down before anybody sees the answer."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from dataclasses import fields, replace
from decimal import Decimal
from typing import Any, Final, TypeVar

from ...runtime.errors import LMError, StoreError
from ...runtime.gen_server import GenServer
from ..lm.codec import decode_response, encode_response
from ..lm.values import LMRequest, LMResponse, Usage, canonical_json
from ..providers.messages import Ask
from .messages import Entry, Paid, Recall, Record
from .scope import RunScope

A = TypeVar("A", bound=Ask)
_USED: Final = tuple(field.name for field in fields(Usage))
_ASKED: Final = tuple(field.name for field in fields(LMRequest) if field.name not in ("messages", "_prompt"))


async def recorded(
    actor: GenServer, scope: RunScope, ordinal: int, ask: A, send: Callable[[A], Awaitable[LMResponse]]
) -> LMResponse:
    """The answer to a call that is made for a run.

    An answer is found again only for the very same request: where a program asks something else than it did, the
    model is asked. A failure is not recorded.

    Args:
        actor: who makes the call.
        scope: where in the run.
        ordinal: which call at that place, from 0.
        ask: what is asked.
        send: asks it; is given ``ask`` with the run's account added, ``run/<id>``, so that its budget holds.

    Raises:
        LMError: of ``send``.
        RunConflict: another process has taken the run over.
        StoreError: the answer cannot be written down; it was paid for.
        CallError: the run's journal is gone.
    """
    journal, key, question = f"run-journal/{scope.run}", scope.key(ordinal), fingerprint(ask)
    kept: str | None = await actor.call(journal, Recall("call", key), timeout=None)
    if kept is not None:
        stored = json.loads(kept)
        if stored["request"] == question:
            with suppress(StoreError, KeyError):  # kept by a version that wrote answers otherwise: asked again
                return _again(stored)
    account = f"run/{scope.run}"
    if account not in ask.accounts:
        ask = replace(ask, accounts=(*ask.accounts, account))
    response = await send(ask)
    kept = json.dumps({"request": question, **_kept(response)})
    await actor.call(journal, Record((Entry("call", key, kept),), paid=paid_for(response)), timeout=None)
    return response


def _kept(response: LMResponse) -> dict[str, Any]:
    return {
        "response": encode_response(response),
        "refusal": response.refusal,
        "usage": {name: getattr(response.usage, name) for name in _USED},
        "cost": None if response.cost is None else str(response.cost),
        "cache_hit": response.cache_hit,
    }


def _again(kept: Mapping[str, Any]) -> LMResponse:
    """An answer as it was; it says what it used, whenever that was."""
    return replace(
        decode_response(kept["response"]),
        refusal=kept["refusal"],
        usage=Usage(**kept["usage"]),
        cost=None if kept["cost"] is None else Decimal(kept["cost"]),
        cache_hit=kept["cache_hit"],
    )


def failure_entry(scope: RunScope, ordinal: int, ask: Ask, error: LMError) -> Entry:
    """That a call failed, for the journal: where the work goes on another way, it must do so after a crash too.

    Args:
        scope: where in the run.
        ordinal: which call at that place, from 0.
        ask: what was asked.
        error: how it failed.
    """
    kept = {"request": fingerprint(ask), "code": error.code, "message": error.message}
    return Entry("failure", scope.key(ordinal), json.dumps(kept))


async def recorded_failure(actor: GenServer, scope: RunScope, ordinal: int, ask: Ask) -> LMError | None:
    """The failure that the journal has of this very call, or None.

    Raises:
        CallError: the run's journal is gone.
    """
    wanted = Recall("failure", scope.key(ordinal))
    kept: str | None = await actor.call(f"run-journal/{scope.run}", wanted, timeout=None)
    if kept is None:
        return None
    stored = json.loads(kept)
    if stored["request"] != fingerprint(ask):
        return None
    return _KINDS.get(stored["code"], LMError)(stored["message"])


def fingerprint(ask: Ask) -> str:
    """SHA-256 of what is asked, and how."""
    request = ask.request
    asked = {
        "prompt": request.prompt,
        **{name: getattr(request, name) for name in _ASKED},
        "rollout": ask.rollout,
    }
    return hashlib.sha256(canonical_json(asked).encode("ascii")).hexdigest()


def paid_for(response: LMResponse) -> Paid:
    """What an answer cost; one from the cache nothing."""
    if response.cache_hit:
        return Paid()
    tokens = response.usage.total_tokens or 0
    return Paid(1, tokens, response.cost or Decimal(0), int(response.cost is None))


def _kinds(kind: type[LMError]) -> dict[str, type[LMError]]:
    found = {kind.code: kind}
    for each in kind.__subclasses__():
        found |= _kinds(each)
    return found


_KINDS: Final = _kinds(LMError)
