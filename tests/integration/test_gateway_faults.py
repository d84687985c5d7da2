"""The gateway when clients stall or leave, providers break, ports are taken, and when it is killed or stopped."""

from __future__ import annotations

import asyncio
import json
import logging
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from typing import Any

import httpx
import openai
import pytest

import dspex
from dspex.runtime.errors import CallError, ConfigError
from dspex.runtime.messages import GetState
from dspex.supervisors.gateway.messages import GatewayStatus
from dspex.supervisors.messages import TerminateChild
from kit.application import IN_MEMORY, Gate, Quick, Slow, Watch, answering, application, provider_of, trip
from kit.gateway import DONE, MESSAGES, TOKEN, Serving, gateway, piece, streaming
from kit.http_server import Exchange, HttpServer
from kit.promptness import prompt, tried_again

PROMPT = 0.1
"""Seconds in which a client that left is noticed at the provider."""


@contextmanager
def asked(serving: Serving, *, stream: bool, receive_buffer: int = 0) -> Iterator[socket.socket]:
    """A raw connection on which a completion has been asked for."""
    body = json.dumps({"model": "local", "messages": MESSAGES, "stream": stream}).encode()
    head = (
        f"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {serving.token}\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    with socket.socket() as raw:
        if receive_buffer:
            raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        raw.settimeout(10)
        url = httpx.URL(serving.url)
        raw.connect((url.host, url.port))
        raw.sendall(head.encode() + body)
        yield raw


class Endless:
    """A provider that streams for ever, and counts what was taken from it."""

    def __init__(self) -> None:
        self.taken = 0
        self.stalled = threading.Event()
        self.left = threading.Event()

    def __call__(self, exchange: Exchange) -> None:
        """Send until nobody takes anything for two half seconds, then until the other end leaves."""
        exchange.closed = True
        exchange.head()
        exchange.sock.settimeout(0.5)
        data = piece("x" * 4096)
        chunk = b"%x\r\n%b\r\n" % (len(data), data)
        rest, pauses = b"", 0
        try:
            while not exchange.server.stopping.is_set():
                try:
                    rest = rest or chunk
                    sent = exchange.sock.send(rest)
                    self.taken += sent
                    rest, pauses = rest[sent:], 0
                except TimeoutError:
                    pauses += 1
                    if pauses > 1:
                        self.stalled.set()
        except OSError:
            self.left.set()


def test_a_client_that_does_not_read_stops_the_provider() -> None:
    """The provider's bytes stand still while the client reads nothing, and go on when it reads again."""
    provider = Endless()
    with gateway(provider) as serving, asked(serving, stream=True, receive_buffer=4096) as raw:
        assert provider.stalled.wait(20), "it was read on"
        before = provider.taken
        assert not provider.left.wait(0.3)
        assert provider.taken == before
        read = 0
        while provider.taken == before:
            read += len(raw.recv(65536))
        assert read > 0
        raw.close()
        assert provider.left.wait(5), "the client's leaving ended nothing"


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream before its first piece"])
@tried_again
def test_a_client_that_leaves_ends_the_providers_request(stream: bool) -> None:
    """The connection to the provider is closed at once when the client hangs up."""

    def hang(exchange: Exchange) -> None:
        exchange.hang()

    with gateway(hang) as serving:
        with asked(serving, stream=stream):
            assert serving.server.arrived.wait(5)
        left = time.monotonic()
        assert serving.server.client_closed.wait(5), "the request goes on for nobody"
        prompt(serving.server.closed_at - left, PROMPT)
        assert serving.idle().in_work == 0


@tried_again
def test_a_client_that_leaves_a_stream_ends_the_providers_request() -> None:
    """The same in the middle of a stream."""

    def hang(exchange: Exchange) -> None:
        exchange.head()
        exchange.chunk(piece("first"))
        exchange.hang()

    with gateway(hang) as serving:
        with serving.client() as client:
            stream = client.chat.completions.create(model="local", messages=MESSAGES, stream=True)
            assert next(iter(stream)).choices[0].delta.content == "first"
            left = time.monotonic()
            stream.close()
        assert serving.server.client_closed.wait(5), "the request goes on for nobody"
        prompt(serving.server.closed_at - left, PROMPT)


def test_a_stream_that_breaks_off_says_so() -> None:
    """After the first piece an error is an event of the stream; no [DONE] pretends a whole answer."""

    def cut(exchange: Exchange) -> None:
        exchange.head()
        exchange.chunk(piece("first"))
        exchange.closed = True

    with gateway(cut) as serving:
        with serving.client() as client:
            stream = client.chat.completions.create(model="local", messages=MESSAGES, stream=True)
            chunks = iter(stream)
            assert next(chunks).choices[0].delta.content == "first"
            with pytest.raises(openai.APIError) as raised:
                next(chunks)
            assert raised.value.code == "lm_stream_interrupted"
        body = {"model": "local", "messages": MESSAGES, "stream": True}
        text = httpx.post(f"{serving.url}/v1/chat/completions", json=body, headers=serving.headers).text
        assert ('"error"' in text, "[DONE]" in text) == (True, False)


def test_more_requests_than_allowed_are_refused() -> None:
    """Above max_requests a client is told to come back; health is still answered, and room is given back."""
    gate = Gate()
    with gateway(gate, settings={"max_requests": 1}) as serving, serving.client() as client:
        with ThreadPoolExecutor(1) as pool:
            first = pool.submit(client.chat.completions.create, model="local", messages=MESSAGES)
            assert serving.server.arrived.wait(5)
            with pytest.raises(openai.InternalServerError) as raised:
                client.chat.completions.create(model="local", messages=MESSAGES)
            assert (raised.value.status_code, raised.value.response.headers["retry-after"]) == (503, "1")
            assert httpx.get(f"{serving.url}/health").status_code == 200
            gate.open.set()
            assert first.result(5).choices[0].message.content == "late"
        assert client.chat.completions.create(model="local", messages=MESSAGES).choices
        report = serving.idle()
        assert (report.requests, report.refused, report.in_work) == (2, 1, 0)


def test_a_provider_that_is_down_is_a_503() -> None:
    """A provider that gave up costs its own requests only."""
    with HttpServer(answering("still here")) as server:
        providers = {"local": provider_of(server), "other": provider_of(server)}
        with gateway(config={"ai": {"providers": providers}}, rng=Slow()) as serving, serving.client() as client:
            trip(serving.app, "provider/local")
            with pytest.raises(openai.InternalServerError) as raised:
                client.chat.completions.create(model="local", messages=MESSAGES)
            assert (raised.value.status_code, raised.value.code) == (503, "noproc")
            answer = client.chat.completions.create(model="other", messages=MESSAGES)
            assert answer.choices[0].message.content == "still here"


def test_a_port_that_is_taken_is_tried_again() -> None:
    """A taken port is reported and tried again; the application runs meanwhile, degraded."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        table = {"enabled": True, "port": port}
        with application(config={"gateway": table}, rng=Quick()) as (app, _):
            watch = Watch(app)
            watch.until(lambda: watch.incarnation("gateway/http") > 1)
            assert app.lm.complete("local", "Who?").text == "Shakespeare"
            reports = app.events.query(type="supervisor_report").events
            assert any("expected to listen at 127.0.0.1" in str(event.model_dump()) for event in reports)
            taken.close()
            url = _until_it_listens(app)
            assert url == f"http://127.0.0.1:{port}"
            assert httpx.get(f"{url}/health").json()["status"] == "healthy"


def _until_it_listens(app: dspex.App) -> str:
    end = time.monotonic() + 20
    while time.monotonic() < end:
        try:
            url: str = app.call("gateway/http", GatewayStatus()).url
        except CallError:
            continue  # it died once more; the next call waits for the next one
        return url
    raise AssertionError("it never listened")


def test_nobody_else_is_let_in_without_a_token() -> None:
    """To listen for other machines without a token is refused at the start."""
    with pytest.raises(ConfigError, match=r"at gateway\.token"):
        dspex.start(config={**IN_MEMORY, "gateway": {"enabled": True, "host": "0.0.0.0", "port": 0}})


def test_a_killed_gateway_closes_its_socket_and_comes_back() -> None:
    """A kill ends clients and their requests at the provider, frees the port, and the next one listens there."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]

    def hang(exchange: Exchange) -> None:
        exchange.hang()

    with gateway(hang, settings={"port": port}, rng=Quick()) as serving, asked(serving, stream=False) as raw:
        assert serving.server.arrived.wait(5)
        serving.app.kill("gateway/http")
        assert serving.server.client_closed.wait(5), "the request outlived the gateway"
        with suppress(ConnectionResetError):
            assert raw.recv(1) == b""
        assert _until_it_listens(serving.app) == f"http://127.0.0.1:{port}"
        assert httpx.get(f"http://127.0.0.1:{port}/health").json()["status"] == "healthy"


def test_a_port_that_the_system_gave_is_kept() -> None:
    """At port 0 the one first given stays; while a stranger has it the gateway fails by name, then it is back there."""
    with gateway(rng=Quick()) as serving:
        url = serving.url
        serving.app.kill("gateway/http")
        assert _until_it_listens(serving.app) == url
        assert httpx.get(f"{url}/health").json()["status"] == "healthy"
        watch, port = Watch(serving.app), httpx.URL(url).port
        taken = serving.app.engine.on_engine(_steal, serving.app, port)
        watch.until(lambda: watch.incarnation("gateway/http") > 3)
        reports = serving.app.events.query(type="supervisor_report").events
        assert any(f"expected to listen at 127.0.0.1:{port}" in str(event.model_dump()) for event in reports)
        taken.close()
        assert _until_it_listens(serving.app) == url


def _steal(app: dspex.App, port: int) -> socket.socket:
    """On the engine's thread, so that the port is taken before the next gateway can have it."""
    app.kill("gateway/http")
    return socket.create_server(("127.0.0.1", port))


def test_what_the_console_shows_is_readable() -> None:
    """Where it listens, for whom, and how much it has to do; no object of Python's, and no token."""
    with gateway() as serving:
        url, state = serving.url, serving.app.call("gateway/http", GetState())
        assert state == {
            "url": repr(url),
            "providers": "['local']",
            "in work": "0",
            "requests": "0",
            "refused": "0",
            "draining": "False",
        }


def test_a_stop_lets_requests_in_work_finish() -> None:
    """While it drains, a stream goes on to its end, and new requests are refused."""
    more = threading.Event()

    def slow(exchange: Exchange) -> None:
        exchange.head()
        exchange.chunk(piece("first"))
        more.wait(10)
        exchange.chunk(piece("last", finish="stop") + DONE)
        exchange.chunk(b"")

    with gateway(slow) as serving, serving.client() as client, ThreadPoolExecutor(1) as pool:
        stream = iter(client.chat.completions.create(model="local", messages=MESSAGES, stream=True))
        assert next(stream).choices[0].delta.content == "first"
        url, headers = serving.url, serving.headers
        stopping = pool.submit(serving.app.stop, drain=10.0)
        body = {"model": "local", "messages": MESSAGES}
        statuses = iter(lambda: httpx.post(f"{url}/v1/chat/completions", json=body, headers=headers), None)
        refused = next(answer for answer in statuses if answer.status_code == 503)
        assert "stopping" in refused.json()["error"]["message"]
        more.set()
        assert [chunk.choices[0].delta.content for chunk in stream] == ["last", None]
        stopping.result(10)
        with pytest.raises(httpx.ConnectError):
            httpx.get(f"{url}/health")


def test_a_stop_sends_what_was_answered() -> None:
    """A whole answer that the client takes slowly is in work until it is sent, also when the application stops."""
    text = "x" * 8_000_000
    with gateway(answering(text)) as serving, asked(serving, stream=False, receive_buffer=4096) as raw:
        data = raw.recv(1000)
        assert data.startswith(b"HTTP/1.1 200 ")
        with ThreadPoolExecutor(1) as pool:
            stopping = pool.submit(serving.app.stop, drain=20.0)
            with pytest.raises(TimeoutError):
                stopping.result(1.5)
            while part := raw.recv(1_000_000):
                data += part
            stopping.result(10)
        assert data.count(b"x" * 8_000_000) == 1


@tried_again
def test_a_stop_at_once_tells_who_waits() -> None:
    """Without a drain a client that has no answer yet gets a 503, and the stop does not wait for it."""

    def hang(exchange: Exchange) -> None:
        exchange.hang()

    with gateway(hang) as serving, asked(serving, stream=False) as raw:
        assert serving.server.arrived.wait(5)
        began = time.monotonic()
        serving.app.stop()
        prompt(time.monotonic() - began, 2.0)
        answer = raw.recv(65536)
        assert answer.startswith(b"HTTP/1.1 503 ")


@pytest.mark.parametrize(
    ("stop", "code"),
    [
        (lambda app: app.stop(), "application_down"),
        (lambda app: app.call("supervisor/gateway", TerminateChild("http")), "overloaded"),
    ],
    ids=["application", "gateway"],
)
def test_a_stop_at_once_ends_streams_with_an_error(
    stop: Callable[[dspex.App], None], code: str, caplog: pytest.LogCaptureFixture
) -> None:
    """A stream that is cut by a stop says so to its client, and nobody is told of a defect."""

    def hang(exchange: Exchange) -> None:
        exchange.head()
        exchange.chunk(piece("first"))
        exchange.hang()

    with gateway(hang) as serving, serving.client() as client:
        stream = iter(client.chat.completions.create(model="local", messages=MESSAGES, stream=True))
        assert next(stream).choices[0].delta.content == "first"
        stop(serving.app)
        with pytest.raises(openai.APIError) as raised:
            next(stream)
        assert raised.value.code == code
    assert [record for record in caplog.records if record.levelno >= logging.ERROR] == []


def test_the_host_programs_signals_and_logging_are_left_alone(caplog: pytest.LogCaptureFixture) -> None:
    """On the main thread too: signal handlers and loggers stay as they are; neither token nor prompt is logged."""

    def now() -> list[Any]:
        loggers = [logging.getLogger(f"uvicorn{each}") for each in ("", ".error", ".access")]
        handlers = [signal.getsignal(each) for each in (signal.SIGINT, signal.SIGTERM)]
        return [*handlers, *((list(each.handlers), each.level, each.propagate) for each in loggers)]

    async def main(server: HttpServer) -> tuple[list[Any], list[Any], list[int]]:
        before = now()
        ai = {"providers": {"local": provider_of(server)}}
        config = {**IN_MEMORY, "ai": ai, "gateway": {"enabled": True, "port": 0, "token": TOKEN}}
        async with (
            dspex.astart(config=config) as app,
            httpx.AsyncClient(headers={"authorization": f"Bearer {TOKEN}"}) as client,
        ):
            url = f"{(await app.call('gateway/http', GatewayStatus())).url}/v1/chat/completions"
            body = {"model": "local", "messages": MESSAGES}
            answers = [await client.post(url, json=each) for each in (body, body | {"n": 3})]
            return before, now(), [answer.status_code for answer in answers]

    caplog.set_level(logging.DEBUG)
    with HttpServer(answering()) as server:
        before, during, statuses = asyncio.run(main(server))
    assert (during, statuses) == (before, [200, 400])
    ours = [record.getMessage() for record in caplog.records if not record.name.startswith(("openai", "httpcore"))]
    assert not any(TOKEN in line or "Hamlet" in line for line in ours)


def test_a_defect_costs_one_request(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    """What nobody foresaw is a 500 with a correlation id; what the client sent is not logged."""
    from dspex.supervisors.gateway import completions

    def broken(data: bytes, resolve: Any) -> Any:
        raise ZeroDivisionError(data.decode())

    with gateway() as serving, serving.client() as client:
        with monkeypatch.context() as patch:
            patch.setattr(completions, "read_chat_request", broken)
            with pytest.raises(openai.InternalServerError, match="correlation id") as raised:
                client.chat.completions.create(model="local", messages=MESSAGES)
            assert raised.value.code == "internal_error"
        assert client.chat.completions.create(model="local", messages=MESSAGES).choices
    assert "ZeroDivisionError" in caplog.text
    assert "Hamlet" not in caplog.text


def test_a_route_answers_as_a_provider_does() -> None:
    """A route is a model; who answered of it is told."""

    def fail(exchange: Exchange) -> None:
        exchange.reply(400, {"error": {"code": "insufficient_quota", "message": "no money"}})

    with HttpServer(fail) as empty, HttpServer(streaming("a", "b")) as full:
        providers = {"first": provider_of(empty), "second": provider_of(full)}
        routes = {"any": {"targets": [{"provider": "first"}, {"provider": "second"}]}}
        with gateway(config={"ai": {"providers": providers, "routes": routes}}) as serving, serving.client() as client:
            assert "any" in [model.id for model in client.models.list()]
            raw = client.chat.completions.with_raw_response.create(model="any", messages=MESSAGES, stream=True)
            assert raw.headers["x-dspex-provider"] == "second"
            assert "".join(chunk.choices[0].delta.content or "" for chunk in raw.parse()) == "ab"
