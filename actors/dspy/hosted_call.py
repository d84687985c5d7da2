"""One call of a hosted program: run on a daemon thread, with a model whose calls go to the provider actor."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Final

from ...runtime.gen_server import GenServer
from ..events.outbox import EventOutbox
from ..lm.values import LMResponse
from ..modules.messages import Predict, PredictOptions
from ..modules.outputs import how
from ..modules.prediction import Prediction, PredictionInfo
from ..modules.repair import both
from .callbacks import EventCallback
from .engine import lm_on
from .lifeline import Lifeline
from .line import Line
from .program import Answered, DspyProgram
from .streamed_engine import StreamedEngine
from .streaming import Put, Tap

_SAMPLING: Final = ("temperature", "top_p", "max_tokens", "seed", "stop")


@dataclass(frozen=True, slots=True)
class Pieces:
    """Who takes what the program writes.

    Attributes:
        put: takes (field, text) pairs, on the engine's loop; waits until somebody wants them.
        max_demand: pieces of a model's answer that are asked for at once.
    """

    put: Put
    max_demand: int


@dataclass(frozen=True, slots=True)
class HostedCall:
    """One call.

    Attributes:
        msg: what was asked.
        program: in the state of the call.
        inputs: checked.
        options: of the model calls.
        line: how they are sent; its context is the call's place in the trace.
        source: name of the actor that hosts the program.
        outbox: takes the events.
        began: when the call arrived, on the monotonic clock.
    """

    msg: Predict
    program: DspyProgram
    inputs: Mapping[str, Any]
    options: PredictOptions
    line: Line
    source: str | None
    outbox: EventOutbox
    began: float

    async def predict(self, actor: GenServer, pieces: Pieces | None = None) -> Prediction:
        """Run it for an actor, in a coroutine of its; cancelled, the model calls in flight end.

        Raises:
            Error: as :meth:`.modules.program.DspyProgram.run`.
        """
        answers: list[LMResponse] = []
        lifeline = Lifeline(actor.system)
        line = replace(self.line, heard=answers.append, lifeline=lifeline)
        try:
            answer = await actor.run_blocking(self._run, line, lifeline, pieces)
        finally:
            lifeline.cut()
        return self._prediction(answer, answers, actor)

    def _run(self, line: Line, lifeline: Lifeline, pieces: Pieces | None) -> Answered:
        """On a thread of its own."""
        assert line.context is not None
        program, options = self.program, self.options
        if self.msg.state is not None:
            program = program.with_state(self.msg.state)
        sampling = {name: value for name in _SAMPLING if (value := getattr(options, name)) is not None}
        callbacks: list[Any] = [EventCallback(line.engine, line.context, self.source, self.outbox.emit)]
        engine: StreamedEngine | None = None
        if pieces is not None:
            tap = Tap(program.writers, pieces.put, pieces.max_demand)
            callbacks.append(tap)
            engine = StreamedEngine(line, lifeline, tap)
        return program.run(self.inputs, lm_on(line, engine, **sampling), callbacks, trace=self.msg.trace)

    def _prediction(self, answer: Answered, answers: list[LMResponse], actor: GenServer) -> Prediction:
        context = self.line.context
        assert context is not None
        facts = PredictionInfo(
            correlation_id=context.trace_id,
            span_id=context.span_id,
            provider=self.line.provider,
            calls=answer.calls,
        )
        if answers:
            whole = answers[0]
            for each in answers[1:]:
                whole = both(whole, each)
            facts = how(facts, whole, actor.clock.monotonic() - self.began)
        return Prediction(answer.outputs, facts)
