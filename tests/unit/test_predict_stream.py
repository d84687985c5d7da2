"""One streamed prediction between a provider's stream and its readers, in virtual time."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dspex.actors.lm.chunks import LMChunk, LMStreamEnd
from dspex.actors.lm.failures import lm_error
from dspex.actors.lm.values import LMResponse, Usage
from dspex.actors.modules.actor import ModuleActor
from dspex.actors.modules.field_chunks import FieldChunk, PredictionEnd
from dspex.actors.modules.messages import ModuleInfo, PredictOptions, PredictStream
from dspex.actors.modules.plan import ModulePlan
from dspex.actors.modules.predict_stream import PredictionClosed, PredictionStream
from dspex.actors.modules.prediction import PredictionInfo
from dspex.actors.providers.messages import SUBSCRIBE_PATIENCE, Leave, OpenStream, StreamOpened
from dspex.actors.testing.scripted_provider import Rule
from dspex.runtime.errors import ActorDied, CallCancelled, ConfigError, LMServerError, NoProcess, ParseError
from dspex.runtime.gen_server import GenServer, call, cast
from dspex.runtime.stages import Producer, Subscription
from dspex.supervisors.dynamic_supervisor import DynamicSupervisor
from kit.engine import Lab, in_lab
from kit.guards import Post, post
from kit.stages import Do, Seen, Taker
from kit.talker import ANSWER, TEXT, section


class Source(Producer):
    """Stands in for the provider's stream: emits its events as they are asked for, and what was asked for is noted."""

    def init(self, events: Iterable[LMChunk | LMStreamEnd]) -> None:
        self.left = list(events)
        self.asked = 0
        self.cancels: list[Any] = []

    def handle_demand(self, demand: int) -> Sequence[LMChunk | LMStreamEnd]:
        self.asked += demand
        out, self.left = self.left[:demand], self.left[demand:]
        return out

    def handle_cancel(self, kind: str, reason: Any, subscription: Subscription) -> None:
        self.cancels.append((kind, reason))


class Module(GenServer):
    """Stands in for the module: notes how predictions closed."""

    def init(self, closed: list[PredictionClosed]) -> None:
        self.closed = closed

    @cast
    def prediction_closed(self, msg: PredictionClosed) -> None:
        self.closed.append(msg)


TRACE = "0af7651916cd43dd8448eb211c80319c"


class Scene:
    """A prediction with its source, its module, and readers."""

    def __init__(self, lab: Lab) -> None:
        self.lab = lab
        self.closed: list[PredictionClosed] = []

    async def begin(
        self, events: Iterable[LMChunk | LMStreamEnd], *, max_demand: int = 4, signature: str = "question -> answer"
    ) -> None:
        """Start it."""
        plan = ModulePlan.of({"signature": signature, "provider": "local"})
        module = await self.lab.start(Module, self.closed)
        self.at = await self.lab.start(Source, events)
        source: Any = self.at.cell.instance if self.at.cell is not None else None
        assert isinstance(source, Source)
        self.source = source
        known = PredictionInfo(provider="local", correlation_id=TRACE)
        arguments = (self.at, plan, known, module, 1000.0, max_demand)
        self.stream = await self.lab.start(PredictionStream, *arguments)
        await self.lab.settle()

    async def read(self, max_demand: int = 100, **options: Any) -> Seen:
        """Have a reader subscribe; what it sees."""
        seen = Seen()
        options |= {"max_demand": max_demand, "min_demand": 0, "cancel": "temporary"}
        self.reader = await self.lab.start(Taker, seen, self.stream, kwargs=options)
        await self.lab.settle()
        return seen

    async def ask(self, count: int) -> None:
        """Have the reader, a manual one, ask."""
        await self.lab.call(self.reader, Do(lambda taker: taker.ask(taker.seen.subscriptions[0], count)))
        await self.lab.settle()

    @property
    def errors(self) -> list[type[Exception] | None]:
        """What the module was told, as classes of errors."""
        return [None if each.error is None else type(each.error) for each in self.closed]


def play(test: Callable[[Scene], Awaitable[None]]) -> None:
    """Run a coroutine with a scene."""

    async def run(lab: Lab) -> None:
        await test(Scene(lab))

    in_lab(run)


def told(pieces: Iterable[str]) -> list[LMChunk | LMStreamEnd]:
    """The events of an answer."""
    texts = tuple(pieces)
    usage = Usage(1, 2, 3)
    response = LMResponse(text="".join(texts), model="m-1", finish_reason="stop", provider="local", usage=usage)
    return [*(LMChunk(index, text=text) for index, text in enumerate(texts)), LMStreamEnd(response)]


def texts_of(seen: Seen) -> str:
    """The text of all chunks."""
    return "".join(event.text for event in seen.events if isinstance(event, FieldChunk))


def test_chunks_and_then_the_end() -> None:
    """Numbered chunks of the field, one end, the module is told once, and the actor is gone."""

    async def test(scene: Scene) -> None:
        await scene.begin(told(ANSWER))
        seen = await scene.read()
        *chunks, end = seen.events
        assert [chunk.index for chunk in chunks] == list(range(len(chunks)))
        assert texts_of(seen) == TEXT
        assert isinstance(end, PredictionEnd)
        assert end.prediction is not None
        assert (end.prediction.answer, end.prediction.info.model) == (TEXT, "m-1")
        assert await scene.lab.down(scene.stream) == "normal"
        assert scene.errors == [None]

    play(test)


def test_nothing_is_asked_for_before_somebody_reads() -> None:
    """The source stands still without a reader, and with one it is asked for no more than was told."""

    async def test(scene: Scene) -> None:
        await scene.begin(told(["[[ ## answer ## ]]\n", *["word "] * 100]), max_demand=2)
        assert scene.source.asked <= 2
        before = scene.source.asked
        seen = await scene.read(10, manual=True)
        assert scene.source.asked == before
        await scene.ask(3)
        assert len(seen.events) == 3
        assert scene.source.asked < 12
        assert scene.closed == []

    play(test)


def test_pieces_without_text_of_a_field_do_not_stop_it() -> None:
    """Markers, reasoning and tool calls give no chunk; the source is asked on, one at a time too."""

    async def test(scene: Scene) -> None:
        events = told([*"[[ ## answer ## ]]\n", "Oslo", *"\n\n[[ ## completed ## ]]\n"])
        events[3:3] = [LMChunk(99, reasoning="hm")] * 3
        await scene.begin(events, max_demand=1)
        seen = await scene.read(max_demand=1)
        assert texts_of(seen) == "Oslo"
        assert scene.errors == [None]

    play(test)


def test_an_answer_without_markers_is_given_at_its_end() -> None:
    """A model that writes the bare value: its text comes with the end, behind it the result."""

    async def test(scene: Scene) -> None:
        await scene.begin(told(["Os", "lo"]))
        seen = await scene.read()
        assert texts_of(seen) == "Oslo"
        assert seen.events[-1].prediction.answer == "Oslo"

    play(test)


@given(cuts=st.lists(st.integers(0, 79), max_size=12), demand=st.integers(1, 5))
def test_however_it_is_cut(cuts: list[int], demand: int) -> None:
    """Whatever the pieces of the text and the demand: the fields' text, in order, numbered without a gap."""
    text = f"{section('answer')}Oslo [x]\nis * it\n\n{section('why')}Because.\n\n[[ ## completed ## ]]"
    places = sorted({0, *cuts, len(text)})
    pieces = [text[start:end] for start, end in itertools.pairwise(places)]

    async def test(scene: Scene) -> None:
        await scene.begin(told(pieces), max_demand=demand, signature="question -> answer, why")
        seen = await scene.read(max_demand=demand)
        *chunks, end = seen.events
        assert [chunk.index for chunk in chunks] == list(range(len(chunks)))
        fields = {name: "".join(each.text for each in chunks if each.field == name) for name in ("answer", "why")}
        assert fields == end.prediction.to_dict() == {"answer": "Oslo [x]\nis * it", "why": "Because."}

    play(test)


def test_an_answer_that_does_not_fit() -> None:
    """The end is the ParseError, told the trace, and the module hears of it."""

    async def test(scene: Scene) -> None:
        await scene.begin(told([section("n"), "a dozen"]), signature="question -> n: int")
        seen = await scene.read()
        assert isinstance(seen.events[-1].error, ParseError)
        assert seen.events[-1].error.facts["correlation_id"] == TRACE
        assert scene.errors == [ParseError]

    play(test)


def test_a_failure_of_the_provider_is_passed_on() -> None:
    """What was read so far, and the provider's error as the end."""

    async def test(scene: Scene) -> None:
        events: list[LMChunk | LMStreamEnd] = [*told(ANSWER[:3])[:3], LMStreamEnd(error=lm_error("server", "no"))]
        await scene.begin(events)
        seen = await scene.read()
        assert texts_of(seen) in TEXT
        assert isinstance(seen.events[-1].error, LMServerError)
        assert scene.errors == [LMServerError]
        assert await scene.lab.down(scene.stream) == "normal"

    play(test)


@pytest.mark.parametrize("reason", ["normal", "shutdown", "kill"])
def test_a_source_that_ends_without_its_last_word(reason: str) -> None:
    """However politely: part of an answer is never taken for the whole."""

    async def test(scene: Scene) -> None:
        await scene.begin(told(ANSWER)[:3])
        seen = await scene.read()
        scene.lab.engine.kill(scene.at, reason)
        if reason == "normal":  # nobody dies of that signal
            await scene.lab.order_down(scene.at)
        await scene.lab.settle()
        assert isinstance(seen.events[-1].error, ActorDied)
        assert scene.errors == [ActorDied]

    play(test)


def test_a_slow_reader_gets_the_rest_of_a_source_that_is_gone() -> None:
    """What came whole stays whole, and is told once as such, however long the reader takes."""

    async def test(scene: Scene) -> None:
        await scene.begin(told(ANSWER), max_demand=100)
        seen = await scene.read(manual=True)
        await scene.ask(1)
        await scene.lab.order_down(scene.at)
        await scene.lab.settle()
        assert (texts_of(seen), scene.errors) == ("Oslo", [None])
        await scene.ask(50)
        assert texts_of(seen) == TEXT
        assert seen.events[-1].prediction.answer == TEXT
        assert await scene.lab.down(scene.stream) == "normal"
        assert scene.errors == [None]

    play(test)


def test_a_source_that_is_gone_already() -> None:
    """It ended between being opened and being subscribed to: the reader is told, nobody crashes."""

    async def test(scene: Scene) -> None:
        await scene.begin(told(ANSWER))
        await scene.lab.order_down(scene.at)
        seen = await scene.read()
        assert isinstance(seen.events[-1].error, ActorDied)
        assert scene.errors == [ActorDied]

    play(test)


def test_the_last_reader_ends_it() -> None:
    """The first of two that leaves changes nothing; with the last the source is left, and the module told."""

    async def test(scene: Scene) -> None:
        await scene.begin(told([section("answer"), *["word "] * 1000]))
        await scene.read(1, manual=True)
        first = scene.reader
        await scene.read(1, manual=True)
        await scene.lab.order_down(first)
        await scene.lab.settle()
        assert (scene.closed, scene.source.cancels) == ([], [])
        await scene.lab.order_down(scene.reader)
        assert await scene.lab.down(scene.stream) == "normal"
        await scene.lab.settle()
        assert scene.errors == [CallCancelled]
        assert len(scene.source.cancels) == 1

    play(test)


def test_nobody_comes() -> None:
    """After its patience the prediction ends, and so does the provider's stream."""

    async def test(scene: Scene) -> None:
        await scene.begin(told(ANSWER))
        began = scene.lab.engine.clock.monotonic()
        assert await scene.lab.down(scene.stream, timeout=100.0) == "normal"
        assert scene.lab.engine.clock.monotonic() - began == pytest.approx(SUBSCRIBE_PATIENCE)
        await scene.lab.settle()
        assert scene.errors == [CallCancelled]
        assert len(scene.source.cancels) == 1

    play(test)


def test_who_opened_it_leaves() -> None:
    """``Leave`` ends it at once, read or not; told once."""

    async def test(scene: Scene) -> None:
        await scene.begin(told(ANSWER))
        scene.lab.engine.cast(scene.stream, Leave())
        scene.lab.engine.cast(scene.stream, Leave())
        assert await scene.lab.down(scene.stream) == "normal"
        await scene.lab.settle()
        assert scene.errors == [CallCancelled]
        assert len(scene.source.cancels) == 1

    play(test)


class Left(GenServer):
    """Stands in for a provider and its stream: notes who is left."""

    def init(self) -> None:
        self.left = 0

    @call
    def open_stream(self, msg: OpenStream) -> StreamOpened:
        return StreamOpened(self.myAddress, "local")

    @cast
    def leave(self, msg: Leave) -> None:
        self.left += 1


def test_a_module_that_cannot_begin_leaves_the_providers_stream() -> None:
    """Nobody would ever read it; the execution has failed and holds no slot."""

    async def test(lab: Lab) -> None:
        at = await lab.start(Left, name="provider/local")
        await lab.start(ModuleActor, "qa", kwargs={"signature": "question -> answer", "provider": "local"}, name="m")
        error = await lab.error("m", PredictStream({"question": "?"}))
        assert isinstance(error, NoProcess), "there is no supervisor of its streams"
        await lab.settle()
        assert at.cell is not None
        stream: Any = at.cell.instance
        assert stream.left == 1
        status = await lab.call("m", ModuleInfo())
        assert (status.running, status.streams, status.failures, status.last_error) == (0, 0, 1, "noproc")

    in_lab(test)


async def given_up(world: Post, step: int) -> bool:
    """Begin to open a prediction and give up after so many turns of the loop; False if it was open by then."""
    message = PredictStream({"question": "Who?"})
    asked = asyncio.ensure_future(world.system.engine.call_async("module/qa", message, 60.0))
    for _ in range(step):
        await asyncio.sleep(0)
    if not asked.cancel():
        world.system.engine.cast((await asked).address, Leave())
        return False
    with pytest.raises(asyncio.CancelledError):
        await asked
    return True


def test_giving_up_at_any_step_of_the_opening_leaves_nothing() -> None:
    """Whoever gives up, at whatever turn of the loop: both streams end at once, not when nobody has come for long."""
    with post() as world:
        world.rules(Rule(TEXT))
        system = world.system
        system.spawn(DynamicSupervisor, name="streams/module/qa")
        system.spawn(ModuleActor, "qa", signature="question -> answer", provider="p", name="module/qa")
        began, step = system.engine.now(), 0
        while system.run(given_up(world, step)):
            system.settle()
            tree = system.tree()
            assert "LMStream" not in tree, f"the provider's stream was left by who gave up after {step} turns"
            assert "PredictionStream" not in tree, f"the prediction was left by who gave up after {step} turns"
            step += 1
        assert step > 10
        assert system.engine.now() - began < 1.0
        world.book.balanced()


@pytest.mark.parametrize("wrong", [0, -3, True, "8", 2.0, None])
def test_a_wrong_demand_is_refused_where_it_is_written(wrong: Any) -> None:
    """Before any actor hears of it."""
    with pytest.raises(ConfigError, match="whole number of pieces from 1"):
        PredictStream({"question": "x"}, PredictOptions(), max_demand=wrong)
