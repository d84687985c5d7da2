"""What the engine counts, and a snapshot of it for people."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(slots=True)
class Counters:
    """Running totals of one engine.

    Attributes:
        spawned: actors started (or tried).
        ended: actors that ended.
        crashed: of these, by an exception.
        late_replies: answers that came after the caller had given up.
        late_output: messages of actors that had ended already.
        unhandled: messages without a handler.
        overloaded: messages refused because a mailbox was full.
        poisoned: messages a plain Thespian actor failed on twice.
        slow_handlers: times a handler held the loop longer than allowed.
        stuck_handlers: handlers that took longer than allowed, their waiting included.
        deadlocks: times that handlers waited for each other in a circle.
        abandoned_threads: threads that still ran an actor's code when the actor ended, or gave up waiting for it.
    """

    spawned: int = 0
    ended: int = 0
    crashed: int = 0
    late_replies: int = 0
    late_output: int = 0
    unhandled: int = 0
    overloaded: int = 0
    poisoned: int = 0
    slow_handlers: int = 0
    stuck_handlers: int = 0
    deadlocks: int = 0
    abandoned_threads: int = 0
