"""The scripted provider: a real provider actor above it gets what the script says."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
from conformance.virtual_loop import VirtualLoop
from hypothesis import given
from hypothesis import strategies as st

import dspex
from dspex.actors.configuration.provider_settings import ProviderSettings
from dspex.actors.http.sse import SSEDecoder
from dspex.actors.http.transport import HttpRequest
from dspex.actors.lm.failures import lm_error
from dspex.actors.lm.stream_collector import Collector
from dspex.actors.lm.values import LMRequest, LMResponse, Message
from dspex.actors.providers.actor import Complete, ProviderActor
from dspex.actors.testing.scripted_provider import (
    Cut,
    Hang,
    Rule,
    ScriptedProvider,
    failure,
    rate_limited,
    refused,
    server_error,
)
from dspex.actors.testing.scripted_stream import cut_text
from dspex.actors.wire_formats.openai_chat import OpenAIChat
from dspex.runtime.errors import (
    CallTimeout,
    LMAuthError,
    LMConnectionError,
    LMError,
    LMInvalidRequest,
    LMProtocolError,
    LMRateLimited,
    LMServerError,
    LMTimeout,
)
from dspex.runtime.testing import VirtualSystem


def settings(**more: Any) -> ProviderSettings:
    """Of a provider that needs no network."""
    fields = {"kind": "openai", "base_url": "http://127.0.0.1:9/v1", "default_model": "m", "retry_attempts": 1}
    return ProviderSettings.model_validate(fields | {"timeout": 20.0} | more)


def provider(system: VirtualSystem, script: ScriptedProvider) -> None:
    """Start ``provider/p`` on a script."""
    system.probe("core/events")
    system.spawn(ProviderActor, "p", settings=settings(), transport=script.transport, name="provider/p")


def ask(system: VirtualSystem, text: str = "Hi", timeout: float = 60.0) -> LMResponse:
    """Ask it."""
    answer = system.call("provider/p", Complete(LMRequest((Message("user", text),))), timeout)
    assert isinstance(answer, LMResponse)
    return answer


def test_the_first_rule_that_fits_answers() -> None:
    """By text of the last message, by the body, and otherwise; each as often as it says; requests are kept."""
    script = ScriptedProvider(
        Rule("Shakespeare", when="Hamlet"),
        Rule("once", times=1),
        Rule("m it is", when=lambda body: body["model"] == "m"),
        usage=(7, 3),
    )
    with VirtualSystem() as system:
        provider(system, script)
        texts = [ask(system, text).text for text in ("Who wrote Hamlet?", "Hi", "Hi", "Hamlet")]
        assert texts == ["Shakespeare", "once", "m it is", "Shakespeare"]
        usage = ask(system).usage
        assert usage is not None
        assert (usage.input_tokens, usage.output_tokens) == (7, 3)
        assert script.requests[0]["messages"][-1]["content"] == "Who wrote Hamlet?"
        script.add(Rule("new"))
        assert ask(system, "Hamlet").text == "new"


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        (rate_limited(3.0), LMRateLimited),
        (server_error(503), LMServerError),
        (failure(401), LMAuthError),
        (refused(), LMConnectionError),
        (Cut(), LMProtocolError),
        (Hang(), LMTimeout),
    ],
)
def test_failures_are_the_typed_errors_of_a_real_provider(answer: Any, error: type[LMError]) -> None:
    """Each comes as often as asked, and as the class that the real network would lead to; the actor lives on."""
    with VirtualSystem() as system:
        provider(system, ScriptedProvider(Rule(answer, times=2), Rule("well")))
        for _ in range(2):
            with pytest.raises(error):
                ask(system)
        assert ask(system).text == "well"


def test_rate_limits_say_how_long() -> None:
    """The seconds to wait reach the caller."""
    with VirtualSystem() as system:
        provider(system, ScriptedProvider(Rule(rate_limited(3.0))))
        with pytest.raises(LMRateLimited) as caught:
            ask(system)
        assert caught.value.retry_after == 3.0


def test_slow_answers_take_virtual_time() -> None:
    """An answer's delay passes on the virtual clock; a caller that gives up first cancels the request."""
    script = ScriptedProvider(Rule("late", delay=8.0))
    with VirtualSystem() as system:
        provider(system, script)
        assert ask(system).text == "late"
        assert system.now == 1008.0
        with pytest.raises((LMTimeout, CallTimeout)):
            ask(system, timeout=2.0)
        assert system.now <= 1010.01


def test_a_caller_that_gives_up_ends_the_request() -> None:
    """The script counts it."""
    script = ScriptedProvider(Rule(Hang()))
    with VirtualSystem() as system:
        provider(system, script)
        complete = Complete(LMRequest((Message("user", "Hi"),)))
        question = system.loop.create_task(system.engine.call_async("provider/p", complete))
        system.settle()
        assert (len(script.requests), script.cancelled) == (1, 0)
        question.cancel()
        system.settle()
        assert script.cancelled == 1


def test_a_scripted_error_is_raised_as_written_each_time() -> None:
    """Also a time-out of the network; what the provider adds to an error does not stay on the script's."""
    error = lm_error("timeout", "the gateway sleeps")
    with VirtualSystem() as system:
        provider(system, ScriptedProvider(Rule(error)))
        for _ in range(2):
            with pytest.raises(LMTimeout, match="the gateway sleeps"):
                ask(system)
        assert "attempts" not in error.facts


def test_a_hang_ends_with_the_providers_timeout() -> None:
    """A provider that never answers costs its time-out, in virtual seconds."""
    with VirtualSystem() as system:
        provider(system, ScriptedProvider(Rule(Hang())))
        with pytest.raises(LMTimeout):
            ask(system)
        assert system.now == 1020.0


def test_a_request_nobody_thought_of_fails() -> None:
    """Without a rule the answer is an error that shows the question."""
    with VirtualSystem() as system:
        provider(system, ScriptedProvider(Rule("x", when="never said")))
        with pytest.raises(LMInvalidRequest, match="no rule for 'What\\?'"):
            ask(system, "What?")


def test_a_killed_provider_goes_on_with_the_script() -> None:
    """The script is the test's, not the actor's: used-up rules stay used up."""
    script = ScriptedProvider(Rule("one", times=1), Rule("two"))
    with VirtualSystem() as system:
        provider(system, script)
        assert ask(system).text == "one"
        system.kill("provider/p")
        system.spawn(ProviderActor, "p", settings=settings(), transport=script.transport, name="provider/p")
        assert ask(system).text == "two"


def test_a_whole_application_asks_the_script() -> None:
    """The standard tree with a declared provider and module, in virtual time: the module parses scripted fields."""
    script = ScriptedProvider(Rule({"answer": "Shakespeare"}, when="Hamlet", delay=2.0))
    config = {
        "events": {"in_memory": True},
        "ai": {"providers": {"local": {"kind": "openai", "base_url": "http://127.0.0.1:9/v1", "default_model": "m"}}},
        "modules": {"qa": {"signature": "question -> answer", "provider": "local"}},
    }
    with script.instead_of_http(), VirtualSystem(seed=2) as system:
        app = system.start(dspex.astart, config=config)
        for question in ("Who wrote Hamlet?", "Hamlet is by whom?"):
            assert system.run(app.module("qa")(question=question)).answer == "Shakespeare"
            system.kill("provider/local")
        assert system.expect_event(("dspex", "lm", "stop"), provider="local").measurements["duration"] == 2.0
        assert system.now >= 1004.0
        assert len(script.requests) == 2


# -- streams --------------------------------------------------------------------------------------


def post(text: str = "Hi", **fields: Any) -> HttpRequest:
    """What a provider sends for a stream."""
    body = {"model": "m", "messages": [{"role": "user", "content": text}], "stream": True} | fields
    return HttpRequest("http://127.0.0.1:9/v1/chat/completions", body=json.dumps(body).encode())


class Seen:
    """A stream read to its end: when each piece of text came, on the virtual clock, and how it ended."""

    def __init__(self) -> None:
        self.pieces: list[tuple[float, str]] = []
        self.answer = Collector("m")
        self.status = 0
        self.error: LMError | None = None

    async def read(self, script: ScriptedProvider, request: HttpRequest, timeout: float = 60.0) -> Seen:
        loop = asyncio.get_running_loop()
        began = loop.time()
        decoder, wire = SSEDecoder(), OpenAIChat()
        try:
            stream = await script.transport(settings()).open(request, timeout=timeout)
            self.status = stream.head.status
            assert stream.head.content_type == "text/event-stream"
            while data := await stream.read():
                for event, text in decoder.feed(data):
                    wire.read_event(event, text, self.answer)
                self.pieces += [(round(loop.time() - began, 6), chunk.text) for chunk in self.answer.take()]
        except LMError as error:
            self.error = error
        return self


def stream(script: ScriptedProvider, request: HttpRequest | None = None, timeout: float = 60.0) -> Seen:
    """Read a stream in virtual time."""
    loop = VirtualLoop()
    try:
        return loop.run_until_complete(Seen().read(script, request or post(), timeout))
    finally:
        loop.close()


def test_a_stream_is_the_answer_in_words() -> None:
    """The same rules answer; text in words, a reason to finish, usage if asked for, the end: what a provider sends."""
    script = ScriptedProvider(Rule("To be, or  not\nto be", when="Hamlet"), usage=(7, 3))
    seen = stream(script, post("Hamlet", stream_options={"include_usage": True}))
    assert [text for _, text in seen.pieces] == ["To", " be,", " or", "  not", "\nto", " be"]
    assert (seen.answer.complete, seen.answer.ended, seen.error) == (True, True, None)
    whole = seen.answer.response()
    assert (whole.text, whole.finish_reason, whole.model) == ("To be, or  not\nto be", "stop", "m")
    assert (whole.usage.input_tokens, whole.usage.output_tokens) == (7, 3)
    unasked = stream(script, post("Hamlet")).answer.response().usage
    assert unasked.input_tokens is None
    assert len(script.requests) == 2


@pytest.mark.parametrize(
    ("pieces", "expected"),
    [
        (4, ["Hell", "o th", "ere"]),
        (("Hello", " ", "there"), ["Hello", " ", "there"]),
        (list, list("Hello there")),
        (None, ["Hello", " there"]),
    ],
    ids=["size", "given", "function", "words"],
)
def test_a_rule_says_how_the_text_is_cut(pieces: Any, expected: list[str]) -> None:
    """By size, as given, by a function, or in words."""
    seen = stream(ScriptedProvider(Rule("Hello there", pieces=pieces)))
    assert [text for _, text in seen.pieces] == expected


@pytest.mark.parametrize("pieces", [0, ("Hello",), lambda text: [text, "!"]])
def test_pieces_that_are_not_the_text_are_refused(pieces: Any) -> None:
    """A script that would stream something else than it answers: ValueError."""
    with pytest.raises(ValueError, match="expected pieces"):
        stream(ScriptedProvider(Rule("Hello there", pieces=pieces)))


@given(st.text(), st.none() | st.integers(1, 9))
def test_the_pieces_are_the_text(text: str, pieces: int | None) -> None:
    """Whatever the text, nothing is lost, and no piece is empty."""
    cut = cut_text(text, pieces)
    assert "".join(cut) == text
    assert all(cut)


def test_the_moments_of_a_stream_are_written_down() -> None:
    """The delay is before the head, the pause between two pieces; each run is the same."""
    script = ScriptedProvider(Rule("a b c", delay=2.0, pause=1.5))
    for _ in range(2):
        assert stream(script).pieces == [(2.0, "a"), (3.5, " b"), (5.0, " c")]


def test_fields_are_streamed_as_marked_sections() -> None:
    """As a whole answer would be."""
    seen = stream(ScriptedProvider(Rule({"answer": "Shakespeare"})))
    assert seen.answer.text == "[[ ## answer ## ]]\nShakespeare\n\n[[ ## completed ## ]]"


def test_a_stream_breaks_off_where_the_script_says() -> None:
    """After so many pieces and seconds: LMProtocolError."""
    seen = stream(ScriptedProvider(Rule(Cut(1.0, "a b c", after_pieces=2))))
    assert [text for _, text in seen.pieces] == ["a", " b"]
    assert isinstance(seen.error, LMProtocolError)
    assert not seen.answer.complete
    at_once = stream(ScriptedProvider(Rule(Cut())))
    assert (at_once.status, at_once.pieces, type(at_once.error)) == (200, [], LMProtocolError)


def test_a_stream_that_simply_stops_has_no_terminal_event() -> None:
    """Nothing on the wire tells that something is missing, but that nothing said it was all."""
    seen = stream(ScriptedProvider(Rule(Cut(text="a b c", after_pieces=2, silent=True))))
    assert ([text for _, text in seen.pieces], seen.error) == (["a", " b"], None)
    assert (seen.answer.complete, seen.answer.ended) == (False, False)


def test_a_stream_that_falls_silent_waits_for_its_reader_to_give_up() -> None:
    """A cancelled read is counted once, also if the stream is closed then; afterwards it is closed."""

    async def main() -> None:
        script = ScriptedProvider(Rule(Hang("a b", after_pieces=1)))
        found = await script.transport(settings()).open(post(), timeout=5)
        assert b'"content": "a"' in await found.read()
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(100.0):
                await found.read()
        await found.aclose()
        assert script.cancelled == 1
        with pytest.raises(LMProtocolError):
            await found.read()

    loop = VirtualLoop()
    loop.run_until_complete(main())
    loop.close()


def test_closing_a_stream_wakes_who_reads_it() -> None:
    """As with a socket: LMProtocolError, no end and no hang."""

    async def main() -> None:
        script = ScriptedProvider(Rule(Hang("a b", after_pieces=1)))
        found = await script.transport(settings()).open(post(), timeout=5)
        assert await found.read()
        reading = asyncio.ensure_future(found.read())
        await asyncio.sleep(0)
        await found.aclose()
        with pytest.raises(LMProtocolError):
            await reading
        assert script.cancelled == 1

    asyncio.run(main())


def test_a_stream_closed_before_its_end_is_counted() -> None:
    """One read to its end is not."""

    async def main() -> None:
        script = ScriptedProvider(Rule("a b"))
        for count in (0, 1):
            found = await script.transport(settings()).open(post(), timeout=5)
            while await found.read():
                if count:
                    break
            await found.aclose()
            assert script.cancelled == count
        assert await (await script.transport(settings()).open(post(stream=False), timeout=5)).read()

    asyncio.run(main())


@pytest.mark.parametrize(("answer", "status"), [(rate_limited(3.0), 429), (server_error(), 500)])
def test_an_error_status_is_a_body_in_one_piece(answer: Any, status: int) -> None:
    """A stream that is refused gets an ordinary answer."""

    async def main() -> None:
        found = await ScriptedProvider(Rule(answer)).transport(settings()).open(post(), timeout=5)
        assert (found.head.status, found.head.body) == (status, b"")
        assert json.loads(await found.read())["error"]["message"]
        assert await found.read() == b""

    asyncio.run(main())


def test_what_fails_before_the_head_fails_in_open() -> None:
    """An error of the network as written; silence as LMTimeout after the time given."""
    assert isinstance(stream(ScriptedProvider(Rule(refused()))).error, LMConnectionError)
    hung = stream(ScriptedProvider(Rule(Hang())), timeout=7.0).error
    assert isinstance(hung, LMTimeout)
    assert hung.timeout == 7.0
