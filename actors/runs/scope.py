"""Where in a run a call belongs: by this its answer is found again after a crash, and not paid for twice."""

from __future__ import annotations

from dataclasses import dataclass, replace


@dataclass(frozen=True, slots=True)
class RunScope:
    """A place in a run; travels with every call that is made for it.

    Attributes:
        run: id of the run.
        trial: which trial of the run; a text chosen by it, such as ``"baseline"`` or ``"g2/c5"``.
        example: key or index of the example, as text.
        part: which part of the work on the example (a predictor, a judge...), so that ordinals count apart.
    """

    run: str
    trial: str
    example: str
    part: str = ""

    def within(self, part: str) -> RunScope:
        """The same for a part of the work."""
        return replace(self, part=f"{self.part}/{part}" if self.part else part)

    def key(self, ordinal: int) -> str:
        """The journal's key of the call number ``ordinal`` (from 0) made here."""
        return "\x1f".join((self.trial, self.example, self.part, str(ordinal)))
