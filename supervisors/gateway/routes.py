"""Which path is served by what."""

from __future__ import annotations

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from .completions import chat_completions
from .desk import Desk
from .pages import health, metrics, model, models
from .problems import Problem
from .visit import Endpoint, problem_response


def gateway_app(desk: Desk) -> Starlette:
    """The gateway as an ASGI application."""
    return Starlette(
        routes=[
            Route("/v1/chat/completions", Endpoint(desk, chat_completions), methods=["POST"]),
            Route("/v1/models", Endpoint(desk, models), methods=["GET"]),
            Route("/v1/models/{model:path}", Endpoint(desk, model), methods=["GET"]),
            Route("/health", Endpoint(desk, health, public=True), methods=["GET"]),
            Route("/metrics", Endpoint(desk, metrics), methods=["GET"]),
        ],
        exception_handlers={HTTPException: _no_route},
    )


async def _no_route(request: Request, error: Exception) -> Response:
    status = error.status_code if isinstance(error, HTTPException) else 404
    paths = "/v1/chat/completions, /v1/models, /health and /metrics"
    if status == 405:
        allowed = (error.headers or {}).get("Allow", "") if isinstance(error, HTTPException) else ""
        problem = Problem(405, f"expected one of the methods {allowed} here", code="method_not_allowed")
        return problem_response(problem, {"allow": allowed})
    return problem_response(Problem(status, f"expected one of {paths}, got another path", code="not_found"), {})
