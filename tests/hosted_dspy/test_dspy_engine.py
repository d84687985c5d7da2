"""DSPy's own LM on our engine: real DSPy, a real application, HTTP on loopback."""

from __future__ import annotations

import asyncio
from typing import Any

import dspy
import pytest
from dspy import lm15

from dspex.actors.dspy.answers import response_of
from dspex.actors.dspy.requests import read_request
from dspex.actors.lm.values import LMResponse, ToolCall
from dspex.dspy import ActorEngine, Line, actor_lm, check_lm
from dspex.runtime.errors import ConfigError, LMInvalidRequest, LMProtocolError
from kit.application import application
from kit.dspy_scene import Model, marked, scene, types
from kit.http_server import Exchange


def request(*messages: Any, **more: Any) -> Any:
    """A request of DSPy's."""
    return lm15.Request(model="m", messages=messages or (lm15.Message.user("hi"),), **more)


def test_a_predictor_answers_through_the_provider_actor() -> None:
    """A call of DSPy's is a request of the provider actor: its events and its usage are there."""
    model = Model()
    with scene(model) as app, dspy.context(lm=actor_lm(app, "local", temperature=0.5), track_usage=True):
        answer = dspy.Predict("question -> answer")(question="Where?")
        assert answer.answer == "Paris"
        assert answer.get_lm_usage()["local/default"]["total_tokens"] > 0
        assert {"lm_request", "lm_response"} <= set(types(app))
    assert model.requests[0]["temperature"] == 0.5
    assert model.requests[0]["model"] == "test-model"


def test_async_calls_go_the_same_way() -> None:
    """DSPy's coroutines, many at once, are answered too."""
    model = Model()
    with scene(model) as app:
        predict = dspy.Predict("question -> answer")

        async def ask() -> list[str]:
            with dspy.context(lm=actor_lm(app, "local", model="m-2")):
                found = await asyncio.gather(*(predict.acall(question=f"{number}?") for number in range(5)))
            return [each.answer for each in found]

        assert asyncio.run(ask()) == ["Paris"] * 5
    assert [each["model"] for each in model.requests] == ["m-2"] * 5


@pytest.mark.parametrize("in_coroutines", [True, False])
def test_an_answer_streams(in_coroutines: bool) -> None:
    """`streamify` gives the field's text in pieces, and the whole at the end."""
    model = Model(lambda _: marked("It is Paris, a city on the river Seine in the north of France."))
    with scene(model) as app, dspy.context(lm=actor_lm(app, "local")):
        listener = dspy.streaming.StreamListener(signature_field_name="answer")
        program = dspy.streamify(
            dspy.Predict("question -> answer"), stream_listeners=[listener], async_streaming=in_coroutines
        )

        async def read() -> list[Any]:
            return [piece async for piece in program(question="Where?")]

        found = asyncio.run(read()) if in_coroutines else list(program(question="Where?"))
    *pieces, whole = found
    assert len(pieces) > 3
    assert "".join(piece.chunk for piece in pieces).strip() == whole.answer
    assert model.requests[0]["stream"] is True


@pytest.mark.parametrize("read", [0, 1])
def test_leaving_a_stream_ends_it(read: int) -> None:
    """Who closes the events of the engine, read or not, ends the request to the provider."""

    def endless(exchange: Exchange) -> None:
        exchange.head()
        exchange.chunk(b'data: {"id": "c1", "model": "m", "choices": [{"index": 0, "delta": {"content": "a"}}]}\n\n')
        exchange.hang()

    with application(endless) as (app, server):
        events = ActorEngine(Line(app.engine, "local")).stream(request())
        assert next(events).type == "start"
        assert [next(events).type for _ in range(read)] == ["delta"] * read
        events.close()
        assert server.client_closed.wait(5)


@pytest.mark.parametrize(
    ("status", "headers", "error"),
    [
        (401, {}, "LMAuthError"),
        (400, {}, "LMInvalidRequestError"),
        (429, {"Retry-After": "7"}, "LMRateLimitError"),
        (503, {}, "LMServerError"),
    ],
)
def test_failures_are_dspys_own(status: int, headers: dict[str, str], error: str) -> None:
    """DSPy sorts our errors as those of its own engines; below them are ours, and the attempts were the actor's."""
    model = Model(status=status, headers=headers)
    with scene(model, retry_attempts=1) as app:
        lm = actor_lm(app, "local")
        with pytest.raises(dspy.LMError) as caught:
            lm("hi")
    assert type(caught.value).__name__ == error
    assert caught.value.status == status
    assert len(model.requests) == 1


def test_the_provider_actor_retries_and_dspy_does_not() -> None:
    """An LM of ours has neither DSPy's retries nor its cache, and refuses both."""
    with scene(Model()) as app:
        lm = actor_lm(app, "local")
        check_lm(lm)
        with pytest.raises(ConfigError, match="num_retries=0"):
            actor_lm(app, "local", num_retries=3)
        with pytest.raises(ConfigError, match="cache=False"):
            check_lm(lm.copy(cache=True))
        with pytest.raises(ConfigError, match="ActorEngine"):
            check_lm(dspy.LM("openai/x", api_key="x"))


def test_an_unknown_provider_is_told() -> None:
    """A misspelt provider fails at once, and is not taken for a transient failure."""
    with scene(Model()) as app, pytest.raises(dspy.LMError, match="provider/lokal") as caught:
        actor_lm(app, "lokal")("hi")
    assert type(caught.value).__name__ == "LMNotConfiguredError"


def test_a_request_keeps_everything_a_provider_can_carry() -> None:
    """System text, tools and their results, images, structured output and settings are those of OpenAI's form."""
    tool = lm15.FunctionTool("look", "Looks.", {"type": "object", "properties": {}})
    asked = request(
        lm15.Message.user(["See:", lm15.ImagePart(url="http://x/y.png")]),
        lm15.Message.assistant([lm15.ThinkingPart("hm"), lm15.ToolCallPart("c1", "look", {"at": 1})]),
        lm15.Message.tool("c1", "a cat"),
        system="Be brief.",
        tools=(tool,),
        config=lm15.Config(
            max_tokens=9,
            stop=("x",),
            top_k=3,
            tool_choice=lm15.ToolChoice("required", ("look",)),
            response_format={"type": "json_schema", "schema": {"type": "object"}, "name": "n"},
            extensions={"foo": 1},
        ),
    )
    read = read_request(asked, "m-1")
    assert [turn.role for turn in read.messages] == ["system", "user", "assistant", "tool"]
    assert read.messages[1].content == (
        {"type": "text", "text": "See:"},
        {"type": "image_url", "image_url": {"url": "http://x/y.png"}},
    )
    assert read.messages[2].tool_calls == (ToolCall("c1", "look", '{"at": 1}'),)
    assert (read.messages[3].content, read.messages[3].tool_call_id) == ("a cat", "c1")
    assert read.tools is not None
    assert read.tools[0]["function"]["name"] == "look"
    assert read.tool_choice == {"type": "function", "function": {"name": "look"}}
    assert read.response_format == {"type": "json_schema", "json_schema": {"name": "n", "schema": {"type": "object"}}}
    assert (read.model, read.max_tokens, read.stop, read.extra) == ("m-1", 9, ("x",), {"top_k": 3, "foo": 1})


@pytest.mark.parametrize(
    ("asked", "where"),
    [
        (request(config=lm15.Config(logprobs=1)), "config.logprobs"),
        (request(tools=(lm15.BuiltinTool("web_search"),)), r"tools\[0\]"),
        (request(lm15.Message.user([lm15.VideoPart(url="http://x/y")])), r"messages\[0\]\.parts\[0\]"),
        (request(config=lm15.Config(reasoning=lm15.Reasoning("low", summary="auto"))), "config.reasoning"),
    ],
)
def test_what_cannot_be_carried_is_refused(asked: Any, where: str) -> None:
    """Nothing is left out in silence."""
    with pytest.raises(LMInvalidRequest, match=where):
        read_request(asked)


def test_an_answer_keeps_tool_calls_thoughts_and_refusals() -> None:
    """What the model said beside its text arrives as DSPy's parts; arguments that are no JSON are an error."""
    call = ToolCall("c1", "look", '{"at": 1}')
    found = response_of(LMResponse(text="", model="m", finish_reason="tool_calls", reasoning="hm", tool_calls=(call,)))
    assert [part.type for part in found.message.parts] == ["thinking", "tool_call"]
    assert (found.tool_calls[0].input, found.finish_reason) == ({"at": 1}, "tool_call")
    assert response_of(LMResponse(text="", model="m", refusal="no")).message.parts[0].type == "refusal"
    with pytest.raises(LMProtocolError, match="look"):
        response_of(LMResponse(text="", model="m", tool_calls=(ToolCall("c1", "look", "{"),)))
