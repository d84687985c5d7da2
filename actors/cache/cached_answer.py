"""A whole answer through the cache: found there, waited for while somebody else asks the same, or asked and kept."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import suppress

from ...runtime.errors import CallError, CallTimeout, StoreError
from ...runtime.gen_server import GenServer
from ..lm.codec import cacheable, decode_response, encode_response
from ..lm.failures import lm_error
from ..lm.session import Session
from ..lm.values import LMResponse
from .key import cache_key
from .messages import NAME as CACHE
from .messages import CacheAbandon, CacheHit, CacheLead, CacheLookup, CacheStore


async def cached(actor: GenServer, session: Session, once: Callable[[], Awaitable[LMResponse]]) -> LMResponse:
    """The cache's answer to a session's request, or the provider's; a whole and plain one is then kept.

    Without the cache, or while it is down, every request is asked. Whoever asks the same at the same time waits.

    Args:
        actor: who asks.
        session: the request.
        once: one attempt to have it answered by the provider.

    Raises:
        LMError: there is no answer, or time was up while somebody else asked.
    """
    setup = session.setup
    if not (setup.house.cached and session.ask.cache):
        return session.succeeded(await session.run(once))
    key = cache_key(
        session.ask.request,
        provider=setup.provider,
        kind=setup.settings.kind,
        model=session.model or "",
        rollout=session.ask.rollout,
    )
    id = session.id
    try:
        found = await _look_up(actor, session, CacheLookup(key, id, actor.myAddress))
        if isinstance(found, CacheHit):
            with suppress(StoreError):  # kept by a version that wrote answers otherwise: asked again
                return session.found(decode_response(found.value))
        response = session.succeeded(await session.run(once))
    except BaseException:  # fault boundary: nothing is handled here, others need not wait for this one
        actor.cast(CACHE, CacheAbandon(key, id))
        raise
    kept = CacheStore(key, id, encode_response(response)) if cacheable(response) else CacheAbandon(key, id)
    actor.cast(CACHE, kept)
    return response


async def _look_up(actor: GenServer, session: Session, lookup: CacheLookup) -> CacheHit | CacheLead:
    limit, whose = session.limit()
    try:
        return await actor.call(CACHE, lookup, timeout=limit, fail_fast=True)  # type: ignore[no-any-return]
    except CallTimeout:
        raise lm_error(whose, f"expected an answer within {limit:g} s, asked for by somebody else just now") from None
    except CallError:
        return CacheLead()  # the cache is down: ask
