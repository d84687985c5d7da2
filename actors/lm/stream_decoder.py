"""From the bytes of a streamed answer to its chunks and to the whole answer, for every wire format."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final, Literal, TypeAlias

from ...runtime.errors import LMError, LMProtocolError
from ..http.sse import SSEDecoder
from ..http.transport import HttpResponse
from ..scrub import EXAMINED, described
from ..wire_format import WireFormat
from .chunks import LMChunk
from .failures import lm_error
from .stream_collector import Collector
from .values import LMResponse

MAX_BODY: Final = 32 * 1024 * 1024

_Kind: TypeAlias = Literal["events", "whole", "other", "unknown"]


class StreamDecoder:
    """Reads one answer that was asked for in pieces. Some servers answer whole all the same: that is read as well.

    An answer is whole only after the protocol's terminal event: a stream that just stops is an error.

    Args:
        format: the provider's protocol.
        head: status, which must be a success, and headers.
        model: the model asked for, in case the answer names none.
        secrets: what must not show in an error, in clear.
        max_body: largest answer that comes whole, in bytes.
    """

    def __init__(
        self,
        format: WireFormat,
        head: HttpResponse,
        *,
        model: str,
        secrets: tuple[str, ...] = (),
        max_body: int = MAX_BODY,
    ) -> None:
        self._format, self._head, self._model, self._secrets = format, head, model, secrets
        self._max_body = max_body
        self._kind = _kind_of(head.content_type)
        self._body = bytearray()  # of an answer that is no event stream
        self._sse = SSEDecoder()
        self._collector = Collector(model)

    def feed(self, data: bytes) -> list[LMChunk]:
        """The chunks that the next bytes of the body make whole.

        Raises:
            LMProtocolError: they are not what the protocol promises, or too large.
            LMError: the provider tells of an error. Chunks of this call that stand before it are in :attr:`partial`.
        """
        if self.ended:
            return []
        if self._kind == "unknown" and (begin := data.lstrip()[:1]):
            # Without a content type the first character tells: JSON, or events.
            self._kind = "whole" if begin in b"{[" else "events"
        try:
            if self._kind == "events":
                return self._read(self._sse.feed(data))
            self._keep(data)
        except LMError as error:
            raise self._placed(error) from None
        return []

    def close(self) -> list[LMChunk]:
        """The chunks that the end of the body makes whole. Whether the answer is, :meth:`response` tells.

        Raises:
            LMProtocolError: as :meth:`feed`.
            LMError: as :meth:`feed`.
        """
        if self.ended:
            return []
        try:
            if self._kind == "other":
                raise self._refused()
            if self._kind == "whole":
                answer = HttpResponse(self._head.status, self._head.headers, bytes(self._body))
                self._collector.add_whole(self._format.decode(answer, model=self._model, secrets=self._secrets))
                return self._collector.take()
            return self._read_last()
        except LMError as error:
            raise self._placed(error) from None

    @property
    def ended(self) -> bool:
        """The last event was seen: nothing more need be read."""
        return self._collector.ended

    @property
    def partial(self) -> LMResponse:
        """The answer as far as it came."""
        return self._collector.response(self._head.request_id)

    def response(self) -> LMResponse:
        """The whole answer.

        Raises:
            LMProtocolError: the stream stopped before its terminal event.
        """
        if not self._collector.complete:
            got = f"one that stops after {self._collector.delivered} chunks without a terminal event"
            raise self._placed(lm_error("protocol", f"expected a whole answer, got {got}, in the provider's stream"))
        return self.partial

    def _read(self, events: Iterable[tuple[str, str]]) -> list[LMChunk]:
        collector, read, secrets = self._collector, self._format.read_event, self._secrets
        for event, data in events:
            read(event, data, collector, secrets=secrets)
            if collector.ended:
                break
        return collector.take()

    def _read_last(self) -> list[LMChunk]:
        try:
            return self._read(self._sse.close())
        except LMProtocolError:
            # Cut off in the middle of an event; but the answer itself may be whole, and only its usage lost.
            if not self._collector.complete:
                raise
            return self._collector.take()

    def _keep(self, data: bytes) -> None:
        self._body += data
        if len(self._body) > self._max_body:
            self._body.clear()
            raise lm_error("too_large", f"expected at most {self._max_body} bytes, got more, in the provider's answer")
        if self._kind == "other" and len(self._body) >= EXAMINED:
            raise self._refused()

    def _refused(self) -> LMError:
        got = described(bytes(self._body), self._head.content_type, self._secrets)
        return lm_error("protocol", f"expected a stream of events, got {got}, in the provider's answer")

    def _placed(self, error: LMError) -> LMError:
        """The error with the answer that it stands in."""
        error.facts.update(status=self._head.status, request_id=self._head.request_id)
        return error


def _kind_of(content_type: str) -> _Kind:
    if content_type == "text/event-stream":
        return "events"
    if content_type == "application/json" or content_type.endswith("+json"):
        return "whole"
    return "other" if content_type else "unknown"
