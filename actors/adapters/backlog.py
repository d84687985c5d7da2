"""Pieces of an answer that wait until it is worth to read them."""

from __future__ import annotations

from typing import Final

SMALL: Final = 1000
"""Characters that may be read again with each piece."""
_SHARE: Final = 8


class Backlog:
    """What a reader keeps unread, it reads again with the next piece: blanks that may come before a marker, a list that
    is not yet whole. When that is long, further pieces wait here until they are an eighth of it, so that the work stays
    in proportion to the answer, however it is cut.
    """

    def __init__(self) -> None:
        self._pieces: list[str] = []
        self._size = 0

    def add(self, piece: str, kept: int) -> str:
        """A further piece.

        Args:
            piece: its text.
            kept: how many characters the reader would read again.

        Returns:
            All that is to be read now; nothing while it waits.
        """
        self._pieces.append(piece)
        self._size += len(piece)
        return "" if kept > SMALL and self._size * _SHARE < kept else self.rest()

    def rest(self) -> str:
        """All that waited."""
        text = "".join(self._pieces)
        self._pieces.clear()
        self._size = 0
        return text
