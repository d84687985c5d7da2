"""What was spent, read back from the event log, so that a budget holds across restarts.

A request whose usage nobody knows is one request here, without tokens and money: the estimate, which stands for it
while the process lives, is not in the log.
"""

from __future__ import annotations

from collections.abc import Container, Mapping
from decimal import Decimal

from ..events.kinds import Event, LmError, LmResponse
from .messages import Amount


class History:
    """Adds up events.

    Args:
        since: the accounts to count for, and from when on (epoch seconds; None is from the beginning).
        still_open: ids of requests that are not to be counted, as somebody still will.
    """

    def __init__(self, since: Mapping[str, float | None], still_open: Container[str] = ()) -> None:
        self._since = since
        self._still_open = still_open
        self.spent: dict[str, Amount] = dict.fromkeys(since, Amount())
        self.unpriced: dict[str, int] = dict.fromkeys(since, 0)

    @property
    def begin(self) -> float | None:
        """The earliest moment that matters, or None for all of time."""
        moments = [moment for moment in self._since.values() if moment is not None]
        return min(moments) if len(moments) == len(self._since) else None

    def add(self, event: Event) -> None:
        """Count one event, if it tells of spending."""
        if not isinstance(event, LmResponse | LmError):
            return
        request = event.request_event_id
        if (request is not None and request in self._still_open) or (isinstance(event, LmResponse) and event.cache_hit):
            return
        amount = Amount(1, _tokens(event), event.cost or Decimal(0))
        for account in dict.fromkeys(event.accounts):
            if account not in self._since:
                continue
            begin = self._since[account]
            if begin is None or event.time >= begin:
                self.spent[account] += amount
                self.unpriced[account] += event.cost is None


def _tokens(event: LmResponse | LmError) -> int:
    if event.total_tokens is not None:
        return event.total_tokens
    return (event.input_tokens or 0) + (event.output_tokens or 0)
