"""What the actors share whose counters change with each request: how often the registry hears of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from ...runtime.gen_server import GenServer, info

ANNOUNCE_EVERY: Final = 0.25
"""Seconds between two announcements at least; a change of the settings is announced at once."""


@dataclass(frozen=True, slots=True)
class _AnnounceDue:
    """To itself: tell the registry how things are."""


class Announcing(GenServer):
    """An actor that tells the registry of its counters a few times a second at most."""

    _announcing = False

    def _announce(self) -> None:
        """Tell the registry how things are."""
        raise TypeError(f"{type(self).__name__} announces itself and does not say what")

    def _announce_soon(self) -> None:
        """Something has changed. An actor without a name is in no registry."""
        if not self._announcing and self.name is not None:
            self._announcing = True
            self.start_timer(ANNOUNCE_EVERY, _AnnounceDue())

    @info
    def announce_due(self, msg: _AnnounceDue) -> None:
        """Tell the registry."""
        self._announcing = False
        self._announce()
