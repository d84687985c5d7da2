"""Programs as modules: named predictors, a forward of one's own, spans, states, streams, other modules."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

import pytest

from dspex.actors.foreign_code import load, path_of
from dspex.actors.lm.values import LMResponse
from dspex.actors.modules.field_chunks import FieldChunk, PredictionEnd
from dspex.actors.modules.history import History
from dspex.actors.modules.kind import LastCall
from dspex.actors.modules.messages import GetState, Predict, UpdateModule
from dspex.actors.modules.plan import ModulePlan
from dspex.actors.modules.predict_stream import PredictionClosed, WholePrediction
from dspex.actors.modules.prediction import Prediction
from dspex.actors.modules.program import ChainOfThought, Module
from dspex.actors.modules.program import Predict as Ask
from dspex.actors.modules.program_parts import check_program, predictors_of, signature_of
from dspex.actors.modules.program_state import PredictorState, ProgramState
from dspex.actors.runs.scope import RunScope
from dspex.actors.signatures.signature import Signature
from dspex.runtime.context import Context
from dspex.runtime.errors import (
    CallCancelled,
    CallDepthExceeded,
    ConfigError,
    DefinitionError,
    LMServerError,
    ParseError,
    RemoteError,
    SignatureError,
)
from dspex.runtime.gen_server import GenServer, call, cast
from kit.engine import Lab, in_lab
from kit.modules import Journal, Scene, gather, play, response
from kit.stages import Seen, Taker


def saying(answer: str, field: str = "answer", **more: Any) -> LMResponse:
    """A model's answer of one field."""
    return response(f"[[ ## {field} ## ]]\n{answer}\n\n[[ ## completed ## ]]", cost=Decimal("0.01"), **more)


class Chain(Module):
    """Two predictors, one after the other."""

    draft = Ask("question -> draft")
    final = Ask("question, draft -> answer", "Improve the draft.")

    async def forward(self, question: str) -> LastCall:
        first = await self.draft(question=question)
        return self.final.last(question=question, draft=first.draft)


class Fan(Module):
    """Many calls of one predictor at once."""

    signature = "questions: list[str] -> answers: list[str]"
    one = Ask("question -> answer")

    async def forward(self, questions: list[str]) -> dict[str, list[str]]:
        found = await asyncio.gather(*(self.one(question=each) for each in questions))
        return {"answers": [each.answer for each in found]}


class Wrong(Module):
    """Does what its input says."""

    ask = Ask("question -> answer")

    async def forward(self, question: str) -> Any:
        if question == "bug":
            raise KeyError("my mistake")
        if question == "exit":
            raise SystemExit(3)
        if question == "inputs":
            await self.ask(qestion="x")
        return 5


@dataclass(frozen=True)
class Price:
    """Asks a shop."""

    of: str


class Shop(GenServer):
    """Knows prices."""

    @call
    def price(self, msg: Price) -> str:
        return f"{msg.of}: 3"


class Caller(Module):
    """Asks another module and an actor."""

    sum_up = Ask("price, found -> answer")

    async def forward(self, question: str) -> LastCall:
        found = await self.call_module("other", question=question)
        price = await self.call("tool/shop", Price(question))
        return self.sum_up.last(price=price, found=found.answer)


def test_a_chain_of_two_predictors() -> None:
    """Its forward runs, each predictor asks the model, and what both used is summed."""

    async def scenario(scene: Scene) -> None:
        answer = await scene.ask()
        assert answer.to_dict() == {"answer": "second"}
        first, second = scene.provider.requests
        assert "## draft ##" in str(first.messages[-1].content)
        assert "first" in str(second.messages[-1].content)
        assert "Improve the draft." in str(second.messages[0].content)
        assert (answer.info.cost, answer.info.usage.total_tokens, len(answer.info.attempts)) == (Decimal("0.02"), 30, 2)
        assert answer.info.calls == ()
        status = await scene.status()
        assert (status.kind, list(status.predictors), status.instructions) == ("program", ["draft", "final"], None)

    play(saying("first", "draft"), saying("second"), kind="program", program=Chain)(scenario)


def test_spans_of_predictors_stand_below_the_programs() -> None:
    """The program is below the caller, its predictors below it, their requests below them."""

    async def scenario(scene: Scene) -> None:
        root = Context.root(scene.house.engine.ids)
        await scene.ask(context=root)
        draft, final, whole = scene.executions
        assert [each.module for each in (draft, final, whole)] == ["qa.draft", "qa.final", "qa"]
        assert whole.parent_id == root.span_id
        assert draft.parent_id == final.parent_id == whole.span_id
        assert [each.span_id for each in scene.provider.contexts] == [draft.span_id, final.span_id]
        assert {each.trace_id for each in scene.executions} == {root.trace_id}

    play(saying("first", "draft"), saying("second"), kind="program", program=Chain)(scenario)


def test_a_program_fans_out() -> None:
    """Calls side by side go to the provider at once, each in a span of its own below the program's."""

    async def scenario(scene: Scene) -> None:
        answer = await scene.ask(questions=["a", "b", "c"])
        assert sorted(answer.answers) == ["1", "2", "3"]
        assert scene.provider.most == 3
        *parts, whole = scene.executions
        assert {each.parent_id for each in parts} == {whole.span_id}
        assert len({each.span_id for each in parts}) == 3
        assert answer.info.usage.total_tokens == 45

    script = (saying("1"), saying("2"), saying("3"))
    play(*script, delay=1.0, kind="program", program=Fan, signature=Fan.signature)(scenario)


def test_calls_do_not_see_one_another() -> None:
    """Each call has an instance of its own; one that is given up takes its requests with it."""

    async def scenario(scene: Scene) -> None:
        late = scene.ask(timeout=0.5, question="late")
        outcomes = await gather(late, scene.ask(question="good"))
        assert isinstance(outcomes[0], TimeoutError)
        assert outcomes[1].answer == "end"
        assert scene.provider.cancelled == 1

    script = (saying("lost", "draft"), saying("kept", "draft"), saying("end"))
    play(*script, delay=1.0, kind="program", program=Chain)(scenario)


@pytest.mark.parametrize(
    ("question", "error", "words"),
    [
        ("bug", RemoteError, "the program Wrong raised KeyError: 'my mistake' .in forward, line"),
        ("exit", RemoteError, "the program Wrong raised SystemExit: 3"),
        ("inputs", SignatureError, "did you mean 'question'"),
        ("type", SignatureError, "or the last call of a predictor, got int, from Wrong.forward"),
    ],
)
def test_a_mistake_in_a_program_is_its_callers_error(question: str, error: type[Exception], words: str) -> None:
    """The caller is told what and where; other calls and the actor go on."""

    async def scenario(scene: Scene) -> None:
        with pytest.raises(error, match=words):
            await scene.ask(question=question)
        status = await scene.status()
        assert (status.failures, status.running) == (1, 0)

    play(kind="program", program=Wrong)(scenario)


def test_a_predictors_failure_is_the_programs() -> None:
    """What forward does not catch goes to the caller as it is."""

    async def scenario(scene: Scene) -> None:
        with pytest.raises(LMServerError):
            await scene.ask()
        draft, whole = scene.executions
        assert (draft.error_code, whole.error_code) == ("lm_server_error", "lm_server_error")

    play(LMServerError("down"), kind="program", program=Chain)(scenario)


def test_a_state_names_predictors() -> None:
    """Each predictor has its own; one that is not named keeps what it has."""

    async def scenario(scene: Scene) -> None:
        taught = ProgramState({"draft": PredictorState("Guess.", ({"question": "a", "draft": "b"},))})
        await scene.house.call("module/qa", UpdateModule(state=taught))
        await scene.ask()
        first, second = scene.provider.requests
        assert "Guess." in str(first.messages[0].content)
        assert (len(first.messages), len(second.messages)) == (4, 2)
        assert await scene.house.call("module/qa", GetState()) == ProgramState(
            {**taught.predictors, "final": PredictorState()}
        )
        with pytest.raises(ConfigError, match=r"got 'drft', at state.*did you mean 'draft'"):
            await scene.house.call("module/qa", UpdateModule(state=ProgramState({"drft": PredictorState()})))
        with pytest.raises(ConfigError, match="a state that names the predictors"):
            await scene.house.call("module/qa", UpdateModule(instructions="Which?"))

    play(saying("first", "draft"), saying("second"), kind="program", program=Chain)(scenario)


def test_a_trace_of_a_program() -> None:
    """The calls of its predictors by name: what demos are made of."""

    async def scenario(scene: Scene) -> None:
        traced = await scene.house.call("module/qa", Predict({"question": "q"}, trace=True))
        assert [(each.predictor, each.inputs, each.outputs) for each in traced.info.calls] == [
            ("draft", {"question": "q"}, {"draft": "first"}),
            ("final", {"question": "q", "draft": "first"}, {"answer": "second"}),
        ]

    play(saying("first", "draft"), saying("second"), kind="program", program=Chain)(scenario)


def test_a_program_in_a_run_is_paid_once() -> None:
    """Each call of each predictor has a place of its own in the run's journal."""

    async def scenario(scene: Scene) -> None:
        journal = await scene.actor(Journal, "run-journal/r1")
        message = Predict({"questions": ["a", "b", "a"]}, run=RunScope("r1", "t", "0"))
        first = await scene.house.call("module/qa", message)
        assert await scene.house.call("module/qa", message) == first
        assert len(scene.provider.requests) == len(journal.kept) == 3

    script = (saying("1"), saying("2"), saying("3"))
    play(*script, kind="program", program=Fan, signature=Fan.signature)(scenario)


class Relay(Module):
    """Two steps a question, all questions side by side; one is slower than the others between its steps."""

    one = Ask("question -> draft")
    two = Ask("draft -> answer")
    slow = "a"

    async def forward(self, questions: list[str]) -> dict[str, list[str]]:
        return {"answers": list(await asyncio.gather(*map(self.both, questions)))}

    async def both(self, question: str) -> str:
        first = await self.one(question=question)
        await asyncio.sleep(question == self.slow)
        return str((await self.two(draft=first.draft)).answer)


def test_a_run_finds_its_answers_in_whatever_order_they_are_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """Side by side, what comes first is chance; nothing is paid twice for that."""

    async def scenario(scene: Scene) -> None:
        await scene.actor(Journal, "run-journal/r1")
        message = Predict({"questions": ["a", "b"]}, run=RunScope("r1", "t", "0"))
        first = await scene.house.call("module/qa", message)
        monkeypatch.setattr(Relay, "slow", "b")
        assert await scene.house.call("module/qa", message) == first
        assert (first.answers, len(scene.provider.requests)) == (["4", "3"], 4)

    script = (saying("1", "draft"), saying("2", "draft"), saying("3"), saying("4"))
    play(*script, kind="program", program=Relay, signature="questions: list[str] -> answers: list[str]")(scenario)


class Recorder(GenServer):
    """A module that remembers where in a run it was asked."""

    def init(self) -> None:
        self.runs: list[RunScope | None] = []

    @call
    def predict(self, msg: Predict) -> Prediction:
        self.runs.append(msg.run)
        return Prediction({"answer": "theirs"})


def test_a_program_asks_others() -> None:
    """Modules and actors by name."""

    async def scenario(scene: Scene) -> None:
        await scene.actor(Shop, "tool/shop")
        other = await scene.actor(Recorder, "module/other")
        assert (await scene.ask(question="tea")).answer == "Paris"
        asked = str(scene.provider.requests[0].messages[-1].content)
        assert "tea: 3" in asked
        assert "theirs" in asked
        assert other.runs == [None]

    play(kind="program", program=Caller)(scenario)


# -- classes ---------------------------------------------------------------------------------------


class Longer(Chain):
    """Inherits two predictors and has one more."""

    check = ChainOfThought("answer -> verdict: bool")

    async def forward(self, question, past: History | None, sure: int, tries: int = 3) -> Mapping[str, Any]:  # type: ignore[no-untyped-def, override]
        return {}


def test_what_a_class_says() -> None:
    """Predictors in order, inherited ones first; inputs from forward, outputs from the last predictor."""
    assert list(predictors_of(Longer)) == ["draft", "final", "check"]
    assert str(predictors_of(Longer)["check"]) == "answer -> reasoning, verdict: bool"
    assert str(signature_of(Chain)) == "question -> answer"
    assert str(signature_of(Fan)) == "questions: list[str] -> answers: list[str]"
    assert [str(each.type.label) for each in signature_of(Longer).inputs] == ["str", "History | None", "int"]


class NoForward(Module):
    """Without forward."""

    ask = Ask("q -> a")


class NoPredictor(Module):
    """Without a predictor."""

    async def forward(self, q: str) -> dict[str, Any]:
        return {}


class Free(Module):
    """Takes anything."""

    ask = Ask("q -> a")

    async def forward(self, **inputs: Any) -> dict[str, Any]:
        return {}


@pytest.mark.parametrize("wrong", [NoForward, NoPredictor, Module, Signature, 5, Shop])
def test_what_is_no_program(wrong: object) -> None:
    """Refused at once, as a setting too."""
    with pytest.raises(DefinitionError, match="at program"):
        check_program(wrong)
    with pytest.raises(ConfigError, match="at program"):
        ModulePlan.of({"signature": "q -> a", "provider": "local", "kind": "program", "program": wrong})


def test_a_signature_that_cannot_be_told() -> None:
    """A forward that takes anything needs one."""
    with pytest.raises(SignatureError, match=r"Free.forward, parameter 'inputs'"):
        signature_of(Free)


def test_import_paths() -> None:
    """What stands at the top of a module is found again; what does not is refused with the reason."""
    assert load(path_of(Chain, "program"), "program") is Chain

    class Local(Chain):
        pass

    with pytest.raises(ConfigError, match="at the top of a module"):
        path_of(Local, "program")
    for wrong in ("nothing.here:X", "json", "json:", ":x"):
        with pytest.raises(ConfigError, match=r"package\.module:name"):
            load(wrong, "program")
    with pytest.raises(ConfigError, match="did you mean 'loads'"):
        load("json:laods", "program")


# -- parts -------------------------------------------------------------------------------------------


class Hop(Module):
    """A program that becomes a part of others."""

    step = Ask("question -> answer", "Go one step.")

    def __init__(self, times: int = 1) -> None:
        self.times = times

    async def forward(self, question: str) -> LastCall:
        for _ in range(self.times - 1):
            question = (await self.step(question=question)).answer
        return self.step.last(question=question)


class Whole(Module):
    """Predictors in a list, in a mapping, made in __init__, and in programs that are its parts."""

    first = Hop()
    hops = [Ask("question -> answer"), Ask("question -> answer")]  # noqa: RUF012 - as its users write it
    final = Ask("question -> answer", "Sum up.")
    again = final

    def __init__(self) -> None:
        self.by = {"en": Ask("question -> answer", "In English.")}
        self.twice = Hop(2)
        self.data = list(range(5))

    async def forward(self, question: str) -> LastCall:
        said = await self.first(question=question)
        for hop in self.hops:
            said = await hop(question=said.answer)
        said = await self.by["en"](question=said.answer)
        said = await self.twice(question=said.answer)
        return self.again.last(question=said.answer)


PARTS = ["first.step", "hops[0]", "hops[1]", "final", "by['en']", "twice.step"]


def test_a_program_of_programs() -> None:
    """Predictors are found in parts, lists and mappings, each is traced, taught and asked under its place's name."""

    async def scenario(scene: Scene) -> None:
        assert list((await scene.status()).predictors) == PARTS
        taught = {name: PredictorState(f"I am {name}.") for name in PARTS}
        await scene.house.call("module/qa", UpdateModule(state=ProgramState(taught)))
        answer = await scene.ask(question="0")
        asked = [*PARTS[:3], PARTS[4], PARTS[5], PARTS[5], PARTS[3]]
        assert [each.module for each in scene.executions] == [*(f"qa.{name}" for name in asked), "qa"]
        for number, (name, request) in enumerate(zip(asked, scene.provider.requests, strict=True)):
            assert f"I am {name}." in str(request.messages[0].content)
            assert f"## question ## ]]\n{number}\n" in str(request.messages[-1].content)
        assert (answer.answer, answer.info.usage.total_tokens) == ("7", 7 * 15)

    play(*(saying(str(number)) for number in range(1, 8)), kind="program", program=Whole)(scenario)


class Sharing(Module):
    """The very same predictor as another program, under another name."""

    mine = Hop.step

    async def forward(self, question: str) -> Prediction:
        return await self.mine(question=question)


def test_one_predictor_in_two_classes() -> None:
    """It has the name of its place in each."""

    async def scenario(scene: Scene) -> None:
        await scene.ask()
        assert [each.module for each in scene.executions] == ["qa.mine", "qa"]

    play(kind="program", program=Sharing)(scenario)


class Keeping(Module):
    """Writes on itself and on its part, and says what it found there."""

    part = Hop()
    ask = Ask("question -> answer")

    async def forward(self, question: str) -> dict[str, str]:
        seen = f"{getattr(self, 'left', None)} {getattr(self.part, 'left', None)}"
        self.left = self.part.left = question  # type: ignore[attr-defined]
        await self.ask(question=question)
        return {"answer": seen}


def test_no_call_finds_what_another_left() -> None:
    """Programs that are parts are fresh for each call, too."""

    async def scenario(scene: Scene) -> None:
        for question in "ab":
            assert (await scene.ask(question=question)).answer == "None None"

    play(kind="program", program=Keeping)(scenario)


class Strays(Module):
    """Several at once, of which one fails or is left behind."""

    ask = Ask("question -> answer")

    async def forward(self, question: str) -> Any:
        if question == "left":
            self.stray = asyncio.get_running_loop().create_task(self.ask(question="stray"))
            await asyncio.sleep(0)
            return self.ask.last(question="last")
        await asyncio.gather(self.ask(question="bad"), self.after(0.5), self.after(1.5))
        return {}

    async def after(self, seconds: float) -> Prediction:
        await asyncio.sleep(seconds)
        return await self.ask(question="late")


@pytest.mark.parametrize(("question", "asked"), [("gather", 2), ("left", 2)])
def test_all_that_a_program_asked_ends_with_it(question: str, asked: int) -> None:
    """Once forward is over, requests beside it are given up, and no further one is sent."""

    async def scenario(scene: Scene) -> None:
        outcome = await gather(scene.ask(question=question))
        await asyncio.sleep(5.0)
        assert (len(scene.provider.requests), scene.provider.cancelled) == (asked, 1)
        if question == "left":
            assert outcome[0].answer == "Paris"
        else:
            assert isinstance(outcome[0], LMServerError)
            assert [each.error_code for each in scene.executions] == ["lm_server_error", "lm_server_error", "cancelled"]

    script = [] if question == "left" else [LMServerError("x")]
    play(*script, kind="program", program=Strays, delay=1.0)(scenario)


class Down(Module):
    """Asks itself, or another one that asks it, until it is at the bottom."""

    ask = Ask("left: int -> answer")

    async def forward(self, left: int) -> Prediction:
        return await self.call_module("qa", left=left - 1) if left else await self.ask(left=left)


def test_a_program_may_ask_itself() -> None:
    """It does not wait for a turn that it has itself; one that never ends is told so at once."""

    async def scenario(scene: Scene) -> None:
        assert (await scene.ask(left=5)).answer == "Paris"
        assert (await scene.status()).running == 0
        with pytest.raises(CallDepthExceeded, match="at most 64"):
            await scene.ask(left=1000)
        both = await gather(scene.ask(left=2), scene.ask(left=3))
        assert [each.answer for each in both] == ["Paris", "Paris"]
        status = await scene.status()
        assert (status.running, status.waiting) == (0, 0)

    play(kind="program", program=Down, signature="left: int -> answer", max_concurrency=1)(scenario)


def test_predictors_are_called_at_work_only() -> None:
    """Outside of a running program there is nobody to ask."""

    async def main() -> None:
        for work in (Chain().draft(question="?"), Chain().call_module("x"), Hop()(question="?")):
            with pytest.raises(DefinitionError, match=r"app\.start_program"):
                await work
        with pytest.raises(DefinitionError, match="'question -> draft'"):
            Chain().draft.last(question="?")

    asyncio.run(main())


class Demanding(Module):
    """Cannot be called without arguments."""

    ask = Ask("q -> a")

    def __init__(self, way: str) -> None:
        self.way = way

    async def forward(self, q: str) -> Any: ...


class Plain(Module):
    """Its forward is not async."""

    ask = Ask("q -> a")

    def forward(self, q: str) -> Any: ...


class PlainPart(Module):
    """A part's forward is not async."""

    part = Plain()
    ask = Ask("q -> a")

    async def forward(self, q: str) -> Any: ...


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        (Demanding, "without arguments, got TypeError: .*'way'.* at program"),
        (Plain, "'async def forward' in Plain"),
        (PlainPart, "'async def forward' in Plain, got none, at part"),
        (Chain(), "a class below dspex.Module, got an instance of Chain"),
    ],
)
def test_programs_that_could_not_run(wrong: object, words: str) -> None:
    """They are refused before anybody calls them."""
    with pytest.raises(DefinitionError, match=words):
        check_program(wrong)


class Giving(Module):
    """Gives what its input says."""

    ask = Ask("question -> answer: str, sure: bool")
    other = Ask("question -> answer: int, sure: bool")

    async def forward(self, question: str) -> Any:
        given: dict[str, Any] = {
            "missing": {"answer": "x"},
            "type": {"answer": "x", "sure": "yes"},
            "last": self.other.last(question=question),
            "more": {"answer": "x", "sure": True, "why": 1},
        }
        return given[question]


@pytest.mark.parametrize(
    ("question", "words"),
    [
        ("missing", "expected bool, got nothing, at Giving.forward, output 'sure'"),
        ("type", "expected bool, got 'yes', at Giving.forward, output 'sure'"),
        ("last", "expected str, got int, at Giving.forward, output of other 'answer'"),
    ],
)
def test_a_programs_answer_has_the_declared_outputs(question: str, words: str) -> None:
    """One that has not is the caller's error, and says what was expected."""

    async def scenario(scene: Scene) -> None:
        assert (await scene.ask(question="more")).to_dict() == {"answer": "x", "sure": True, "why": 1}
        with pytest.raises(SignatureError, match=words):
            await scene.ask(question=question)

    play(kind="program", program=Giving, signature="question -> answer, sure: bool")(scenario)


class Undeclared(Module):
    """Gives other fields than those of the predictor declared last."""

    draft = Ask("question -> draft")
    final = ChainOfThought("draft -> answer")

    async def forward(self, question: str) -> Any:
        return {"quick": {"answer": "x", "sure": 1}, "last": self.draft.last(question=question)}[question]


@pytest.mark.parametrize(
    ("question", "words"),
    [
        ("quick", "'reasoning'; .* declared last, 'final', .* own: signature = 'question -> answer, sure'$"),
        ("last", "output of draft 'reasoning'; .*: signature = 'question -> draft'"),
    ],
)
def test_outputs_that_nobody_declared_are_told_how_to_be(question: str, words: str) -> None:
    """Where the outputs were taken from the last predictor, the error says so, and how to declare others."""

    async def scenario(scene: Scene) -> None:
        with pytest.raises(SignatureError, match=words) as caught:
            await scene.ask(question=question)
        assert caught.value.facts["field"] == "reasoning"

    play(kind="program", program=Undeclared, signature=signature_of(Undeclared).text)(scenario)


class Declared(Undeclared):
    """Has a signature of its own, and does not keep it."""

    signature = "question -> reasoning, answer"


@pytest.mark.parametrize(
    ("program", "signature"), [(Declared, Declared.signature), (Undeclared, "question -> reasoning, answer, why")]
)
def test_outputs_that_somebody_declared_need_no_telling(program: type[Module], signature: str) -> None:
    """Neither by the class, nor by the module's settings."""

    async def scenario(scene: Scene) -> None:
        with pytest.raises(SignatureError, match=r"output 'reasoning'$"):
            await scene.ask(question="quick")

    play(kind="program", program=program, signature=signature)(scenario)


# -- streams ---------------------------------------------------------------------------------------


class Listener(GenServer):
    """A module that is told of ends."""

    def init(self, closed: list[PredictionClosed]) -> None:
        self.closed = closed

    @cast
    def prediction_closed(self, msg: PredictionClosed) -> None:
        self.closed.append(msg)


async def streamed(lab: Lab, closed: list[PredictionClosed]) -> Any:
    """A stream of a prediction that is there."""
    module = await lab.start(Listener, closed)
    return await lab.start(WholePrediction, Prediction({"answer": "Paris", "why": [1, 2]}), module)


def test_a_prediction_that_is_there_is_streamed_whole() -> None:
    """One piece a field, then the end; the module is told."""
    seen, closed = Seen(), list[PredictionClosed]()

    async def test(lab: Lab) -> None:
        stream = await streamed(lab, closed)
        await lab.start(Taker, seen, stream, kwargs={"max_demand": 2, "min_demand": 0, "cancel": "temporary"})
        await lab.settle()

    in_lab(test)
    assert seen.events[:2] == [FieldChunk(0, "answer", "Paris"), FieldChunk(1, "why", "[1,2]")]
    assert [type(event) for event in seen.events[2:]] == [PredictionEnd]
    assert [each.error for each in closed] == [None]


def test_a_stream_that_nobody_reads_ends() -> None:
    """After half a minute; the module is told, so that its slot is free."""
    closed = list[PredictionClosed]()

    async def test(lab: Lab) -> None:
        await streamed(lab, closed)
        await asyncio.sleep(31.0)
        await lab.settle()

    in_lab(test)
    assert [type(each.error) for each in closed] == [CallCancelled]


def test_a_bad_answer_in_a_program() -> None:
    """An answer that does not fit is repaired, and if it cannot be, is the caller's error."""

    async def scenario(scene: Scene) -> None:
        with pytest.raises(ParseError):
            await scene.ask()
        assert len(scene.provider.requests) == 2

    bad = response("[[ ## other ## ]]\nx\n\n[[ ## thing ## ]]\ny")
    play(bad, bad, kind="program", program=Wide, signature="question -> one, two")(scenario)


class Wide(Module):
    """Two outputs."""

    ask = Ask("question -> one, two")

    async def forward(self, question: str) -> LastCall:
        return self.ask.last(question=question)
