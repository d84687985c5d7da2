"""A small ASGI service (starlette) whose requests go to a module actor.

python examples/asgi_service.py          # starts it, asks it three things, stops it
uvicorn examples.asgi_service:service    # or serve it for real
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import httpx
from local_server import provider_settings
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

import dspex


@asynccontextmanager
async def lifespan(service: Starlette) -> AsyncIterator[dict[str, dspex.AsyncApp]]:
    """The actors live exactly as long as the service, on the service's own loop."""
    with provider_settings() as (who, settings):
        print(who)
        async with dspex.astart(config={"events": {"in_memory": True}}) as app:
            await app.configure_provider("main", **settings)
            await app.start_module("qa", "question -> answer", provider="main")
            yield {"app": app}


async def ask(request: Request) -> JSONResponse:
    """POST {"question": ...}: the answer, or the typed error as a 5xx."""
    body = await request.json()
    qa = request.state.app.module("qa").options(timeout=10.0, user=request.headers.get("x-user"))
    try:
        prediction = await qa(question=body["question"])
    except dspex.Error as error:
        return JSONResponse({"error": error.code, "message": str(error)}, status_code=502)
    return JSONResponse({"answer": prediction.answer, "correlation_id": prediction.info.correlation_id})


async def health(request: Request) -> JSONResponse:
    """GET: the health of the tree."""
    state = await request.state.app.health()
    return JSONResponse(state.to_dict(), status_code=200 if state.ok else 503)


service = Starlette(routes=[Route("/ask", ask, methods=["POST"]), Route("/health", health)], lifespan=lifespan)


async def main() -> None:
    transport = httpx.ASGITransport(app=service)
    async with service.router.lifespan_context(service) as state:
        service_with_state = _with_state(state)
        transport = httpx.ASGITransport(app=service_with_state)
        async with httpx.AsyncClient(transport=transport, base_url="http://service") as client:
            questions = ("Who wrote Hamlet?", "Who wrote Faust?", "Who wrote Peer Gynt?")
            answers = await asyncio.gather(*(client.post("/ask", json={"question": q}) for q in questions))
            for question, answer in zip(questions, answers, strict=True):
                print(answer.status_code, question, "->", answer.json())
            print("health:", (await client.get("/health")).json()["status"])


def _with_state(state):  # type: ignore[no-untyped-def]
    async def app(scope, receive, send):  # type: ignore[no-untyped-def]
        await service({**scope, "state": dict(state or {})}, receive, send)

    return app


if __name__ == "__main__":
    asyncio.run(main())
