"""One model call of a run: answered from the run's journal, or sent and written down before anybody sees the answer."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import fields, replace
from decimal import Decimal
from typing import Final, TypeVar

from ..runtime.errors import StoreError
from ..runtime.gen_server import GenServer
from .lm import LMRequest, LMResponse, canonical_json, message_dict
from .lm_codec import decode_response, encode_response
from .provider_messages import Ask
from .run_messages import Entry, Paid, Recall, Record
from .run_scope import RunScope

A = TypeVar("A", bound=Ask)
_ASKED: Final = tuple(field.name for field in fields(LMRequest) if field.name not in ("messages", "_"))


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
            with suppress(StoreError):  # kept by a version that wrote answers otherwise: asked again
                return replace(decode_response(stored["response"]), refusal=stored["refusal"])
    account = f"run/{scope.run}"
    if account not in ask.accounts:
        ask = replace(ask, accounts=(*ask.accounts, account))
    response = await send(ask)
    kept = json.dumps({"request": question, "response": encode_response(response), "refusal": response.refusal})
    await actor.call(journal, Record((Entry("call", key, kept),), paid=paid_for(response)), timeout=None)
    return response


def fingerprint(ask: Ask) -> str:
    """SHA-256 of what is asked, and how."""
    request = ask.request
    asked = {
        "messages": [message_dict(message) for message in request.messages],
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
