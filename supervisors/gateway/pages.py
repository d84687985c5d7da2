"""What can be asked beside completions: the models, the health, the metrics."""

from __future__ import annotations

from typing import Final

from starlette.responses import JSONResponse, Response

from ...actors.telemetry.actor import Snapshot
from ...actors.telemetry.prometheus_text import prometheus_text
from ...runtime.errors import NoProcess
from ..app import names
from ..app.health import health_of
from .guard import authorized
from .models import listing, resolve
from .problems import refused
from .visit import Visit

_ANSWER_TIME: Final = 5.0
_PROMETHEUS: Final = "text/plain; version=0.0.4; charset=utf-8"


async def models(visit: Visit) -> Response:
    """``GET /v1/models``: every name that is sure to work."""
    data = listing(visit.desk.ai, visit.desk.started)
    return JSONResponse({"object": "list", "data": data}, headers=visit.headers)


async def model(visit: Visit) -> Response:
    """``GET /v1/models/{model}``: one of them."""
    name: str = visit.request.path_params["model"]
    owner = resolve(name, visit.desk.ai).id
    found = {"id": name, "object": "model", "created": visit.desk.started, "owned_by": owner}
    return JSONResponse(found, headers=visit.headers)


async def health(visit: Visit) -> Response:
    """``GET /health``: 200 if the essential parts run, else 503. Anybody may ask; the details need the token."""
    found = health_of(visit.desk.engine)
    body = found.to_dict() if authorized(visit.request, visit.desk) else {"status": found.status}
    status = 503 if found.status in {"unhealthy", "stopped"} else 200
    return JSONResponse(body, status, visit.headers)


async def metrics(visit: Visit) -> Response:
    """``GET /metrics``: all metrics, in Prometheus' text format."""
    try:
        snapshot = await visit.desk.engine.call_async(names.TELEMETRY, Snapshot(), _ANSWER_TIME)
    except NoProcess:
        raise refused(404, "expected telemetry to be on, got none, at telemetry.enabled", "no_telemetry") from None
    return Response(prometheus_text(snapshot), headers=visit.headers, media_type=_PROMETHEUS)
