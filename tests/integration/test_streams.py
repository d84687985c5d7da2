"""Streamed predictions and answers, as users of an application read them: plain, awaited, early, late and broken."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import json
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal
from typing import Any

import pytest

import dspex
from dspex.runtime.errors import (
    ActorDied,
    ApplicationDown,
    CallError,
    CallTimeout,
    ConfigError,
    Error,
    LMBudgetExceeded,
    LMServerError,
    NoProcess,
    ParseError,
    SignatureError,
    StreamInterrupted,
    UsageError,
    WrongThread,
)
from dspex.supervisors.app.console.observer import Observer
from kit.application import IN_MEMORY, application, provider_of
from kit.http_server import HttpServer
from kit.talker import ANSWER, DONE, TEXT, Endings, Talker, endings, section

QUESTION = "Capital of Norway?"


@pytest.fixture
def talk() -> Talker:
    """What the provider says; tests change it."""
    return Talker()


@pytest.fixture
def town(talk: Talker) -> Iterator[tuple[dspex.App, HttpServer]]:
    """An application with one provider and one module."""
    with application(talk, "qa") as (app, server):
        yield app, server


@pytest.fixture
def app(town: tuple[dspex.App, HttpServer]) -> dspex.App:
    """The application."""
    return town[0]


@pytest.fixture
def server(town: tuple[dspex.App, HttpServer]) -> HttpServer:
    """The server behind it."""
    return town[1]


@pytest.fixture
def ended(app: dspex.App) -> Iterator[Endings]:
    """How executions ended."""
    with endings(app) as noted:
        yield noted


def leaves(server: HttpServer) -> bool:
    """Whether the request is ended, long before its own time-out."""
    return server.client_closed.wait(10)


def nothing_open(app: dspex.App, id: str = "qa") -> bool:
    """Whether a module has nothing in work any more."""
    end = time.monotonic() + 10
    while True:
        status = app.module(id).status()
        if (status.running, status.waiting, status.streams) == (0, 0, 0):
            return True
        if time.monotonic() > end:
            return False


# -- reading ---------------------------------------------------------------------------------------


def test_plain_code_reads_a_prediction_as_it_grows(app: dspex.App, ended: Endings) -> None:
    """Pieces of the field in order, numbered; then the whole, checked, with how it came."""
    with app.module("qa").stream(question=QUESTION) as stream:
        chunks = list(stream)
    assert [chunk.index for chunk in chunks] == list(range(len(chunks)))
    assert len(chunks) > 1
    assert {chunk.field for chunk in chunks} == {"answer"}
    assert "".join(chunk.text for chunk in chunks) == TEXT
    assert stream.result.answer == TEXT
    info = stream.result.info
    assert (info.usage.input_tokens, info.usage.output_tokens, info.finish_reason) == (11, 3, "stop")
    assert (info.provider, info.model, info.cache_hit, len(info.attempts)) == ("local", "test-model", False, 1)
    assert info.time_to_first_chunk is not None
    assert info.duration is not None
    assert 0 < info.time_to_first_chunk <= info.duration
    assert info.text == "".join(ANSWER)
    assert ended.after(1) == [None]
    assert nothing_open(app)


def test_pieces_come_before_the_end(app: dspex.App, talk: Talker) -> None:
    """A field's text is read while the model still writes, and the module says that a stream is open."""
    talk.then = "wait"
    with app.module("qa").stream(question=QUESTION) as stream:
        read = [next(stream).text, next(stream).text]
        assert read == ["Oslo", " is"]
        status = app.module("qa").status()
        assert (status.running, status.streams, status.executions) == (1, 1, 0)
        with pytest.raises(UsageError, match="read to its end"):
            _ = stream.result
        talk.go.set()
        assert "".join([*read, *(chunk.text for chunk in stream)]) == TEXT
    assert stream.result.answer == TEXT
    status = app.module("qa").status()
    assert (status.running, status.streams, status.executions) == (0, 0, 1)


def test_typed_fields_and_several_of_them(app: dspex.App, talk: Talker) -> None:
    """Text of each field as it grows, in the answer's order; the result has the types of the signature."""
    app.start_module("facts", "city -> people: int, names: list[str]", provider="local")
    pieces = (section("people"), "70", "0000", "\n\n", section("names"), '["Os', 'lo", "Chris', 'tiania"]', DONE)
    talk.pieces = pieces
    texts: dict[str, str] = {}
    with app.module("facts").stream(city="Oslo") as stream:
        for chunk in stream:
            texts[chunk.field] = texts.get(chunk.field, "") + chunk.text
    assert texts == {"people": "700000", "names": '["Oslo", "Christiania"]'}
    assert stream.result.to_dict() == {"people": 700_000, "names": ["Oslo", "Christiania"]}


def test_without_with(app: dspex.App, ended: Endings) -> None:
    """A plain ``for`` begins the stream and reads it to its end; once more there is nothing."""
    stream = app.module("qa").stream(question=QUESTION)
    assert "".join(chunk.text for chunk in stream) == TEXT
    assert list(stream) == []
    assert stream.result.answer == TEXT
    assert ended.after(1) == [None]


def test_a_stream_is_begun_once(app: dspex.App, server: HttpServer) -> None:
    """Entering a second time, or one that was closed before, is a mistake and asks no model."""
    with app.module("qa").stream(question=QUESTION) as stream:
        list(stream)
    with pytest.raises(UsageError, match="fresh stream"):
        stream.__enter__()
    unread = app.module("qa").stream(question=QUESTION)
    unread.close()
    with pytest.raises(UsageError, match="fresh stream"):
        next(unread)
    assert len(server.requests) == 1


def test_coroutines_on_the_engines_loop() -> None:
    """The awaitable view on the loop that the engine runs on."""

    async def run() -> None:
        with HttpServer(Talker()) as server:
            config = {**IN_MEMORY, "ai": {"providers": {"local": provider_of(server)}}}
            async with dspex.astart(config=config) as app:
                qa = await app.start_module("qa", "question -> answer", provider="local")
                async with qa.options(max_demand=1).stream(question=QUESTION) as stream:
                    texts = [chunk.text async for chunk in stream]
                assert "".join(texts) == stream.result.answer == TEXT
                texts = [chunk.text async for chunk in qa.stream(question=QUESTION)]
                assert "".join(texts) == TEXT

    asyncio.run(run())


def test_coroutines_on_another_loop(app: dspex.App, ended: Endings) -> None:
    """The awaitable view of a running application, from a loop of the reader's own; many at once."""

    async def read(number: int) -> str:
        async with app.aio.module("qa").stream(question=f"{QUESTION} {number}") as stream:
            text = "".join([chunk.text async for chunk in stream])
            assert stream.result.answer == text
            return text

    async def run() -> list[str]:
        return await asyncio.gather(*(read(number) for number in range(8)))

    assert asyncio.run(run()) == [TEXT] * 8
    assert ended.after(8) == [None] * 8
    assert nothing_open(app)


def test_many_threads(app: dspex.App, ended: Endings) -> None:
    """One handle, eight threads: each reads its own answer."""
    qa = app.module("qa")

    def read(number: int) -> str:
        with qa.stream(question=f"{QUESTION} {number}") as stream:
            return "".join(chunk.text for chunk in stream)

    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(read, range(24))) == [TEXT] * 24
    assert ended.after(24) == [None] * 24
    assert nothing_open(app)


def test_the_model_itself_in_pieces(app: dspex.App) -> None:
    """A provider's stream: chunks of the text as it came, and the whole answer as a call gives it."""
    with app.lm.stream("local", QUESTION, max_demand=2) as stream:
        text = "".join(chunk.text for chunk in stream)
    assert text == stream.result.text == "".join(ANSWER)
    assert stream.result.usage.output_tokens == 3
    assert stream.result.time_to_first_chunk is not None


def test_a_blocking_stream_is_not_for_the_engines_thread(app: dspex.App) -> None:
    """There it would wait for itself."""
    with pytest.raises(WrongThread):
        app.engine.on_engine(app.module("qa").stream(question=QUESTION).__enter__)


# -- leaving ---------------------------------------------------------------------------------------


def test_leaving_early_ends_the_request(app: dspex.App, server: HttpServer, talk: Talker, ended: Endings) -> None:
    """The provider's connection is closed at once, the slot is free, and the execution is told as given up."""
    talk.then = "hang"
    with app.module("qa").stream(question=QUESTION) as stream:
        assert next(stream).text == "Oslo"
    assert leaves(server)
    assert list(stream) == []
    with pytest.raises(UsageError, match="read to its end"):
        _ = stream.result
    assert ended.after(1) == ["cancelled"]
    assert nothing_open(app)


@pytest.mark.parametrize("direct", [False, True], ids=["module", "model"])
def test_leaving_before_the_first_piece_is_read(app: dspex.App, server: HttpServer, talk: Talker, direct: bool) -> None:
    """Entered and left: nobody waits for a reader that will not come."""
    talk.then = "hang"
    stream: Any = app.lm.stream("local", QUESTION) if direct else app.module("qa").stream(question=QUESTION)
    with stream:
        pass
    assert leaves(server)


def test_closing_while_another_thread_reads(app: dspex.App, server: HttpServer, talk: Talker) -> None:
    """The reader's loop ends as at any close, without an error; the request ends too."""
    talk.then = "hang"
    stream = app.module("qa").stream(question=QUESTION)
    first = threading.Event()
    texts: list[str] = []

    def read() -> None:
        for chunk in stream:
            texts.append(chunk.text)
            first.set()

    with ThreadPoolExecutor(1) as pool:
        reading = pool.submit(read)
        assert first.wait(5)
        assert talk.said.wait(5)
        stream.close()
        reading.result(5)
    assert "".join(texts) in TEXT
    assert server.client_closed.wait(5)
    with pytest.raises(UsageError, match="read to its end"):
        _ = stream.result


def test_a_forgotten_stream_ends_the_request(app: dspex.App, server: HttpServer, talk: Talker, ended: Endings) -> None:
    """A reader that breaks off its loop and drops the stream is as good as one that closes it."""
    talk.then = "hang"
    for chunk in app.module("qa").stream(question=QUESTION):
        assert chunk.text == "Oslo"
        break
    gc.collect()
    assert leaves(server)
    assert ended.after(1) == ["cancelled"]


def test_a_cancelled_reader_ends_the_request(app: dspex.App, server: HttpServer, talk: Talker, ended: Endings) -> None:
    """A coroutine that is cancelled while it waits for the next piece."""
    talk.then = "hang"

    async def run() -> None:
        async def read() -> None:
            async with app.aio.module("qa").stream(question=QUESTION) as stream:
                text = ""
                async for chunk in stream:
                    text += chunk.text
                    if text == TEXT:
                        waiting.set()  # there comes nothing more

        waiting = asyncio.Event()
        reader = asyncio.create_task(read())
        await waiting.wait()
        reader.cancel()
        with pytest.raises(asyncio.CancelledError):
            await reader

    asyncio.run(run())
    assert leaves(server)
    assert ended.after(1) == ["cancelled"]


def test_giving_up_before_the_first_piece(app: dspex.App, server: HttpServer, talk: Talker, ended: Endings) -> None:
    """The time-out is that of the beginning: a model that says nothing is left, and its slot is free."""
    talk.pieces, talk.then = (), "hang"
    with (
        pytest.raises((CallTimeout, TimeoutError)),
        app.module("qa").options(timeout=0.5).stream(question=QUESTION),
    ):
        pass
    assert leaves(server)
    assert ended.after(1) in (["lm_timeout"], ["cancelled"])
    assert nothing_open(app)


def test_a_slow_reader_outlives_the_timeout(app: dspex.App, talk: Talker) -> None:
    """Once it has begun, a stream is bounded by the provider's own clocks, not by the call's time-out."""
    talk.then = "wait"
    with app.module("qa").options(timeout=1.0).stream(question=QUESTION) as stream:
        first = next(stream).text
        assert not threading.Event().wait(1.1)
        talk.go.set()
        assert first + "".join(chunk.text for chunk in stream) == TEXT


# -- failing ---------------------------------------------------------------------------------------


def test_an_answer_that_does_not_fit(app: dspex.App, talk: Talker, ended: Endings) -> None:
    """Its text is delivered; the end is the ParseError that a call would raise, and the result raises it again."""
    app.start_module("count", "question -> n: int", provider="local")
    talk.pieces = (section("n"), "a ", "dozen", DONE)
    texts: list[str] = []
    with app.module("count").stream(question="?") as stream:
        with pytest.raises(ParseError, match="int"):
            texts.extend(chunk.text for chunk in stream)
        with pytest.raises(ParseError, match="int"):
            _ = stream.result
    assert list(stream) == []
    assert ended.after(1) == ["parse_error"]
    assert nothing_open(app, "count")


@pytest.mark.parametrize("direct", [False, True], ids=["module", "model"])
def test_a_stream_that_breaks_off(app: dspex.App, talk: Talker, direct: bool) -> None:
    """After the first piece nothing is tried again: StreamInterrupted, with the text that came."""
    talk.pieces, talk.then = ANSWER[:3], "cut"
    stream: Any = app.lm.stream("local", QUESTION) if direct else app.module("qa").stream(question=QUESTION)
    texts: list[str] = []
    with stream, pytest.raises(StreamInterrupted) as caught:
        texts.extend(chunk.text for chunk in stream)
    assert "".join(texts) == ("".join(ANSWER[:3]) if direct else "Oslo is")
    assert caught.value.text == "".join(ANSWER[:3])
    assert not caught.value.retryable
    seen = [event.trace_id for event in app.events.query(type="lm_error").events]
    assert seen == [caught.value.facts["correlation_id"]]  # with it the events are found
    with pytest.raises(StreamInterrupted):
        _ = stream.result
    assert nothing_open(app)


def test_refused_inputs_and_a_failing_provider(ended: Endings, app: dspex.App, server: HttpServer) -> None:
    """What is wrong before the first piece is raised where the stream is begun, as a call raises it."""
    with pytest.raises(SignatureError, match="question"):
        next(app.module("qa").stream(qestion=QUESTION))
    assert not server.requests
    server.script = lambda exchange: exchange.reply(500, {"error": {"message": "no"}})
    app.configure_provider("local", **provider_of(server, retry_attempts=1))
    stream = app.module("qa").stream(question=QUESTION)
    with pytest.raises(LMServerError), stream:
        pass
    assert ended.after(2) == ["signature_error", "lm_server_error"]
    assert nothing_open(app)
    app.stop_module("qa")
    with pytest.raises(NoProcess):
        app.module("qa")


@pytest.mark.parametrize("whole", ["provider/local", "module/qa", "streams/local", "streams/module/qa"])
def test_who_serves_it_dies(app: dspex.App, server: HttpServer, talk: Talker, whole: str) -> None:
    """The reader is told, it never takes a part for the whole; the request ends; the next stream is as any other."""
    talk.then = "hang"
    with app.module("qa").stream(question=QUESTION) as stream:
        assert next(stream).text == "Oslo"
        app.kill(whole)
        with pytest.raises(ActorDied):
            list(stream)
        with pytest.raises(ActorDied):
            _ = stream.result
    assert leaves(server)
    talk.then = "end"
    with app.module("qa").stream(question=QUESTION) as stream:
        assert "".join(chunk.text for chunk in stream) == TEXT
    assert nothing_open(app)


@pytest.mark.parametrize("direct", [False, True])
def test_a_stream_that_is_killed_before_it_is_read(app: dspex.App, talk: Talker, direct: bool) -> None:
    """Between the opening and the first read: ActorDied that names what was asked, as if it had died later."""
    talk.then = "hang"
    target = "provider/local" if direct else "module/qa"
    stream: Any = app.lm.stream("local", QUESTION) if direct else app.module("qa").stream(question=QUESTION)
    with stream:
        producer = stream._producer
        ref = app.engine.on_engine(_gone, app, producer)
        assert ref.wait(5)
        with pytest.raises(ActorDied, match=f"the stream of {target} ended \\(killed\\)") as caught:
            next(stream)
    assert caught.value.facts["target"] == target


def _gone(app: dspex.App, address: Any) -> threading.Event:
    """Kill an actor, on the engine's thread; set when it has ended."""
    ended = threading.Event()
    address.cell.watch(-1, lambda *_: ended.set())
    app.kill(address)
    return ended


def test_a_models_stream_whose_provider_dies(app: dspex.App, talk: Talker) -> None:
    """As above, without a module between."""
    talk.then = "hang"
    with app.lm.stream("local", QUESTION) as stream:
        next(stream)
        app.kill("provider/local")
        with pytest.raises(ActorDied):
            list(stream)


def test_the_application_stops(talk: Talker) -> None:
    """A reader that waits is told at once that the application is down; so is who comes later."""
    talk.then = "hang"
    with application(talk, "qa") as (app, server):
        failed: list[Error] = []
        waiting = threading.Event()

        def read() -> None:
            with app.module("qa").stream(question=QUESTION) as stream:
                try:
                    for _ in stream:
                        waiting.set()
                except Error as error:
                    failed.append(error)

        reader = threading.Thread(target=read)
        reader.start()
        assert waiting.wait(5)
        assert talk.said.wait(5)
        app.stop()
        reader.join(5)
        assert not reader.is_alive()
        assert len(failed) == 1
        assert isinstance(failed[0], CallError)
        with pytest.raises(ApplicationDown):
            next(app.module("qa").stream(question=QUESTION))
        assert server.client_closed.wait(5)


# -- options ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("wrong", [0, -1, True, "8", 1.5, None])
def test_a_wrong_max_demand_is_refused_at_once(app: dspex.App, server: HttpServer, wrong: Any) -> None:
    """A typed error where it is written, before anything is asked."""
    with pytest.raises(ConfigError, match="max_demand"):
        app.module("qa").options(max_demand=wrong)
    with pytest.raises(ConfigError, match="max_demand"):
        app.aio.module("qa").options(max_demand=wrong)
    with pytest.raises(ConfigError, match="max_demand"):
        app.lm.stream("local", QUESTION, max_demand=wrong)
    with pytest.raises(ConfigError, match="max_demand"):
        app.aio.lm.stream("local", QUESTION, max_demand=wrong)
    assert not server.requests


def test_misspelt_options_are_refused_at_once(app: dspex.App) -> None:
    """With what was meant."""
    with pytest.raises(UsageError, match="did you mean 'max_demand'"):
        app.module("qa").options(max_demnd=3)


def test_a_small_demand_slows_nobody_but_the_provider(app: dspex.App) -> None:
    """One piece at a time: all of them, in order."""
    with app.module("qa").options(max_demand=1).stream(question=QUESTION) as stream:
        assert "".join(chunk.text for chunk in stream) == TEXT


def test_open_streams_hold_their_slots(app: dspex.App, talk: Talker) -> None:
    """max_concurrency holds over calls and streams alike; a stream that ends, however it does, lets the next one in."""
    app.update_setting(("modules", "qa", "max_concurrency"), 1)
    talk.then = "hang"
    qa = app.module("qa")
    for _ in range(3):
        with qa.stream(question=QUESTION) as stream:
            next(stream)
            with pytest.raises(CallTimeout):
                qa.options(timeout=0.05)(question=QUESTION)
    talk.then = "end"
    with qa.stream(question=QUESTION) as stream:
        list(stream)
    assert qa(question=QUESTION).answer == TEXT


# -- what is told of them --------------------------------------------------------------------------


def test_events_of_a_streamed_prediction(app: dspex.App) -> None:
    """One execution, and below it one request and one response, in one trace of its user."""
    with app.module("qa").options(user="ann").stream(question=QUESTION) as stream:
        list(stream)
    info = stream.result.info
    assert info.correlation_id is not None
    root = app.events.tree(info.correlation_id)
    found = {event.type: event for event in app.events.query(correlation_id=info.correlation_id).events}
    assert set(found) == {"module_execution", "lm_request", "lm_first_chunk", "lm_response"}
    execution, request = found["module_execution"], found["lm_request"]
    assert (execution.span_id, request.parent_id) == (info.span_id, info.span_id)
    assert {event.user for event in found.values()} == {"ann"}
    assert request.model_dump()["stream"]
    assert found["lm_response"].model_dump()["output_tokens"] == 3
    assert root


def test_budgets_and_protection_are_settled(app: dspex.App, talk: Talker) -> None:
    """A stream is admitted, paid for and counted as a call is; after its end nothing is held."""
    app.update_setting(("modules", "qa", "budget"), {"requests": 2})
    qa = app.module("qa")
    talk.then = "hang"
    with qa.stream(question=QUESTION) as stream:
        next(stream)
        assert app.protection.status("local").in_flight == 1
        (report,) = app.budgets.status("module/qa")
        assert (report.reserved.requests, report.spent.requests) == (1, 0)
    talk.then = "end"
    with qa.stream(question=QUESTION) as stream:
        list(stream)
    while app.protection.status("local").in_flight or app.budgets.status("module/qa")[0].reserved.requests:
        pass
    (report,) = app.budgets.status("module/qa")
    assert (report.reserved.requests, report.spent.requests) == (0, 2)
    assert report.spent.tokens >= 14
    with pytest.raises(LMBudgetExceeded) as caught, qa.stream(question=QUESTION):
        pass
    assert caught.value.account == "module/qa"
    assert nothing_open(app)


def test_metrics_count_streams_as_executions(app: dspex.App, talk: Talker, ended: Endings) -> None:
    """One good, one that broke off: executions by status, and no stream open."""
    qa = app.module("qa")
    list(qa.stream(question=QUESTION))
    talk.then, talk.pieces = "cut", ANSWER[:3]
    with contextlib.suppress(StreamInterrupted):
        list(qa.stream(question=QUESTION))
    assert ended.after(2) == [None, "lm_stream_interrupted"]
    status = qa.status()
    assert (status.executions, status.failures, status.last_error) == (2, 1, "lm_stream_interrupted")


def test_how_an_answer_came_is_told_of_calls_cached_calls_and_streams() -> None:
    """cache_hit, time_to_first_chunk and cost: of a call, of the same from the cache, and of a stream."""
    prices = {"test-model": {"input": "1", "output": "2"}}
    with HttpServer(Talker()) as server:
        config = {**IN_MEMORY, "ai": {"providers": {"local": provider_of(server, prices=prices)}}}
        with dspex.start(config=config) as app:
            qa = app.start_module("qa", "question -> answer", provider="local")
            call, again = qa(question=QUESTION).info, qa(question=QUESTION).info
            with qa.stream(question=QUESTION) as stream:
                list(stream)
            streamed = stream.result.info
    assert (call.cache_hit, again.cache_hit) == (False, True)
    assert call.cost == Decimal("0.000017")
    assert again.cost == 0
    assert (again.usage.total_tokens, again.attempts) == (0, ())
    assert (call.time_to_first_chunk, again.time_to_first_chunk) == (None, None)
    assert streamed.text == call.text == again.text
    assert (streamed.cache_hit, streamed.cost, streamed.usage) == (False, call.cost, call.usage)
    assert streamed.time_to_first_chunk is not None


def test_the_console_shows_streams_and_what_guards_them_without_secrets(server: HttpServer, talk: Talker) -> None:
    """``ps``, ``show`` and ``explain`` of every actor while a stream is open: names, numbers, and no secret."""
    talk.then = "hang"
    key, password = "sk-key-0123456789", "password-0123456789"
    local = provider_of(
        server,
        api_key=key,
        headers={"X-Own": key},
        limit_storage=f"redis://user:{password}@127.0.0.1:1/0",
        rate_limit={"window": 60.0, "limit": 10},
        budget={"requests": 5},
    )
    routes = {"any": {"targets": [{"provider": "local"}]}}
    modules = {"qa": {"signature": "question -> answer", "provider": "any"}}
    config = {**IN_MEMORY, "ai": {"providers": {"local": local}, "routes": routes}, "modules": modules}
    with dspex.start(config=config) as app, app.module("qa").stream(question=QUESTION) as stream:
        next(stream)
        observer = Observer(app.engine, "test")
        rows = observer.answer("stats", None)["rows"]
        assert {row["actor"] for row in rows} >= {"LMStream", "PredictionStream", "Reader", "ProtectionActor"}
        shown = {row["name"]: observer.answer("show", row["name"]) for row in rows}
        told = json.dumps([shown, rows, [observer.answer("explain", name) for name in shown]], default=str)
    assert all(each["state_error"] == "" for each in shown.values())
    assert key not in told
    assert password not in told
    protection = shown["protection/local"]["state"]
    assert (protection["in flight"], protection["breaker"].partition(",")[0]) == ("1", "'closed")
    assert "1 open" in shown["core/budgets"]["state"]["_ledger"]
    assert "kept" in shown["observers/cache"]["state"]["_memory"]
    assert "running" in shown["streams/module/qa"]["state"]["_by_address"]
