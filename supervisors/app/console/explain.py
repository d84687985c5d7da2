"""What a named actor waits for, and why: in sentences, from facts that need nobody's answer."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class OpenCall:
    """A call that an actor waits for.

    Attributes:
        target: who is asked.
        message: class of the message.
        state: what the target does now.
        left: seconds until the deadline, None for ever.
    """

    target: str
    message: str
    state: str
    left: float | None


@dataclass(frozen=True, slots=True)
class Facts:
    """What the engine's bookkeeping says of a name.

    Attributes:
        name: the name.
        state: its state in the name table, ``running`` for an actor without an entry; None if nobody ever had it.
        status: what its actor does (``idle``, ``ready``, ``busy`` ...); None if there is none.
        since: seconds in this state.
        reason: why its last incarnation ended, as text; empty if none did.
        restarts: how often a supervisor restarted it.
        supervisor: whose child it is, if anybody's.
        mailbox: messages waiting.
        limit: how many may wait; None for any number.
        message: class of the call in hand, if it has one.
        left: seconds until that call's deadline.
        promised: calls it has put off answering.
        tasks: tasks of its own that run.
        waits_for: calls that its code waits for.
        parked: calls that wait for the name to come back.
        threaded: whether its handlers run on a thread.
        held: seconds for which it holds the engine's loop.
        held_by_other: who else holds the loop, if somebody does.
        stopping: whether the application is stopping.
        hint: a nearby name, as ``; did you mean 'x'?``.
    """

    name: str
    state: str | None
    status: str | None = None
    since: float = 0.0
    reason: str = ""
    restarts: int = 0
    supervisor: str | None = None
    mailbox: int = 0
    limit: int | None = None
    message: str | None = None
    left: float | None = None
    promised: int = 0
    tasks: int = 0
    waits_for: tuple[OpenCall, ...] = ()
    parked: int = 0
    threaded: bool = False
    held: float = 0.0
    held_by_other: str | None = None
    stopping: bool = False
    hint: str = ""


@dataclass(frozen=True, slots=True)
class Explanation:
    """What a name waits for.

    Attributes:
        name: which.
        verdict: one word: ``idle``, ``ready``, ``busy``, ``stuck``, ``suspended``, ``terminating``, a state of the
            name table, or ``unknown``.
        because: sentences.
    """

    name: str
    verdict: str
    because: tuple[str, ...]

    def __str__(self) -> str:
        return "\n".join([f"{self.name}: {self.verdict}", *(f"  {sentence}" for sentence in self.because)])


def explain(facts: Facts) -> Explanation:
    """Say what a name waits for, and why."""
    if facts.state is None:
        return Explanation(facts.name, "unknown", (f"nobody ever had this name{facts.hint}",))
    if facts.held > 0:
        verdict = "stuck"
    elif facts.state == "running" and facts.status is not None:
        verdict = facts.status
    else:
        verdict = facts.state
    return Explanation(facts.name, verdict, (*_main(facts, verdict), *_callers(facts), *_surroundings(facts)))


def _main(facts: Facts, verdict: str) -> Iterator[str]:
    boss = facts.supervisor or "its supervisor"
    if verdict == "stuck":
        yield f"its code has held the engine's loop for at least {facts.held:.1f} s: no actor can run until it lets go"
    elif verdict == "busy":
        yield from _busy(facts)
    elif verdict in _STILL:
        yield _STILL[verdict]
    elif verdict in _GONE:
        yield f"{_GONE[verdict].format(boss=boss)}, for {facts.since:.1f} s now"
    if facts.reason:
        yield f"the last end: {facts.reason}"
    if facts.restarts:
        yield f"it was restarted {facts.restarts} {'time' if facts.restarts == 1 else 'times'}"


_STILL = {
    "idle": "it waits for a message",
    "ready": "it has messages, and waits for its turn",
    "suspended": "it was suspended: it handles nothing until it is resumed",
    "terminating": "it cleans up, then it ends",
}
_GONE = {
    "starting": "its init runs",
    "init": "its init runs",
    "restarting": "it ended, and {boss} starts it again",
    "backing_off": "it ended, and {boss} pauses before it starts it again",
    "stopping": "{boss} told it to stop, and waits for its end",
    "dead": "it ended, and nobody has started it again: a supervisor's restart rule or a keeper's next try decides",
}


def _busy(facts: Facts) -> Iterator[str]:
    doing = f"it handles {facts.message}" if facts.message else "it handles a message that nobody awaits an answer to"
    if facts.left is not None:
        doing += f", whose caller waits {max(0.0, facts.left):.1f} s more"
    yield doing
    if facts.waits_for:
        return
    if facts.threaded:
        yield "its handler runs on a thread; an actor like that cannot be interrupted"
    else:
        yield "its handler waits for something that is no actor: a socket, a thread, a timer"


def _callers(facts: Facts) -> Iterator[str]:
    for each in facts.waits_for:
        left = "for ever" if each.left is None else f"for {max(0.0, each.left):.1f} s more"
        yield f"it waits {left} for {each.target} ({each.state}) to answer {each.message}"
    if facts.limit is not None and facts.mailbox >= facts.limit:
        yield f"its mailbox is full ({facts.limit}): calls to it are refused, casts are dropped"
    elif facts.mailbox:
        yield f"{_some(facts.mailbox, 'message waits', 'messages wait')} in its mailbox"
    if facts.parked:
        yield f"{_some(facts.parked, 'call waits', 'calls wait')} for it to come back"
    if facts.promised:
        yield f"it has {_some(facts.promised, 'call', 'calls')} still to answer"
    if facts.tasks:
        yield f"{_some(facts.tasks, 'task of it runs', 'tasks of it run')}"


def _surroundings(facts: Facts) -> Iterator[str]:
    if facts.held_by_other is not None:
        yield f"the engine's loop is held by {facts.held_by_other}: until that lets go nobody runs"
    if facts.stopping:
        yield "the application is stopping"


def _some(count: int, one: str, many: str) -> str:
    return f"{count} {one if count == 1 else many}"
