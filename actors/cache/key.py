"""The key under which the cache keeps an answer: what was asked, of whom. Pure.

Two requests have the same key exactly if they ask the same provider's same model the same thing. The provider's id
stands in it, so two servers of one kind never share answers; its address and its credentials do not, so a new key or
a moved server keeps what was answered. Who asks is no part of it: equal requests of two users have one answer.
"""

from __future__ import annotations

import hashlib
from typing import Final

from ..lm.values import LMRequest, canonical_json

# Raise it when answers are written otherwise: older ones are then never found.
_VERSION: Final = 2


def cache_key(
    request: LMRequest,
    *,
    provider: str,
    kind: str,
    model: str | None = None,
    rollout: str | None = None,
) -> str:
    """The key of a request, 64 hex digits: SHA-256 of its canonical JSON.

    Args:
        request: what is asked.
        provider: id of the provider.
        kind: its protocol.
        model: the model that is asked; by default the one that the request names.
        rollout: keeps requests apart that are alike otherwise, None for those that need not be.
    """
    asked = {
        "version": _VERSION,
        "provider": provider,
        "kind": kind,
        "model": model if model is not None else request.model,
        "rollout": rollout,
        "prompt": request.prompt,
        # As floats: 0 and 0.0 are one temperature.
        "temperature": None if request.temperature is None else float(request.temperature),
        "top_p": None if request.top_p is None else float(request.top_p),
        "max_tokens": request.max_tokens,
        "stop": request.stop,
        "seed": request.seed,
        "response_format": request.response_format,
        "tools": request.tools,
        "tool_choice": request.tool_choice,
        "extra": request.extra,
    }
    return hashlib.sha256(canonical_json(asked).encode("ascii")).hexdigest()
