"""One streamed call of a hosted program: an actor that runs it, and gives on its pieces as they are asked for.

The program begins when somebody asks for the first piece, and goes on only as fast as its pieces are taken. When the
last reader leaves, or the module ends, so does the call, down to the request to the provider.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

from pydantic_core import to_json
from thespian.actors import ActorAddress

from ...runtime.errors import CallCancelled, Error
from ...runtime.gen_server import Stop, info
from ...runtime.messages import TaskDone, TaskFailed
from ...runtime.reasons import NORMAL
from ...runtime.stages import Credit, Producer
from ..lm.readers import EndsWithReaders
from ..modules.field_chunks import FieldChunk, PredictionEnd
from ..modules.predict_stream import PredictionClosed
from ..modules.prediction import Prediction
from .hosted_call import HostedCall, Pieces

_WORK: Final = "work"


class HostedStream(EndsWithReaders, Producer):
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
        self._index = 0
        self._working = self._over = False
        self._await_readers()

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
        self._end_delivered()
        self._report(end.error)
        return None

    def _give_up(self) -> Stop:
        self._report(CallCancelled("the last reader of the prediction left"))
        return Stop(NORMAL)

    def _report(self, error: Error | None) -> None:
        if not self._over:
            self._over = True
            self.cast(self._module, PredictionClosed(self.myAddress, error))


def _text(value: Any) -> str:
    return value if isinstance(value, str) else to_json(value, fallback=str).decode()
