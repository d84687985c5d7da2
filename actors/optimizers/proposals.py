"""New instructions, written by the run's prompt model."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from ...runtime.errors import LMError
from ...runtime.log import get_logger
from ..adapters.prompts import listed, task
from ..examples import Example
from ..runs.tries import HOPELESS
from ..signatures.signature import Signature
from ..signatures.values import shorten
from .bench import Bench, Outcome
from .demos import plain

SHOWN: Final = 2000
"""Characters of a value, or of an example, that a prompt shows."""
LONGEST: Final = 20_000
"""Characters of instructions; an answer with more is not used."""
TIPS: Final = (
    "Say plainly what a right answer is.",
    "Be as short as you can without losing anything that matters.",
    "Say which details of the input decide, and how.",
    "Describe a way to the answer, in steps.",
    "Warn of the mistakes that are easily made here.",
    "Say who would be the best expert for this, and address the model as that expert.",
)
_FENCED: Final = re.compile(r"```[^\n`]*\n(.*?)```", re.DOTALL)


class Proposer:
    """Asks the prompt model for instructions, and counts what could not be used.

    Args:
        bench: what it works with.
        temperature: of the prompt model.
    """

    def __init__(self, bench: Bench, temperature: float) -> None:
        self._bench = bench
        self._temperature = temperature
        self._log = get_logger("dspex.optimizers")
        self.asked = 0
        self.unusable = 0

    async def describe(self, examples: Sequence[Example]) -> str | None:
        """What the data are like, in the model's words; None if it failed: instructions can be written without.

        Raises:
            RunStopped: the bench wants no more.
            Error: one that the next prompt would meet too (a key that is refused, no connection...).
        """
        try:
            found = await self._bench.ask(data_prompt(examples), trial="describe", temperature=self._temperature)
        except HOPELESS:
            raise
        except LMError as error:
            self._log.warning("the data were not described", error=error.code)
            return None
        return shorten(found.strip(), SHOWN) or None

    async def propose(self, prompt: str, *, trial: str, ordinal: int = 0) -> str | None:
        """Instructions; None if the model failed or wrote none: that is no reason to end a search.

        Raises:
            RunStopped: the bench wants no more.
            Error: one that the next prompt would meet too (a key that is refused, no connection...).
        """
        self.asked += 1
        try:
            found = read_instructions(
                await self._bench.ask(prompt, trial=trial, ordinal=ordinal, temperature=self._temperature)
            )
        except HOPELESS:
            raise
        except LMError as error:
            self._log.warning("no instructions were proposed", trial=trial, error=error.code)
            found = None
        self.unusable += found is None
        return found

    def warn_if_in_vain(self) -> None:
        """Say so in the log if not one proposal could be used: the search had no new instructions to try."""
        if self.asked and self.unusable == self.asked:
            self._log.warning("not one of the proposed instructions could be used", asked=self.asked)


def read_instructions(text: str) -> str | None:
    """What stands in the answer's longest fence, or all of it without one; None if it is empty or too long."""
    fenced = [each.strip() for each in _FENCED.findall(text)]
    found = max(fenced, key=len) if fenced else text.strip().strip("`").strip()
    return found if 0 < len(found) <= LONGEST else None


def data_prompt(examples: Sequence[Example]) -> str:
    """What asks for a description of the data."""
    return "\n\n".join(
        (
            _DESCRIBE,
            _examples(examples),
        )
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Grounds:
    """What instructions for a step are proposed from.

    Attributes:
        program: its steps, by name.
        data: a description of the data, or None.
        examples: of the program's work.
        demos: worked examples of the step.
        tip: how to go about it.
        others: instructions that were proposed before.
    """

    program: Mapping[str, Signature]
    data: str | None
    examples: Sequence[Example]
    demos: Sequence[Mapping[str, Any]]
    tip: str
    others: Sequence[str]


def proposal_prompt(name: str, instructions: str | None, grounds: Grounds) -> str:
    """What asks for instructions from the program and its data: MIPRO's grounded proposal.

    Args:
        name: the step.
        instructions: those it has, if they are not its signature's.
        grounds: what else is known.
    """
    program = grounds.program
    parts = ["Write the instructions for a language model that does one step of a program."]
    if len(program) > 1:
        steps = "\n".join(f"- `{each}`: {signature}" for each, signature in program.items())
        parts.append(f"The program's steps:\n{steps}")
    parts.append(_about(name, program[name], instructions))
    if grounds.data is not None:
        parts.append(f"About the data:\n{grounds.data}")
    parts.append(_examples(grounds.examples))
    if grounds.demos:
        parts.append("The step has done this well:\n" + "\n".join(_json(demo) for demo in grounds.demos))
    if grounds.others:
        fenced = "\n".join(f"```\n{shorten(each, SHOWN)}\n```" for each in grounds.others)
        parts.append(f"Write something that is none of these, which were proposed already:\n{fenced}")
    return "\n\n".join((*parts, f"Tip: {grounds.tip}", _ANSWER))


def reflection_prompt(
    name: str,
    signature: Signature,
    instructions: str | None,
    examples: Sequence[Example],
    outcomes: Sequence[Outcome],
) -> str:
    """What asks for better instructions, from how those of now did on some examples."""
    cases = [_case(name, *each) for each in zip(examples, outcomes, strict=True)]
    return "\n\n".join(
        (
            "Improve the instructions for a language model that does one step of a program.",
            _about(name, signature, instructions),
            "With them it did the following.",
            *(f"## Case {number}\n{case}" for number, case in enumerate(cases, 1)),
            _REFLECT,
            _ANSWER,
        )
    )


_DESCRIBE: Final = (
    "Describe the data of a task in a few sentences, for somebody who will write instructions for it: what the inputs "
    "are like, what a good answer is like, and what decides it."
)
_REFLECT: Final = (
    "Find out from the feedback what went wrong and what the task really is. Put into the instructions all that the "
    "model cannot know, such as facts and rules that the feedback tells, and keep what works. Write for inputs in "
    "general: do not repeat these cases."
)
_ANSWER: Final = "Answer with the complete new instructions, between two lines of three backticks (```)."


def _examples(examples: Sequence[Example]) -> str:
    return "Examples of what the program gets, and of what a good answer has:\n" + "\n".join(map(_shown, examples))


def _about(name: str, signature: Signature, instructions: str | None) -> str:
    now = task(signature if instructions is None else signature.with_instructions(instructions))
    inputs = f"It gets:\n{listed(signature.inputs)}\n\n" if signature.inputs else ""
    fields = f"{inputs}It gives:\n{listed(signature.outputs)}"
    return f"The step is called `{name}`.\n\n{fields}\n\nIts instructions now:\n```\n{now}\n```"


def _case(name: str, example: Example, outcome: Outcome) -> str:
    calls = [call for call in outcome.calls if call.predictor == name]
    lines = [f"The step got: {_json(call.inputs)}\nThe step gave: {_json(call.outputs)}" for call in calls]
    if outcome.prediction is not None:
        lines.append(f"The program answered: {_json(outcome.prediction)}")
    if outcome.error is not None:
        lines.append(f"The program failed: {outcome.error}")
    lines.append(f"Example: {_shown(example)}")
    lines.append(f"Score: {outcome.score:g} of 1")
    if outcome.feedback:
        lines.append(f"Feedback: {shorten(outcome.feedback, SHOWN)}")
    return "\n".join(lines)


def _shown(example: Example) -> str:
    if not example.has_inputs:
        return _json(example)
    return f"{_json(example.inputs())} -> {_json(example.labels())}"


def _json(fields: Mapping[str, Any]) -> str:
    return shorten(json.dumps(plain(fields), ensure_ascii=False), SHOWN)
