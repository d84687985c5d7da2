"""Kinds of modules in a whole application, over real HTTP: declared, streamed, saved, killed and back."""

from __future__ import annotations

import asyncio
import json
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

import dspex
from dspex.actors.events.kinds import ModuleExecution
from dspex.actors.modules.program_state import PredictorState
from dspex.runtime.errors import ConfigError, NoProcess, RemoteError, SignatureError
from kit.application import Watch, application, configuration, trip
from kit.http_server import Exchange, HttpServer, completion

THREADS: list[str] = []


class Chain(dspex.Module):
    """Two predictors, one after the other."""

    draft = dspex.Predict("question -> draft")
    final = dspex.Predict("question, draft -> answer")

    async def forward(self, question: str) -> Any:
        first = await self.draft(question=question)
        return self.final.last(question=question, draft=first.draft)


class Whole(dspex.Module):
    """Makes its answer itself."""

    ask = dspex.Predict("question -> answer")

    async def forward(self, question: str) -> dict[str, str]:
        found = await self.ask(question=question)
        return {"answer": found.answer.upper()}


def add(a: int, b: int) -> int:
    """Adds, on whatever thread it is called."""
    THREADS.append(threading.current_thread().name)
    return a + b


def longest(example: dspex.Example, prediction: dspex.Prediction) -> float:
    """Longer is better."""
    return min(len(prediction.answer), 10) / 10


class Model:
    """Fills in the fields that it is asked for; says what it was asked. Streams if that is wanted."""

    def __init__(self) -> None:
        self.bodies: list[dict[str, Any]] = []

    def __call__(self, exchange: Exchange) -> None:
        """Answer."""
        body = exchange.request.json()
        self.bodies.append(body)
        field = "draft" if "`[[ ## draft ## ]]`" in body["messages"][-1]["content"] else "answer"
        text = f"[[ ## {field} ## ]]\nmy {field}\n\n[[ ## completed ## ]]"
        if not body.get("stream"):
            exchange.reply(200, completion(text))
            return
        exchange.head()
        for piece in (text[:20], text[20:]):
            exchange.chunk(event({"choices": [{"index": 0, "delta": {"content": piece}, "finish_reason": None}]}))
        exchange.chunk(event({"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]}))
        usage = {"prompt_tokens": 11, "completion_tokens": 3, "total_tokens": 14}
        exchange.chunk(event({"choices": [], "usage": usage}) + b"data: [DONE]\n\n")
        exchange.chunk(b"")


def event(data: dict[str, Any]) -> bytes:
    """A server-sent event of a stream."""
    whole = {"id": "c", "object": "chat.completion.chunk", "model": "test-model", **data}
    return f"data: {json.dumps(whole)}\n\n".encode()


def instructions(body: dict[str, Any]) -> str:
    """The system message of a request."""
    return str(body["messages"][0]["content"])


def test_a_program_is_declared_and_comes_back() -> None:
    """A class becomes a module; killed, it is there again, with the state that it was given."""
    model = Model()
    with application(model) as (app, _):
        chain = app.start_program("chain", Chain, provider="local")
        assert chain(question="x").answer == "my answer"
        assert app.module("chain").status().signature == "question -> answer"
        changed = chain.update(dspex.ProgramState({"draft": PredictorState("Guess well.")}))
        assert changed == chain.state()
        watch = Watch(app)
        since = watch.incarnation("module/chain")
        app.kill("module/chain")
        watch.until(lambda: watch.running("module/chain", since))
        assert chain(question="x").answer == "my answer"
        assert "Guess well." in instructions(model.bodies[-2])
        app.update_setting(("modules", "chain", "temperature"), 0.5)
        assert chain.state() == changed


def test_a_program_streams_its_last_field() -> None:
    """The last predictor's answer comes in pieces; the result counts all calls."""
    with application(Model()) as (app, _):
        chain = app.start_program("chain", Chain, provider="local")
        with chain.stream(question="x") as stream:
            pieces = [(chunk.field, chunk.text) for chunk in stream]
        assert {field for field, _ in pieces} == {"answer"}
        assert "".join(text for _, text in pieces) == "my answer"
        assert stream.result.info.usage.total_tokens == 28
        trace = app.events.query(type="module_execution", trace_id=stream.result.info.correlation_id).events
        found = {each.module: each for each in trace if isinstance(each, ModuleExecution)}
        assert set(found) == {"chain", "chain.draft", "chain.final"}
        assert {found[name].parent_id for name in ("chain.draft", "chain.final")} == {found["chain"].span_id}
        assert found["chain"].duration >= found["chain.final"].duration > 0
        made = app.start_program("made", Whole, provider="local")
        with made.stream(question="x") as stream:
            assert [(chunk.field, chunk.text) for chunk in stream] == [("answer", "MY ANSWER")]
        assert stream.result.answer == "MY ANSWER"
        while made.status().running:
            pass


def test_a_state_is_saved_and_loaded(tmp_path: Path) -> None:
    """A file of JSON, whole or not at all; another application reads it."""
    path = tmp_path / "chain.json"
    state = dspex.ProgramState({"final": PredictorState("Be kind.", ({"question": "a", "answer": "b"},))})
    with application(Model()) as (app, _):
        chain = app.start_program("chain", Chain, provider="local")
        chain.update(state)
        chain.save(path)
        assert [entry.name for entry in tmp_path.iterdir()] == ["chain.json"]
        qa = app.start_module("qa", "question -> answer", provider="local")
        with pytest.raises(ConfigError, match="expected one of the predictors predict"):
            qa.load(path)
        path_of_nothing = tmp_path / "nothing.json"
        path_of_nothing.write_text("[1")
        with pytest.raises(ConfigError, match="the state of a program as JSON"):
            qa.load(path_of_nothing)
    assert json.loads(path.read_text())["version"] == 1
    model = Model()
    with application(model) as (app, _):
        chain = app.start_program("chain", f"{__name__}:Chain", provider="local")
        assert chain.load(path).predictors["final"] == state.predictors["final"]
        chain(question="x")
        assert "Be kind." in instructions(model.bodies[-1])
        assert len(model.bodies[-1]["messages"]) == 4


def test_the_awaitable_view_does_the_same(tmp_path: Path) -> None:
    """update, save, load and start_program, awaited."""

    async def test(server: HttpServer) -> None:
        async with dspex.astart(config=configuration(server)) as app:
            chain = await app.start_program("chain", Chain, provider="local")
            await chain.update(dspex.ProgramState({"draft": PredictorState("Guess.")}))
            await chain.save(tmp_path / "s.json")
            await chain.update(dspex.ProgramState({"draft": PredictorState()}))
            await chain.load(tmp_path / "s.json")
            assert (await chain.state()).predictors["draft"].instructions == "Guess."
            qa = await app.start_module("qa", "question -> answer", provider="local")
            await qa.update(instructions="Go.", demos=[{"question": "a", "answer": "b"}])
            assert (await qa.status()).instructions == "Go."

    with HttpServer(Model()) as server:
        asyncio.run(test(server))


def test_a_refused_update_changes_nothing() -> None:
    """Neither the module nor its configuration."""
    with application(Model()) as (app, _):
        chain = app.start_program("chain", Chain, provider="local")
        wrong = dspex.ProgramState({"draft": PredictorState("New.", ({"question": 1, "draft": "x"},))})
        with pytest.raises(SignatureError, match="draft"):
            chain.update(wrong)
        assert app.setting("modules", "chain", "state") is None
        assert app.health().ok


def test_tools_run_in_an_application() -> None:
    """A plain function runs on a daemon thread; functions are declared by their import paths."""

    def model(exchange: Exchange) -> None:
        messages = exchange.request.json()["messages"]
        if messages[-1]["role"] == "tool":
            exchange.reply(200, completion(f"[[ ## answer ## ]]\n{messages[-1]['content']}"))
            return
        call = {"id": "c1", "type": "function", "function": {"name": "add", "arguments": '{"a": 2, "b": 3}'}}
        choice = {"index": 0, "message": {"role": "assistant", "tool_calls": [call]}, "finish_reason": "tool_calls"}
        exchange.reply(200, completion(choices=[choice]))

    with application(model) as (app, _):
        sums = app.start_module("sums", "question -> answer: int", provider="local", kind="react", tools=[add])
        answer = sums(question="2 + 3?")
        assert (answer.answer, answer.trajectory[0]["observation"]) == (5, "5")
        assert app.setting("modules", "sums", "tools") == (f"{__name__}:add",)
        assert THREADS[-1] not in (threading.current_thread().name, "")
        [told] = app.events.query(type="tool_execution").events
        assert told.trace_id == answer.info.correlation_id


def test_a_kind_may_change_while_it_runs() -> None:
    """Declared again, the module goes on as another kind, under the same name."""
    with application(Model()) as (app, server):
        qa = app.start_module("qa", "question -> answer", provider="local")
        best = app.start_module(
            "qa", "question -> answer", provider="local", kind="best_of_n", metric=longest, n=2, threshold=0.99
        )
        while qa.status().kind != "best_of_n":
            pass
        before = len(server.requests)
        assert best.options(cache=False)(question="x").answer == "my answer"
        assert len(server.requests) == before + 2


def test_what_cannot_be_declared() -> None:
    """A class or function made in a function would not be found again after a restart."""

    class Local(Chain):
        pass

    with application(Model()) as (app, _):
        with pytest.raises(ConfigError, match="at the top of a module"):
            app.start_program("local", Local, provider="local")
        with pytest.raises(ConfigError, match=r"expected a class below dspex\.Module"):
            app.start_program("wrong", f"{__name__}:add", provider="local")
        with pytest.raises(ConfigError, match="at the top of a module"):
            app.start_module("qa", "q -> a", provider="local", kind="refine", metric=lambda example, prediction: 1)
        with pytest.raises(ConfigError, match="expected the option metric of the kind refine"):
            app.start_module("qa", "q -> a", provider="local", kind="refine")
        with pytest.raises(ConfigError, match="kind"):
            app.start_module("qa", "q -> a", provider="local", kind="reakt")


def test_what_cannot_start_is_not_declared() -> None:
    """What an actor would refuse at its start is refused where it is written, and leaves nothing behind."""
    wrong: list[tuple[dict[str, Any], str]] = [
        ({"kind": "predict", "n": 3}, "'n'; that is an option of best_of_n and refine"),
        ({"kind": "react"}, "the option tools of the kind react"),
        ({"demos": [{"qestion": "x"}]}, "did you mean 'question'"),
        ({"kind": "refine", "metric": "exact_mach"}, "did you mean 'exact_match'"),
        ({"kind": "refine", "metrc": add}, "expected a setting of a module, got 'metrc'; did you mean 'metric'"),
        ({"kind": "react", "tools": add}, "expected a list of tools"),
        ({"kind": "react", "tools": [5]}, r"expected a function, .*, got int, at tools\[0\]"),
        ({"kind": "react", "tools": [{"actor": "x", "message": add}]}, "expected the class of a message"),
    ]
    with application(None) as (app, _):
        for settings, words in wrong:
            with pytest.raises((ConfigError, SignatureError), match=words):
                app.start_module("qa", "question -> answer", provider="local", **settings)
            assert app.setting("modules") == {}
        with pytest.raises(ConfigError, match=r"got the program Chain; app\.start_program takes it"):
            app.start_module("qa", Chain, provider="local")  # type: ignore[arg-type]
        with pytest.raises(NoProcess):
            app.module("qa")


class Leaving(dspex.Module):
    """Ends the interpreter, if it can."""

    ask = dspex.Predict("question -> answer")

    async def forward(self, question: str) -> Any:
        if question == "stay":
            return {"answer": "here"}
        if question == "beside":
            await asyncio.gather(self.leave(), self.leave())
        return await self.leave()

    async def leave(self) -> None:
        sys.exit(3)


@pytest.mark.parametrize("question", ["at once", "beside"])
def test_a_program_that_exits_ends_its_call_only(question: str) -> None:
    """In its own task or in one beside it: its caller is told, the module and the application go on."""
    with application(None) as (app, _):
        leaving = app.start_program("leaving", Leaving, provider="local")
        since = Watch(app).incarnation("module/leaving")
        with pytest.raises(RemoteError, match="SystemExit: 3"):
            leaving(question=question)
        assert leaving(question="stay").answer == "here"
        assert Watch(app).incarnation("module/leaving") == since


def test_a_tripped_program_keeps_its_state() -> None:
    """Started again by the keeper, it has what it was given."""
    with application(Model()) as (app, _):
        chain = app.start_program("chain", Chain, provider="local")
        changed = chain.update(dspex.ProgramState({"draft": PredictorState("Guess.")}))
        watch = Watch(app)
        since = watch.incarnation("module/chain")
        trip(app, "module/chain")
        watch.until(lambda: watch.running("module/chain", since))
        assert chain.state() == changed


def test_a_module_takes_a_signature_of_either_form() -> None:
    """A class or a value in the place of the text: its fields and its instructions are declared."""

    class Capital(dspex.Signature):
        """Name the capital."""

        country: str = dspex.InputField()
        capital: str = dspex.OutputField()

    with application(None) as (app, _):
        app.start_module("a", Capital, provider="local")
        app.start_module("b", dspex.Signature("country -> capital", "Name the capital."), provider="local")
        declared = [app.setting("modules", id) for id in "ab"]
        assert [each.signature for each in declared] == ["country -> capital"] * 2
        assert [each.instructions for each in declared] == ["Name the capital."] * 2
