"""One HTTP request, from the check of who sends it to the answer or the error."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass
from typing import Any, Final, TypeAlias, TypeVar

from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.types import Message, Receive, Scope, Send

from ...runtime.context import Context
from ...runtime.errors import Error
from ...runtime.log import Logger
from .desk import Desk
from .guard import check_client
from .problems import Problem, Refused, problem_of, stopping
from .traces import joined

T = TypeVar("T")
log = Logger("dspex.gateway")


@dataclass(frozen=True, slots=True)
class Visit:
    """What serves a request.

    Attributes:
        desk: what all requests share.
        request: the request.
        send: to the client; waits while the client does not read.
        context: the trace that it belongs to.
    """

    desk: Desk
    request: Request
    send: Send
    context: Context

    @property
    def headers(self) -> dict[str, str]:
        """What every answer says: by which id its events are found."""
        id = self.context.trace_id
        return {"x-dspex-correlation-id": id, "x-request-id": self.request.headers.get("x-request-id", id)}


Work: TypeAlias = Callable[[Visit], Awaitable[Response | None]]
"""Answers a request; None if it has sent its answer itself."""


class Endpoint:
    """One path, as an ASGI application.

    Args:
        desk: what all requests share.
        work: what it does.
        public: whether anybody may ask.
    """

    def __init__(self, desk: Desk, work: Work, *, public: bool = False) -> None:
        self._desk = desk
        self._work = work
        self._public = public

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve a request."""
        begun = False

        async def noted(message: Message) -> None:
            nonlocal begun
            begun = True
            await send(message)

        request = Request(scope, receive)
        visit = Visit(self._desk, request, noted, joined(request.headers, self._desk.engine.ids))
        try:
            response = await self._answer(visit)
        except (ClientGone, ClientDisconnect):
            return
        except asyncio.CancelledError:
            if not self._desk.closing:
                raise
            response = None if begun else problem_response(stopping(), visit.headers)
        # What fails in the middle of an answer ends the connection.
        if response is not None and not begun:
            await response(scope, receive, noted)

    async def _answer(self, visit: Visit) -> Response | None:
        try:
            if not self._public:
                check_client(visit.request, self._desk)
            return await self._work(visit)
        except Refused as refusal:
            problem = refusal.problem
        except Error as error:
            problem = problem_of(error)
        except (ClientGone, ClientDisconnect):
            raise
        except Exception as error:  # fault boundary: a defect costs one request
            id = visit.context.trace_id
            # Its text may hold what the client sent.
            log.error("a request to the gateway failed", error=type(error).__name__, correlation_id=id)
            problem = Problem(500, f"the gateway failed; correlation id {id}", "server_error", "internal_error")
        return problem_response(problem, visit.headers)


def problem_response(problem: Problem, headers: dict[str, str]) -> Response:
    """An error as an answer."""
    more = {"www-authenticate": "Bearer"} if problem.status == 401 else {}
    return JSONResponse(problem.body(), problem.status, {**headers, **problem.headers(), **more})


class ClientGone(Exception):  # never leaves the gateway: there is nobody to tell
    """The client has hung up."""


async def while_connected(receive: Receive, work: Coroutine[Any, Any, T]) -> T:
    """Do a piece of work; a client that hangs up cancels it. The request's body must have been read.

    Raises:
        ClientGone: it has.
    """
    working, watching = asyncio.ensure_future(work), asyncio.ensure_future(_hang_up(receive))
    try:
        await asyncio.wait((working, watching), return_when=asyncio.FIRST_COMPLETED)
    finally:
        watching.cancel()
        if not working.done():
            working.cancel()
            await asyncio.wait((working,))
    if working.cancelled():
        raise ClientGone
    return working.result()


_GONE: Final = "http.disconnect"


async def _hang_up(receive: Receive) -> None:
    while (await receive())["type"] != _GONE:
        pass
