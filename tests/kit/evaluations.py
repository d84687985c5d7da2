"""For tests of evaluations that survive: a model that answers and judges, and a process that evaluates with it."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import dspex
from dspex.actors.examples import Example
from dspex.actors.scorers.llm_judge import LMJudge
from kit.http_server import Exchange, HttpServer, completion
from kit.runs import ROOT, Model, answer_to, configuration

SCRIPT = """
import json, sys
from kit.evaluations import evaluated
print(json.dumps(evaluated(**json.loads(sys.argv[1]))), flush=True)
"""

DATASET = tuple(
    Example(question=f"Is {number} even?", answer="no" if number % 2 else "yes").with_inputs("question")
    for number in range(30)
)
BAD = "Is 13 even?"
"""The question that the provider refuses."""
judge = LMJudge("local")


def judged(request: dict[str, Any]) -> str:
    """What the model says of an answer: a score by a hash of all that it is told."""
    luck = hashlib.sha256(json.dumps(request["messages"]).encode()).digest()[0]
    return f"[[ ## reasoning ## ]]\nby rule {luck}\n\n[[ ## score ## ]]\n{luck / 255:.3f}\n\n[[ ## completed ## ]]"


class JudgingModel(Model):
    """A provider whose answers depend on nothing but the request, also where it is asked to judge."""

    def __call__(self, exchange: Exchange) -> None:
        """Answer a request."""
        with self._lock:
            self.calls += 1
            number = self.calls
        self.on_call(number)
        request = exchange.request.json()
        told = json.dumps(request["messages"])
        if "[[ ## score ## ]]" in told:
            exchange.reply(200, completion(judged(request)))
        elif BAD in told:
            exchange.reply(400, {"error": {"message": "unlucky"}})
        else:
            exchange.reply(200, completion(answer_to(request)))
        self.on_answer(number)


@contextmanager
def judging_model() -> Iterator[tuple[JudgingModel, HttpServer]]:
    """Such a model and the server it answers at."""
    script = JudgingModel()
    with HttpServer(script) as server:
        yield script, server


def evaluated(config: dict[str, Any], how: dict[str, Any]) -> dict[str, Any]:
    """Begin an evaluation, or go on with it: its report."""
    with dspex.start(config=config) as app:
        report = app.evaluate("qa", DATASET, metric="kit.evaluations:judge", progress=False, **how)
    found: dict[str, Any] = json.loads(report.to_json())
    return found


def evaluation_process(server: HttpServer, folder: Path, **how: Any) -> subprocess.Popen[str]:
    """A process that begins an evaluation, or goes on with it, waits for its report and prints it."""
    plan = json.dumps({"config": configuration(server, folder), "how": how})
    return subprocess.Popen(
        [sys.executable, "-c", SCRIPT, plan],
        cwd=ROOT,
        env={"PYTHONPATH": f"{ROOT}:{ROOT / 'tests'}", "PATH": "/usr/bin:/bin"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
