"""What is checked of a request before anything is done for it."""

from __future__ import annotations

import asyncio
from typing import Final

from starlette.requests import Request

from .desk import Desk
from .exposure import is_local_name
from .problems import Problem, Refused, refused

BODY_TIME: Final = 30.0
"""Seconds that a client has to send its request."""


def check_client(request: Request, desk: Desk) -> None:
    """Refuse who may not use the gateway.

    Raises:
        Refused: the token is missing or wrong (401); or none is configured, and the request is for another machine
            than this (403).
    """
    if desk.settings.token is None:
        if not is_local_name(request.headers.get("host", "")):
            raise refused(403, "expected this machine's name in the Host header, got another one", "wrong_host")
    elif not authorized(request, desk):
        expected = "expected 'Authorization: Bearer' with the gateway's token"
        raise Refused(Problem(401, expected, code="invalid_api_key", final=True))


def authorized(request: Request, desk: Desk) -> bool:
    """Whether a request has the token, if one is configured."""
    scheme, _, token = request.headers.get("authorization", "").partition(" ")
    return desk.knows(token.strip() if scheme.lower() == "bearer" else "")


async def read_body(request: Request, limit: int) -> bytes:
    """The body of a request in JSON.

    A page of a stranger in a browser can send only other kinds without asking first.

    Args:
        request: whose.
        limit: bytes.

    Raises:
        Refused: it is no JSON (415), too large (413), or not there in time (408).
        ClientDisconnect: nobody is there any more.
    """
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "application/json":
        raise refused(415, "expected content-type application/json, got another one", "unsupported_media_type")
    declared = request.headers.get("content-length", "")
    if declared.isdecimal() and int(declared) > limit:
        raise _too_large(limit)
    body = bytearray()
    try:
        async with asyncio.timeout(BODY_TIME):
            async for part in request.stream():
                body += part
                if len(body) > limit:
                    raise _too_large(limit)
    except TimeoutError:
        raise refused(408, f"expected the whole request within {BODY_TIME:g} s", "request_timeout") from None
    return bytes(body)


def _too_large(limit: int) -> Refused:
    return refused(413, f"expected a request of at most {limit} bytes, got more", "request_too_large")
