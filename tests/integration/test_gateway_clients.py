"""The gateway as OpenAI's official client sees it, and any other client of HTTP."""

from __future__ import annotations

import asyncio
import json
import socket
from typing import Any

import httpx
import openai
import pytest

import dspex
from dspex.supervisors.gateway.messages import GatewayStatus
from kit.application import IN_MEMORY, provider_of
from kit.gateway import DONE, MESSAGES, TOKEN, USAGE, gateway, piece, streaming
from kit.http_server import Exchange, HttpServer, Script, completion

CALL = {"id": "c1", "type": "function", "function": {"name": "weather", "arguments": '{"city": "Oslo"}'}}
TOOLS: list[Any] = [{"type": "function", "function": {"name": "weather", "parameters": {"type": "object"}}}]


def failing(status: int, body: dict[str, Any], **headers: str) -> Script:
    """A provider that fails so."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return lambda exchange: exchange.reply(status, {"error": body}, headers=named)


def test_a_plain_answer() -> None:
    """Text, usage, finish reason and our headers arrive; the provider is sent what the client asked for."""
    with gateway() as serving, serving.client() as client:
        raw = client.chat.completions.with_raw_response.create(
            model="local", messages=MESSAGES, temperature=0.5, user="ann", extra_body={"top_k": 3}
        )
        answer = raw.parse()
        assert (answer.choices[0].message.content, answer.choices[0].finish_reason) == ("Shakespeare", "stop")
        assert answer.usage is not None
        assert (answer.usage.prompt_tokens, answer.usage.total_tokens, answer.model) == (11, 14, "test-model")
        assert raw.headers["x-dspex-provider"] == "local"
        sent = serving.server.requests[0].json()
        assert sent == {"model": "test-model", "messages": MESSAGES, "temperature": 0.5, "top_k": 3}
        page = serving.app.events.query(type="lm_request", correlation_id=raw.headers["x-dspex-correlation-id"])
        assert [event.user for event in page.events] == ["ann"]


def test_the_cost_is_told_if_it_is_known() -> None:
    """With a price the answer's cost stands in a header."""
    prices = {"test-model": {"input": 1_000_000, "output": 2_000_000}}
    with HttpServer(lambda exchange: exchange.reply(200, completion("x"))) as server:
        ai = {"providers": {"local": provider_of(server, prices=prices)}}
        with gateway(config={"ai": ai}) as serving, serving.client() as client:
            raw = client.chat.completions.with_raw_response.create(model="local", messages=MESSAGES)
            assert float(raw.headers["x-dspex-cost"]) == 11 + 6


def test_a_stream() -> None:
    """Pieces arrive in order, the role once, then finish reason and usage."""
    with gateway(streaming("Shake", "speare")) as serving, serving.client() as client:
        chunks = list(
            client.chat.completions.create(
                model="local/test-model", messages=MESSAGES, stream=True, stream_options={"include_usage": True}
            )
        )
        *pieces, last = chunks
        assert [chunk.choices[0].delta.content for chunk in pieces] == ["Shake", "speare", None]
        assert [chunk.choices[0].delta.role for chunk in pieces] == ["assistant", None, None]
        assert [chunk.choices[0].finish_reason for chunk in pieces] == [None, None, "stop"]
        assert (last.choices, last.usage and last.usage.total_tokens) == ([], 14)


def test_tools() -> None:
    """Tools go to the provider; the calls come back whole and in pieces, and are sent back as they came."""

    def script(exchange: Exchange) -> None:
        body = exchange.request.json()
        if body["messages"][-1]["role"] == "tool":
            exchange.reply(200, completion("It rains"))
        elif body.get("stream"):
            exchange.head()
            first = {"index": 0, "id": "c1", "type": "function", "function": {"name": "weather", "arguments": '{"ci'}}
            exchange.chunk(piece(tool_calls=[first]))
            exchange.chunk(piece(tool_calls=[{"index": 0, "function": {"arguments": 'ty": "Oslo"}'}}]))
            exchange.chunk(piece(finish="tool_calls") + USAGE + DONE)
            exchange.chunk(b"")
        else:
            message = {"role": "assistant", "content": None, "tool_calls": [CALL]}
            exchange.reply(200, completion(choices=[{"index": 0, "message": message, "finish_reason": "tool_calls"}]))

    with gateway(script) as serving, serving.client() as client:
        asked = {"model": "local", "tools": TOOLS, "tool_choice": "auto"}
        answer = client.chat.completions.create(messages=MESSAGES, **asked)  # type: ignore[call-overload]
        message = answer.choices[0].message
        assert [call.to_dict() for call in message.tool_calls] == [CALL]
        assert serving.server.requests[0].json()["tools"] == TOOLS
        result = {"role": "tool", "tool_call_id": "c1", "content": "rain"}
        turns = [*MESSAGES, message.to_dict(), result]
        assert client.chat.completions.create(messages=turns, **asked).choices[0].message.content == "It rains"  # type: ignore[call-overload]
        with client.chat.completions.stream(model="local", messages=MESSAGES, tools=TOOLS) as stream:
            whole = stream.get_final_completion()
        calls = whole.choices[0].message.tool_calls or []
        assert [call.function.arguments for call in calls] == ['{"city": "Oslo"}']


def test_the_models_are_listed() -> None:
    """Providers and routes are listed as they are now; one of them is told alone; an unknown one is not found."""
    with gateway() as serving, serving.client() as client:
        assert [model.id for model in client.models.list()] == ["local", "local/test-model"]
        serving.app.configure_provider("more", kind="openai", base_url="http://127.0.0.1:1/v1")
        assert [model.id for model in client.models.list()] == ["local", "local/test-model", "more"]
        assert client.models.retrieve("local/any-model").owned_by == "local"
        with pytest.raises(openai.NotFoundError, match="did you mean 'local'"):
            client.models.retrieve("locl")


@pytest.mark.parametrize(
    ("script", "error", "code"),
    [
        (failing(429, {"message": "slow down"}, retry_after="7"), openai.RateLimitError, "rate_limit_exceeded"),
        (failing(429, {"code": "insufficient_quota"}), openai.RateLimitError, "insufficient_quota"),
        (failing(401, {"message": "bad key"}), openai.InternalServerError, "lm_auth"),
        (failing(400, {"message": "bad"}), openai.BadRequestError, "lm_invalid_request"),
        (failing(400, {"code": "context_length_exceeded"}), openai.BadRequestError, "context_length_exceeded"),
        (failing(404, {"message": "no model"}), openai.NotFoundError, "lm_invalid_request"),
        (failing(500, {"message": "oh"}), openai.InternalServerError, "lm_server_error"),
    ],
    ids=["rate", "quota", "upstream key", "invalid", "context", "model", "server"],
)
@pytest.mark.parametrize("stream", [False, True])
def test_a_providers_failure_is_the_clients_typed_error(
    script: Script, error: type[openai.APIStatusError], code: str, stream: bool
) -> None:
    """Each failure is the exception that the client has for it, before a stream's first piece too."""
    with HttpServer(script) as server:
        ai = {"providers": {"local": provider_of(server, retry_attempts=1)}}
        with gateway(config={"ai": ai}) as serving, serving.client() as client:
            with pytest.raises(error) as raised:
                client.chat.completions.create(model="local", messages=MESSAGES, stream=stream)
            assert raised.value.code == code
            if code == "rate_limit_exceeded":
                assert raised.value.response.headers["retry-after"] == "7"


def test_a_wrong_token_is_an_authentication_error() -> None:
    """Without the token, or with another one, nothing is served but whether it is healthy."""
    with gateway() as serving:
        with serving.client(api_key="other") as client, pytest.raises(openai.AuthenticationError):
            client.chat.completions.create(model="local", messages=MESSAGES)
        for path in ("/v1/models", "/metrics"):
            refused = httpx.get(serving.url + path)
            assert (refused.status_code, refused.headers["www-authenticate"]) == (401, "Bearer")
            assert TOKEN not in refused.text
        assert httpx.get(f"{serving.url}/health").json() == {"status": "healthy"}
        assert serving.server.requests == []


@pytest.mark.parametrize(
    ("change", "error", "param"),
    [
        ({"model": "gpt"}, openai.NotFoundError, "model"),
        ({"n": 2}, openai.BadRequestError, "n"),
        ({"temperature": -1}, openai.BadRequestError, "temperature"),
        ({"messages": [{"role": "robot", "content": "x"}]}, openai.BadRequestError, "messages[0].role"),
    ],
)
def test_a_bad_request_names_its_place(change: dict[str, Any], error: type[openai.APIStatusError], param: str) -> None:
    """What is wrong with a request is told with its place, and nothing is sent to the provider."""
    with gateway() as serving, serving.client() as client:
        with pytest.raises(error) as raised:
            client.chat.completions.create(**{"model": "local", "messages": MESSAGES, **change})
        assert raised.value.param == param
        assert serving.server.requests == []


def test_other_paths_methods_and_kinds_are_refused() -> None:
    """A path, a method and a content type that are not served have OpenAI's error body."""
    with gateway() as serving, httpx.Client(base_url=serving.url, headers=serving.headers) as client:
        answers = [
            client.get("/v1/nothing"),
            client.get("/v1/chat/completions"),
            client.post("/v1/chat/completions", content=b"{}", headers={"content-type": "text/plain"}),
            client.post("/v1/chat/completions", content=b"{", headers={"content-type": "application/json"}),
        ]
        assert [answer.status_code for answer in answers] == [404, 405, 415, 400]
        assert all(answer.json()["error"]["message"] for answer in answers)


def test_a_body_that_is_too_large_is_refused() -> None:
    """Declared or not, a body over max_body is a 413."""
    with gateway(settings={"max_body": 100}) as serving, httpx.Client(headers=serving.headers) as client:
        big = json.dumps({"model": "local", "messages": MESSAGES, "x": "y" * 200}).encode()
        kind = {"content-type": "application/json"}
        url = f"{serving.url}/v1/chat/completions"
        assert client.post(url, content=big, headers=kind).status_code == 413
        parsed = httpx.URL(url)
        with socket.create_connection((parsed.host, parsed.port), timeout=5) as raw:  # said, and never sent
            head = f"Authorization: Bearer {TOKEN}\r\nContent-Type: application/json\r\nContent-Length: 1000\r\n\r\n"
            raw.sendall(f"POST {parsed.path} HTTP/1.1\r\nHost: x\r\n{head}".encode())
            assert raw.recv(1000).startswith(b"HTTP/1.1 413 ")
        assert client.post(url, content=iter([big[:90], big[90:]]), headers=kind).status_code == 413


def test_a_page_in_a_browser_cannot_use_it() -> None:
    """Without a token a request for another host's name is refused: a page's own name may lead here."""
    with gateway(settings={"token": None}) as serving:
        evil = httpx.get(f"{serving.url}/v1/models", headers={"host": "evil.example"})
        assert (evil.status_code, evil.json()["error"]["code"]) == (403, "wrong_host")
        assert httpx.get(f"{serving.url}/v1/models").status_code == 200


def test_a_trace_begun_elsewhere_is_joined() -> None:
    """The trace of traceparent, or the request id, is that of the events; the request id comes back."""
    trace, span = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
    with gateway() as serving, serving.client() as client:
        for headers, id in (
            ({"traceparent": f"00-{trace}-{span}-01"}, trace),
            ({"x-request-id": "order-17"}, "order-17"),
        ):
            raw = client.chat.completions.with_raw_response.create(
                model="local", messages=MESSAGES, extra_headers=headers
            )
            assert raw.headers["x-dspex-correlation-id"] == raw.headers["x-request-id"] == id
            assert serving.app.events.query(type="lm_response", correlation_id=id).events


def test_health_and_metrics() -> None:
    """With the token health has its parts, and metrics are Prometheus' text; a part that is down is told."""
    with gateway() as serving, serving.client() as client:
        client.chat.completions.create(model="local", messages=MESSAGES)
        health = httpx.get(f"{serving.url}/health", headers=serving.headers)
        assert (health.status_code, health.json()["parts"]["gateway/http"]["state"]) == (200, "running")
        metrics = httpx.get(f"{serving.url}/metrics", headers=serving.headers)
        assert metrics.headers["content-type"].startswith("text/plain; version=0.0.4")
        assert "# TYPE dspex_" in metrics.text
    with gateway(config={"telemetry": {"enabled": False}}) as serving:
        assert httpx.get(f"{serving.url}/metrics", headers=serving.headers).status_code == 404


def test_the_async_client_and_the_callers_own_loop() -> None:
    """It works on the caller's loop, where its clients may run too, many at once."""

    async def main(server: HttpServer) -> list[str | None]:
        ai = {"providers": {"local": provider_of(server)}}
        config = {**IN_MEMORY, "ai": ai, "gateway": {"enabled": True, "port": 0}}
        async with dspex.astart(config=config) as app:
            url = (await app.call("gateway/http", GatewayStatus())).url
            async with openai.AsyncOpenAI(base_url=f"{url}/v1", api_key="-", max_retries=0) as client:

                async def ask() -> str | None:
                    answer = await client.chat.completions.create(model="local", messages=MESSAGES)
                    return answer.choices[0].message.content

                answers = await asyncio.gather(*(ask() for _ in range(20)))
                stream = await client.chat.completions.create(model="local", messages=MESSAGES, stream=True)
                return [*answers, "".join([chunk.choices[0].delta.content or "" async for chunk in stream])]

    def script(exchange: Exchange) -> None:
        streamed = exchange.request.json().get("stream")
        (streaming("a", "b") if streamed else lambda each: each.reply(200, completion("whole")))(exchange)

    with HttpServer(script) as server:
        assert asyncio.run(main(server)) == [*["whole"] * 20, "ab"]
