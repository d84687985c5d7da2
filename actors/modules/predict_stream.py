"""One streamed prediction: between the stream of a provider and whoever reads the fields (a producer-consumer).

It asks the provider's stream for as much as it is asked for itself, so a slow reader slows the provider down.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from pydantic_core import to_json
from thespian.actors import ActorAddress

from ...runtime.errors import ActorDied, CallCancelled, Error, ParseError
from ...runtime.gen_server import Stop
from ...runtime.reasons import NORMAL, Reason, describe
from ...runtime.stages import Producer, ProducerConsumer, Subscription
from ..lm.chunks import LMChunk, LMStreamEnd
from ..lm.readers import EndsWithReaders
from ..lm.values import LMResponse
from .field_chunks import FieldChunk, PredictionEnd
from .outputs import AnswerPlan, how, read_outputs
from .prediction import Prediction, PredictionInfo
from .repair import both


@dataclass(frozen=True, slots=True)
class PredictionClosed:
    """To the module: how a streamed prediction ended. ``error`` is None for a whole one."""

    stream: ActorAddress
    error: Error | None


class WholePrediction(EndsWithReaders, Producer):
    """A prediction that was there before it was streamed: its fields, one piece each; a temporary child as below.

    Args:
        prediction: what it is.
        module: the module actor, which is told of the end.
    """

    def init(self, prediction: Prediction, module: ActorAddress) -> None:
        """Wait for a reader."""
        pieces = [FieldChunk(number, name, _text(value)) for number, (name, value) in enumerate(prediction.items())]
        self._module = module
        self._left: list[FieldChunk | PredictionEnd] = [*pieces, PredictionEnd(prediction)]
        self._await_readers()

    def handle_demand(self, demand: int) -> Iterable[FieldChunk | PredictionEnd]:
        """The next pieces."""
        pieces, self._left = self._left[:demand], self._left[demand:]
        if pieces and not self._left:
            self._end_delivered()
            self.cast(self._module, PredictionClosed(self.myAddress, None))
        return pieces

    def _give_up(self) -> Stop:
        if self._left:
            error = CallCancelled("the last reader of the prediction left")
            self.cast(self._module, PredictionClosed(self.myAddress, error))
        return Stop(NORMAL)


def _text(value: object) -> str:
    return value if isinstance(value, str) else to_json(value, fallback=str).decode()


class PredictionStream(EndsWithReaders, ProducerConsumer):
    """One prediction; a temporary child of ``streams/module/<id>``.

    Args:
        source: the provider's stream.
        plan: what the predictor works with.
        info: what is known of the prediction so far.
        module: the module actor, which is told of the end.
        began: when the call arrived, on the monotonic clock.
        max_demand: chunks of the provider's stream that it asks for at once.
        earlier: answers that led to it, summed; what they used counts too.
    """

    def init(
        self,
        source: ActorAddress,
        plan: AnswerPlan,
        info: PredictionInfo,
        module: ActorAddress,
        began: float,
        max_demand: int,
        earlier: LMResponse | None = None,
    ) -> None:
        """Subscribe to the provider's stream; it is read once somebody asks for the fields."""
        self._plan, self._info, self._module, self._began = plan, info, module, began
        self._earlier = earlier
        self._reader = plan.adapter.reader(plan.signature)
        self._index = 0
        self._over = False
        self._source = self.subscribe_to(source, max_demand=max_demand, cancel="temporary")
        self._await_readers()

    # -- from the provider -----------------------------------------------------------------------

    def handle_events(
        self, events: tuple[LMChunk | LMStreamEnd, ...], subscription: Subscription
    ) -> Iterable[FieldChunk]:
        """Read the fields out of the answer's text."""
        out: list[FieldChunk] = []
        for event in events:
            if isinstance(event, LMStreamEnd):
                self._finish((*out, *self._chunks(self._reader.close())), self._end(event))
                return ()
            if event.text:
                out += self._chunks(self._reader.feed(event.text))
        return out

    def handle_cancel(self, kind: str, reason: Reason, subscription: Subscription) -> Stop | None:
        """The provider's stream ended without its last word, or the last reader left."""
        if subscription.ref == self._source.ref:
            if not self._over:
                died = ActorDied(f"the provider's stream ended: {describe(reason)}", reason=reason)
                self._finish((), PredictionEnd(error=died))
            return None
        return super().handle_cancel(kind, reason, subscription)

    def _chunks(self, pairs: Iterable[tuple[str, str]]) -> list[FieldChunk]:
        chunks = [FieldChunk(self._index + number, field, text) for number, (field, text) in enumerate(pairs)]
        self._index += len(chunks)
        return chunks

    def _end(self, event: LMStreamEnd) -> PredictionEnd:
        if event.response is None:
            return PredictionEnd(error=event.error)
        try:
            return PredictionEnd(self._prediction(event.response))
        except ParseError as error:
            return PredictionEnd(error=error)

    def _prediction(self, response: LMResponse) -> Prediction:
        whole = response if self._earlier is None else both(self._earlier, response)
        info = how(self._info, whole, self.clock.monotonic() - self._began)
        return Prediction(read_outputs(self._plan, response), info)

    # -- ends ------------------------------------------------------------------------------------

    def _give_up(self) -> Stop:
        self._report(CallCancelled("the last reader of the prediction left"))
        return Stop(NORMAL)

    def _finish(self, chunks: tuple[FieldChunk, ...], end: PredictionEnd) -> None:
        """The last events, and behind them the end of the actor."""
        if end.error is not None and self._info.correlation_id is not None:
            # With it whoever is told finds the events of what failed.
            end.error.facts.setdefault("correlation_id", self._info.correlation_id)
        self.emit((*chunks, end))
        self._end_delivered()
        self._report(end.error)

    def _report(self, error: Error | None) -> None:
        if not self._over:
            self._over = True
            self.cast(self._module, PredictionClosed(self.myAddress, error))
