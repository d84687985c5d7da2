"""Modules with the JSON adapter, over real HTTP: structured output, the way out without it, repairs, streams."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

import dspex
from dspex.actors.events.kinds import ModuleExecution
from dspex.actors.signatures.class_form import InputField, OutputField
from dspex.actors.signatures.signature import Signature
from dspex.runtime.errors import ParseError
from kit.application import application, configuration, provider_of
from kit.http_server import Exchange, HttpServer, completion
from kit.talker import Talker

ANSWER = '{"city": "Oslo", "people": 700000}'


class Where(Signature):
    """Find the city."""

    question: str = InputField()
    city: str = OutputField()
    people: int = OutputField(ge=0)


class Model:
    """A server that answers by script, and keeps what it was asked; it may know no structured output."""

    def __init__(self, *answers: str, structured: bool = True) -> None:
        self.answers = list(answers)
        self.structured = structured
        self.bodies: list[dict[str, Any]] = []

    def __call__(self, exchange: Exchange) -> None:
        """Answer, or refuse."""
        body = exchange.request.json()
        self.bodies.append(body)
        if "response_format" in body and not self.structured:
            exchange.reply(400, {"error": {"message": "response_format is not supported", "type": "invalid_request"}})
            return
        exchange.reply(200, completion(self.answers.pop(0)))


def where(server: HttpServer, **provider: Any) -> dict[str, Any]:
    """A configuration with one module of the class form, and JSON by default."""
    signature = Signature(Where)
    module = {"signature": signature.text, "instructions": signature.instructions, "provider": "local"}
    providers = {"providers": {"local": provider_of(server, **provider)}, "caching": {"enabled": False}}
    return configuration(
        server, modules={"where": module}, ai=providers, dspex={"modules": {"default_adapter": "json"}}
    )


def asked(model: Callable[[Exchange], None], calls: int = 1, **provider: Any) -> list[Any]:
    """Predictions of an application whose provider this is."""
    with HttpServer(model) as server, dspex.start(config=where(server, **provider)) as app:
        return [app.module("where")(question="Capital of Norway?") for _ in range(calls)]


def test_the_provider_is_asked_for_the_schema() -> None:
    """The body holds the strict schema, the prompt the field's bounds, and the answer is typed."""
    model = Model(ANSWER)
    [answer] = asked(model)
    assert (answer.city, answer.people) == ("Oslo", 700000)
    [body] = model.bodies
    schema = body["response_format"]["json_schema"]["schema"]
    assert schema["required"] == ["city", "people"]
    assert schema["additionalProperties"] is False
    assert "`people` (int, at least 0)" in body["messages"][0]["content"]
    assert "Find the city." in body["messages"][0]["content"]


@pytest.mark.parametrize(("provider", "requests"), [({"schema_mode": "none"}, 0), ({}, 1)])
def test_a_server_without_structured_output_is_asked_in_words(provider: dict[str, Any], requests: int) -> None:
    """Refused by the settings nothing is sent, refused by the server once; later requests do not ask for it."""
    model = Model(ANSWER, ANSWER, structured=False)
    answers = asked(model, 2, **provider)
    assert [answer.city for answer in answers] == ["Oslo", "Oslo"]
    assert ["response_format" in body for body in model.bodies] == [True] * requests + [False, False]


def test_any_json_object_is_asked_for_where_that_is_all_there_is() -> None:
    """``schema_mode`` says what the server has."""
    model = Model(ANSWER)
    asked(model, schema_mode="json_object")
    assert model.bodies[0]["response_format"]["type"] == "json_object"


def test_an_answer_is_repaired() -> None:
    """The second request shows the first answer and its mistake; the prediction says that there was one."""
    model = Model('{"city": "Oslo", "people": -1}', ANSWER)
    [answer] = asked(model)
    assert (answer.people, answer.info.repairs, len(answer.info.attempts)) == (700000, 1, 2)
    assert model.bodies[1]["messages"][-2] == {"role": "assistant", "content": '{"city": "Oslo", "people": -1}'}
    assert "greater than or equal to 0" in model.bodies[1]["messages"][-1]["content"]


def test_repairs_are_told_of() -> None:
    """The event of the execution has their number, and so has the counter; a model that repeats itself fails."""
    model = Model("Oslo", "Oslo")
    with application(model, "qa", config={"dspex": {"modules": {"default_adapter": "json"}}}) as (app, _):
        with pytest.raises(ParseError, match="expected a JSON object with 'answer'"):
            app.module("qa")(question="?")
        [event] = app.events.query(type="module_execution").events
        assert isinstance(event, ModuleExecution)
        assert (event.repairs, event.error_code) == (1, "parse_error")
        assert 'dspex_module_repairs_total{module="qa"} 1' in app.telemetry.prometheus()


def test_fields_are_streamed() -> None:
    """A text comes as it grows, a number when it is whole."""
    talk = Talker(('{"city": "Os', "lo", '", "peo', 'ple": 70', "0000", "}"))
    with HttpServer(talk) as server, dspex.start(config=where(server)) as app:
        with app.module("where").stream(question="?") as stream:
            chunks = [(chunk.field, chunk.text) for chunk in stream]
        assert chunks == [("city", "Os"), ("city", "lo"), ("people", "700000")]
        assert stream.result.to_dict() == {"city": "Oslo", "people": 700000}
        assert "response_format" in server.requests[-1].json()
