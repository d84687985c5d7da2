"""What counts as the same text: case, articles, punctuation and spacing do not matter (as in SQuAD's evaluation).

Unlike there, the marks of a number are part of it: -5 is not 5, and 1.5 is not 15.
"""

from __future__ import annotations

import re
import unicodedata
from typing import Final

_ARTICLES: Final = re.compile(r"\b(?:a|an|the)\b")


def normalise(text: str) -> str:
    """A text without what does not matter: one Unicode form, lower case, no punctuation, no English articles.

    A text that would vanish altogether (``"A"``, ``"?!"``) keeps what can be kept, so that it is not taken for another.
    """
    folded = unicodedata.normalize("NFKC", text).casefold()
    words = "".join(mark for place, mark in enumerate(folded) if not _is_noise(folded, place))
    return _spaced(_ARTICLES.sub(" ", words)) or _spaced(words) or _spaced(folded)


def tokens(text: str) -> list[str]:
    """The words of a normalised text."""
    return normalise(text).split()


def _is_noise(text: str, place: int) -> bool:
    mark = text[place]
    if not unicodedata.category(mark).startswith("P"):
        return False
    before, after = text[place - 1 : place], text[place + 1 : place + 2]
    if mark == ".":
        return not (before.isdigit() and after.isdigit())
    return not (mark == "-" and after.isdigit() and not before.isalnum())


def _spaced(text: str) -> str:
    return " ".join(text.split())
