"""What counts as the same text: case, articles, punctuation and spacing do not matter (as in SQuAD's evaluation)."""

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
    words = "".join(mark for mark in folded if not unicodedata.category(mark).startswith("P"))
    return _spaced(_ARTICLES.sub(" ", words)) or _spaced(words) or _spaced(folded)


def tokens(text: str) -> list[str]:
    """The words of a normalised text."""
    return normalise(text).split()


def _spaced(text: str) -> str:
    return " ".join(text.split())
