"""``POST /v1/chat/completions``: one request to a provider, answered whole or in pieces."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Coroutine
from contextlib import aclosing
from dataclasses import dataclass, replace
from typing import Any, Final

from starlette.responses import JSONResponse, Response

from ...actors.lm.chunks import LMChunk, LMStreamEnd
from ...actors.lm.values import LMResponse
from ...actors.providers.messages import Complete, OpenStream, StreamOpened
from ...runtime.context import Context
from ...runtime.errors import Error, LMProtocolError
from ...runtime.stages import stream
from .chat_answers import ChunkWriter, broken, completion
from .chat_request import ChatRequest, read_chat_request
from .guard import read_body
from .models import longest, patience, resolve
from .problems import problem_of, stopping
from .visit import Visit, while_connected

MAX_DEMAND: Final = 64
"""Pieces of a stream that are asked for and not sent yet."""
_NO_BUFFERS: Final = {
    "content-type": "text/event-stream; charset=utf-8",
    "cache-control": "no-cache",
    "x-accel-buffering": "no",  # for a proxy in between, which would hold pieces back
}


async def chat_completions(visit: Visit) -> None:
    """Answer a request. A client that hangs up ends the request to the provider."""
    desk = visit.desk
    with desk.place():
        body = await read_body(visit.request, desk.settings.max_body)
        wanted = read_chat_request(body, lambda name: resolve(name, desk.ai))
        del body
        asking = _Asking(visit, wanted, replace(visit.context, user=wanted.user))
        work: Coroutine[Any, Any, Response | None] = asking.stream() if wanted.stream else asking.whole()
        response = await while_connected(visit.request.receive, work)
        if response is not None:
            await _deliver(visit, response)


@dataclass(frozen=True, slots=True)
class _Asking:
    visit: Visit
    wanted: ChatRequest
    context: Context

    @property
    def _id(self) -> str:
        return f"chatcmpl-{self.context.trace_id}"

    @property
    def _created(self) -> int:
        return int(self.visit.desk.engine.clock.time())

    async def _ask(self, message: Complete | OpenStream) -> Any:
        target, desk = self.wanted.target, self.visit.desk
        return await desk.engine.outside.call_async(
            f"provider/{target.id}",
            message,
            timeout=patience(target.id, desk.ai, stream=self.wanted.stream),
            context=self.context,
        )

    async def whole(self) -> Response:
        response: LMResponse = await self._ask(Complete(self.wanted.request))
        headers = {**self.visit.headers, "x-dspex-provider": response.provider or self.wanted.target.id}
        if response.cost is not None:
            headers["x-dspex-cost"] = f"{response.cost:f}"
        return JSONResponse(completion(response, id=self._id, created=self._created), headers=headers)

    async def stream(self) -> None:
        opened: StreamOpened = await self._ask(OpenStream(self.wanted.request))
        engine, send = self.visit.desk.engine, self.visit.send
        seconds = longest(self.wanted.target.id, self.visit.desk.ai)
        events = stream(opened.address, engine, max_demand=MAX_DEMAND, cancel="transient")
        async with asyncio.timeout(seconds), events, aclosing(self._events(events)) as written:
            # The head waits for the first event: what fails before has a status of its own.
            data = await anext(written)
            headers = {**self.visit.headers, **_NO_BUFFERS, "x-dspex-provider": opened.provider}
            head = [(name.encode(), value.encode("latin-1", "replace")) for name, value in headers.items()]
            await send({"type": "http.response.start", "status": 200, "headers": head})
            await _body(send, data)
            try:
                # Each is sent before the next is read: a client that does not read stops the provider.
                async for data in written:
                    await _body(send, data)
            except Error as error:
                await _body(send, broken(problem_of(error)))
            except asyncio.CancelledError:
                if not self.visit.desk.closing:
                    raise
                await _body(send, broken(stopping()))
            await send({"type": "http.response.body", "body": b"", "more_body": False})

    async def _events(self, events: AsyncIterator[LMChunk | LMStreamEnd]) -> AsyncGenerator[bytes, None]:
        wanted = self.wanted
        model = wanted.target.name
        writer = ChunkWriter(self._id, model, self._created, include_usage=wanted.include_usage)
        async for event in events:
            if isinstance(event, LMChunk):
                yield writer.piece(event)
            elif event.error is not None:
                raise event.error
            elif event.response is not None:
                yield writer.end(event.response)
                return
        raise LMProtocolError("expected a stream with an end, got one without")


async def _deliver(visit: Visit, response: Response) -> None:
    """Send a whole answer, as the client takes it: it is in work until then."""
    await visit.send({"type": "http.response.start", "status": response.status_code, "headers": response.raw_headers})
    await _body(visit.send, bytes(response.body))
    # Waits until most of it has gone.
    await visit.send({"type": "http.response.body", "body": b"", "more_body": False})


async def _body(send: Any, data: bytes) -> None:
    await send({"type": "http.response.body", "body": data, "more_body": True})
