"""An application with actors in child interpreters: a module there, what is shown, Thespian's ask."""

from __future__ import annotations

import os

import dspex
from dspex.actors.modules.actor import ModuleActor
from dspex.runtime.child_spec import ChildSpec
from dspex.runtime.outcomes import Started
from kit.application import IN_MEMORY, application
from kit.placed import Do, Note, Plain, Worker


def test_an_application_shows_what_it_has_placed() -> None:
    """``start_child`` takes it; the tree and the registry show it, with its process id."""
    with dspex.start(config=IN_MEMORY) as app:
        app.start_child(ChildSpec("w", Worker, name="w/there", placement="process"))
        pid = app.call("w/there", Do("pid"))
        assert pid != os.getpid()
        assert "w/there" in str(app.tree())
        row = app.registry.lookup("w/there")
        assert row is not None
        assert row.metadata["pid"] == pid


def test_a_module_in_a_child() -> None:
    """It finds settings, provider and event store in the parent; what it did is told and recorded there."""
    with application(None, "qa") as (app, _):
        app.start_child(ChildSpec("there", ModuleActor, ("qa",), name="module/there", placement="process"))
        answer = app.module("there")(question="Who wrote Hamlet?")
        assert answer.answer == "Shakespeare"
        row = app.registry.lookup("module/there")
        assert row is not None
        assert row.metadata["pid"] != os.getpid()
        assert row.metadata["signature"] == "question -> answer"
        told = {event.type for event in app.events.query(trace_id=answer.info.correlation_id).events}
        assert {"module_execution", "lm_request", "lm_response"} <= told


def test_a_thespian_ask_from_outside() -> None:
    """Thespian's ``ask`` reaches a plain actor in a child, and its answer comes back."""
    with dspex.start(config=IN_MEMORY) as app:
        there = app.start_child(ChildSpec("p", Plain, placement="process"))
        assert isinstance(there, Started)
        pid, value = app.ask(there.address, Note("hi"), 5.0).value
        assert pid != os.getpid()
        assert value == "hi"
