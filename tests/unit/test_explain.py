"""What a name waits for, in sentences, from facts alone."""

from __future__ import annotations

import dataclasses

import pytest

from dspex.supervisors.app.console.explain import Facts, OpenCall, explain

RUNNING = Facts("module/qa", "running", status="idle", supervisor="supervisor/module-pool")


def told(facts: Facts) -> tuple[str, str]:
    """The verdict, and the sentences as one text."""
    explanation = explain(facts)
    return explanation.verdict, "; ".join(explanation.because)


def with_facts(**more: object) -> Facts:
    """A running module, changed."""
    return dataclasses.replace(RUNNING, **more)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("facts", "verdict", "said"),
    [
        (RUNNING, "idle", "waits for a message"),
        (with_facts(status="ready", mailbox=3), "ready", "3 messages wait"),
        (with_facts(status="suspended", mailbox=1), "suspended", "1 message waits"),
        (with_facts(status="busy", message="Predict", left=2.5), "busy", "Predict, whose caller waits 2.5 s more"),
        (with_facts(status="busy"), "busy", "nobody awaits an answer"),
        (with_facts(status="busy", threaded=True), "busy", "on a thread"),
        (with_facts(status="busy", held=3.25), "stuck", "held the engine's loop for at least 3.2 s"),
        (with_facts(state="starting", status="init", since=4.0), "starting", "init runs, for 4.0 s now"),
        (with_facts(state="stopping", status="terminating"), "stopping", "supervisor/module-pool told it to stop"),
        (with_facts(state="restarting", status=None, parked=2), "restarting", "2 calls wait for it to come back"),
        (with_facts(state="backing_off", status=None, reason="boom"), "backing_off", "the last end: boom"),
        (with_facts(state="dead", status=None, restarts=1), "dead", "restarted 1 time"),
        (with_facts(status="busy", mailbox=9, limit=9), "busy", "full (9): calls to it are refused"),
        (with_facts(promised=1, tasks=2), "idle", "1 call still to answer; 2 tasks of it run"),
        (with_facts(stopping=True, held_by_other="x/y"), "idle", "held by x/y"),
        (Facts("module/aq", None, hint="; did you mean 'module/qa'?"), "unknown", "did you mean 'module/qa'"),
    ],
)
def test_each_situation_has_its_verdict_and_reason(facts: Facts, verdict: str, said: str) -> None:
    """The verdict is one word, and a sentence says why."""
    found = told(facts)
    assert found[0] == verdict
    assert said in found[1]


def test_whom_a_handler_waits_for_is_named() -> None:
    """An open call says its target, what that does, the message and the time left; then no other cause is guessed."""
    waiting = OpenCall("provider/local", "Complete", "backing_off", 7.0)
    _, said = told(with_facts(status="busy", message="Predict", waits_for=(waiting,)))
    assert "waits for 7.0 s more for provider/local (backing_off) to answer Complete" in said
    assert "no actor" not in said
    assert "for ever" in told(with_facts(status="busy", waits_for=(dataclasses.replace(waiting, left=None),)))[1]


def test_an_explanation_reads_as_text() -> None:
    """As text: name and verdict, then a sentence a line."""
    assert str(explain(RUNNING)) == "module/qa: idle\n  it waits for a message"
