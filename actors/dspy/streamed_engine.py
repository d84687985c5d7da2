"""An engine whose answers are read along while they are written: that of a hosted program which is streamed."""

from __future__ import annotations

from typing import Any

from ...runtime.errors import StreamInterrupted
from ...runtime.stages import stream
from ..lm.chunks import LMStreamEnd
from ..lm.values import LMRequest, LMResponse
from ..providers.messages import StreamOpened
from .engine import ActorEngine, told
from .lifeline import Lifeline
from .line import Line
from .requests import read_request
from .streaming import Reading, Tap


class StreamedEngine(ActorEngine):
    """As :class:`ActorEngine`; answers with a field that somebody reads come by stream.

    The provider is read only as fast as the reader is.

    Args:
        line: how calls are sent.
        lifeline: of the program's call.
        tap: takes the pieces.
    """

    def __init__(self, line: Line, lifeline: Lifeline, tap: Tap) -> None:
        super().__init__(line)
        self._lifeline = lifeline
        self._tap = tap

    def complete(self, request: Any) -> Any:
        """See :meth:`ActorEngine.complete`."""
        reading = self._tap.reading()
        if reading is None:
            return super().complete(request)
        with told():
            asked = read_request(request, self.line.model)
            if self.line.journaled is None:
                return self._heard(self._lifeline.run(self._streamed(asked, reading)))
            answer = self.line.ask(asked)  # kept are whole answers
            self._lifeline.run(_read_whole(answer, reading))
            return self._heard(answer)

    async def _streamed(self, asked: LMRequest, reading: Reading) -> LMResponse:
        # On the engine's loop.
        line = self.line
        opened: StreamOpened = await line.engine.outside.call_async(
            f"provider/{line.provider}", line.open_stream(asked), **line.how
        )
        events, read = stream(opened.address, line.engine, max_demand=self._tap.max_demand, cancel="permanent"), False
        try:
            async for event in events:
                read = True
                if not isinstance(event, LMStreamEnd):
                    await reading.feed(event.text)
                elif event.response is not None:
                    await reading.close()
                    return event.response
                elif event.error is not None:
                    raise event.error
        finally:
            self._left(opened, events, read=read)
        raise StreamInterrupted("expected the end of the answer, got the end of its stream")


async def _read_whole(answer: LMResponse, reading: Reading) -> None:
    await reading.feed(answer.text)
    await reading.close()
