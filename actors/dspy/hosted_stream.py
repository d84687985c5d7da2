"""One streamed call of a hosted program: an actor that runs it, and gives on its pieces as they are asked for.

The program begins when somebody asks for the first piece, and goes on only as fast as its pieces are taken. When the
last reader leaves, or the module ends, so does the call, down to the request to the provider.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Final

from pydantic_core import to_json
from thespian.actors import ActorAddress

from ...runtime.errors import CallCancelled, Error
from ...runtime.gen_server import Stop, cast, info
from ...runtime.messages import TaskDone, TaskFailed
from ...runtime.reasons import NORMAL, Reason
from ...runtime.stages import Credit, Producer, Subscription
from ..modules.field_chunks import FieldChunk, PredictionEnd
from ..modules.predict_stream import PredictionClosed
from ..modules.prediction import Prediction
from ..providers.messages import SUBSCRIBE_PATIENCE, Leave
from .hosted_call import HostedCall, Pieces

_WORK: Final = "work"


@dataclass(frozen=True, slots=True)
class _Patience:
    """To itself: has anybody come?"""


@dataclass(frozen=True, slots=True)
class _Delivered:
    """To itself, behind the last event: everything was delivered."""


class HostedStream(Producer):
    """One streamed call; a linked child of the module actor.

    Args:
        call: what is to be done.
        module: the module actor, which is told of the end.
        max_demand: pieces of a model's answer that are asked for at once.
    """

    def init(self, call: HostedCall, module: ActorAddress, max_demand: int) -> None:
        """Wait for a reader."""
        self._call, self._module = call, module
        self._pieces = Pieces(self._put, max_demand)
        self._credit = Credit()
        self._begun: set[str] = set()
        self._index = self._consumers = 0
        self._working = self._over = False
        self.start_timer(SUBSCRIBE_PATIENCE, _Patience())

    # -- the work ----------------------------------------------------------------------------------

    def handle_demand(self, demand: int) -> None:
        """Somebody wants more."""
        self._credit.add(demand)
        if not self._working:
            self._working = True
            self.start_task(self._work(), tag=_WORK)

    async def _work(self) -> Prediction | Error:
        try:
            prediction = await self._call.predict(self, self._pieces)
        except Error as error:
            return error
        await self._put((name, _text(value)) for name, value in prediction.items() if name not in self._begun)
        return prediction

    async def _put(self, pairs: Iterable[tuple[str, str]]) -> None:
        """Give pieces on, each when there is room for it."""
        for field, text in pairs:
            await self._credit.take()
            self._begun.add(field)
            self.emit((FieldChunk(self._index, field, text),))
            self._index += 1

    @info
    def work_done(self, msg: TaskDone | TaskFailed) -> Stop | None:
        """The last word, and behind it the end of the actor."""
        if isinstance(msg, TaskFailed):
            return Stop(msg.reason)  # a defect of ours; readers are told by it
        end = PredictionEnd(error=msg.value) if isinstance(msg.value, Error) else PredictionEnd(msg.value)
        self.emit((end,))
        self.async_info(_Delivered())
        self._report(end.error)
        return None

    # -- readers -----------------------------------------------------------------------------------

    def handle_subscribe(self, role: str, options: object, subscription: Subscription) -> str:
        """Count the readers."""
        self._consumers += role == "consumer"
        return "automatic"

    def handle_cancel(self, kind: str, reason: Reason, subscription: Subscription) -> Stop | None:
        """A reader left."""
        self._consumers -= 1
        return None if self._consumers else self._give_up()

    @cast
    def leave(self, msg: Leave) -> Stop:
        """The prediction is of no use to anybody: end it."""
        return self._give_up()

    @info
    def patience(self, msg: _Patience) -> Stop | None:
        """Nobody came."""
        return None if self._consumers else self._give_up()

    @info
    def delivered(self, msg: _Delivered) -> Stop:
        """Everything was delivered."""
        return Stop(NORMAL)

    def _give_up(self) -> Stop:
        self._report(CallCancelled("the last reader of the prediction left"))
        return Stop(NORMAL)

    def _report(self, error: Error | None) -> None:
        if not self._over:
            self._over = True
            self.cast(self._module, PredictionClosed(self.myAddress, error))


def _text(value: Any) -> str:
    return value if isinstance(value, str) else to_json(value, fallback=str).decode()
