"""A small ASGI service (starlette) whose requests go to a module actor.

python examples/asgi_service.py                              # starts it, asks it three things, stops it
uvicorn --app-dir examples asgi_service:service              # or serve it for real
"""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import TypedDict

import httpx
import uvicorn
from local_server import provider_settings
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

import dspex
from dspex.runtime.errors import SignatureError


class State(TypedDict):
    """What every request finds in ``request.state``."""

    app: dspex.AsyncApp


@asynccontextmanager
async def lifespan(service: Starlette) -> AsyncGenerator[State, None]:
    """The actors live exactly as long as the service, on the service's own loop."""
    with provider_settings() as (who, settings):
        print(who)
        async with dspex.astart(config={"events": {"in_memory": True}}) as app:
            await app.configure_provider("main", **settings)
            await app.start_module("qa", "question -> answer", provider="main")
            yield {"app": app}


async def ask(request: Request) -> JSONResponse:
    """POST {"question": ...}: the answer, or the typed error as a 502, or as a 400 if the client is wrong.

    A client that hangs up ends the LM request.
    """
    try:
        inputs = await request.json()
    except ValueError:
        inputs = None
    if not isinstance(inputs, dict):
        return JSONResponse({"error": "bad_request", "message": "expected a JSON object"}, status_code=400)
    qa = request.state.app.module("qa").options(timeout=10.0, user=request.headers.get("x-user"))
    try:
        prediction = await qa(**inputs)
    except SignatureError as error:  # says which field, what was expected and what came
        return JSONResponse({"error": error.code, "message": str(error)}, status_code=400)
    except dspex.Error as error:
        return JSONResponse({"error": error.code, "message": str(error)}, status_code=502)
    return JSONResponse({"answer": prediction.answer, "correlation_id": prediction.info.correlation_id})


async def health(request: Request) -> JSONResponse:
    """GET: the health of the tree."""
    state = await request.state.app.health()
    return JSONResponse(state.to_dict(), status_code=200 if state.ok else 503)


service = Starlette(routes=[Route("/ask", ask, methods=["POST"]), Route("/health", health)], lifespan=lifespan)


async def main() -> None:
    server = uvicorn.Server(uvicorn.Config(service, port=0, log_level="warning"))
    serving = asyncio.create_task(server.serve())
    while not server.started and not serving.done():  # noqa: ASYNC110 - uvicorn tells it by a flag
        await asyncio.sleep(0.01)
    host, port = server.servers[0].sockets[0].getsockname()
    async with httpx.AsyncClient(base_url=f"http://{host}:{port}", timeout=15.0) as client:
        questions = ("Who wrote Hamlet?", "Who wrote Faust?", "Who wrote Peer Gynt?")
        answers = await asyncio.gather(*(client.post("/ask", json={"question": q}) for q in questions))
        for question, answer in zip(questions, answers, strict=True):
            print(answer.status_code, question, "->", answer.json())
        print("health:", (await client.get("/health")).json()["status"])
    server.should_exit = True
    await serving


if __name__ == "__main__":
    asyncio.run(main())
