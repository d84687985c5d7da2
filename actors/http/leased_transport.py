"""A transport that several requests use, and that closes when it was replaced and the last of them is over."""

from __future__ import annotations

from collections.abc import Callable
from types import TracebackType

from .transport import Transport


class LeasedTransport:
    """Counts who uses a transport: ``async with lease as transport``.

    Args:
        transport: what is shared.
        on_closed: told once, when it was retired and is closed.
    """

    def __init__(self, transport: Transport, on_closed: Callable[[LeasedTransport], None]) -> None:
        self._transport = transport
        self._on_closed = on_closed
        self._users = 0
        self._retired = False

    async def __aenter__(self) -> Transport:
        self._users += 1
        return self._transport

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._users -= 1
        if self._retired:
            await self._close_if_unused()

    async def retire(self) -> None:
        """Close as soon as nobody uses it."""
        self._retired = True
        await self._close_if_unused()

    async def aclose(self) -> None:
        """Close now, whoever uses it."""
        await self._transport.aclose()

    async def _close_if_unused(self) -> None:
        if self._users == 0:
            await self._transport.aclose()
            self._on_closed(self)
