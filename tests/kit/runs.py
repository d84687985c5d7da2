"""For tests of optimization runs: a model whose answers hang on the request only, and a process that optimizes."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import dspex
from dspex.actors.examples import Example
from kit.application import provider_of
from kit.http_server import Exchange, HttpServer, completion

ROOT = Path(__file__).resolve().parents[2]

SCRIPT = """
import json, sys
from kit.runs import optimized
print(json.dumps(optimized(**json.loads(sys.argv[1]))), flush=True)
"""

EXAMPLES = tuple(
    Example(question=f"Is {number} even?", answer="no" if number % 2 else "yes").with_inputs("question")
    for number in range(24)
)


def answer_to(request: dict[str, Any]) -> str:
    """What the model says: right the more often the more examples it is shown, by a hash of all that it is told.

    Asked for instructions it writes some, by the same hash.
    """
    texts = [str(message["content"]) for message in request["messages"]]
    question = texts[-1]
    luck = hashlib.sha256(json.dumps(texts).encode()).digest()[0]
    if "instructions for a language model" in question:
        return f"```\nDivide by two. What is left decides, says rule {luck}.\n```"
    shown = min(sum(message["role"] == "assistant" for message in request["messages"]), 4)
    number = int(question.split("Is ")[-1].split(" even")[0])
    right = luck < 70 + 20 * shown
    return f"[[ ## answer ## ]]\n{'yes' if (number % 2 == 0) == right else 'no'}\n\n[[ ## completed ## ]]"


@dataclass
class Model:
    """A provider whose answers depend on nothing but the request.

    Attributes:
        calls: how many requests came.
        on_call: told of each, with its number, before it is answered.
        on_answer: told of each, with its number, once its answer is sent.
    """

    calls: int = 0
    on_call: Callable[[int], None] = lambda number: None
    on_answer: Callable[[int], None] = lambda number: None
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def __call__(self, exchange: Exchange) -> None:
        """Answer a request."""
        with self._lock:
            self.calls += 1
            number = self.calls
        self.on_call(number)
        exchange.reply(200, completion(answer_to(exchange.request.json())))
        self.on_answer(number)


class Held:
    """Holds one call to the model until it is let go: the run is not over before that. To be a model's ``on_call``.

    Args:
        number: of the call.

    Attributes:
        reached: set when it came.
        go: lets it go.
    """

    def __init__(self, number: int = 30) -> None:
        self._number = number
        self.reached, self.go = threading.Event(), threading.Event()

    def __call__(self, number: int) -> None:
        """Hold it, if it is the one."""
        if number == self._number:
            self.reached.set()
            self.go.wait(10)


@contextmanager
def model() -> Iterator[tuple[Model, HttpServer]]:
    """A model and the server it answers at."""
    script = Model()
    with HttpServer(script) as server:
        yield script, server


def configuration(server: HttpServer, folder: Path | None, **module: Any) -> dict[str, Any]:
    """An application with the module ``qa``; its events and runs in this folder, or in memory."""
    events = {"in_memory": True} if folder is None else {"path": str(folder / "app.db")}
    return {
        "events": events,
        "app": {"console": False},
        "ai": {"providers": {"local": provider_of(server)}, "caching": {"enabled": False}},
        "modules": {"qa": {"signature": "question -> answer", "provider": "local", **module}},
    }


def optimized(config: dict[str, Any], how: dict[str, Any]) -> dict[str, Any]:
    """Begin a run, or go on with it, and wait for its end: what came of it."""
    with dspex.start(config=config) as app:
        plan: dict[str, Any] = {"metric": "exact_match", **how}
        result = app.optimize("qa", EXAMPLES, **plan).result(60)
    told = {"key": result.state.key, "score": result.score, "outcome": result.outcome, "base": result.base_score}
    status = result.status
    return told | {
        "calls": status.paid.calls,
        "recalled": status.recalled,
        "steps": status.step,
        "trials": status.trials,
        "errors": status.errors,
    }


def optimizer_process(server: HttpServer, folder: Path, **how: Any) -> subprocess.Popen[str]:
    """A process that begins a run, or goes on with it, waits for its end and prints what came of it."""
    plan = json.dumps({"config": configuration(server, folder), "how": how})
    return subprocess.Popen(
        [sys.executable, "-c", SCRIPT, plan],
        cwd=ROOT,
        env={"PYTHONPATH": f"{ROOT}:{ROOT / 'tests'}", "PATH": "/usr/bin:/bin"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def outcome_of(process: subprocess.Popen[str]) -> dict[str, Any]:
    """What such a process printed; it must have ended well."""
    try:
        out, err = process.communicate(timeout=60)
    finally:
        process.kill()
    assert process.returncode == 0, err
    found: dict[str, Any] = json.loads(out)
    return found
