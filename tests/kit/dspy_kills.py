"""For tests that kill optimizers of DSPy's: a model whose answers hang on the request only, and a process to kill."""

from __future__ import annotations

import hashlib
import json
import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from dspex.actors.dspy.library import dspy
from dspex.actors.examples import Example
from kit.application import provider_of
from kit.http_server import Exchange, HttpServer, completion

ROOT = Path(__file__).resolve().parents[2]
THREADS = 2
"""Of each optimizer: so many calls may be in flight."""

SCRIPT = """
import json, sys
import dspex
from kit.dspy_kills import optimized
if __name__ == "__main__":
    plan = json.loads(sys.argv[1])
    with dspex.start(config=plan["config"]) as app:
        print(json.dumps(optimized(app, plan["optimizer"], plan["apart"])), file=sys.stderr, flush=True)
"""

EXAMPLES = tuple(
    Example(question=f"Is {number} even?", answer="no" if number % 2 else "yes").with_inputs("question")
    for number in range(12)
)
RANDOM_SEARCH = "BootstrapFewShotWithRandomSearch"
OPTIMIZERS: dict[str, dict[str, Any]] = {
    RANDOM_SEARCH: {
        "max_bootstrapped_demos": 2,
        "max_labeled_demos": 3,
        "num_candidate_programs": 3,
        "num_threads": THREADS,
    },
    "MIPROv2": {
        "auto": None,
        "num_candidates": 3,
        "num_trials": 5,
        "max_bootstrapped_demos": 2,
        "max_labeled_demos": 2,
        "minibatch": False,
        "num_threads": THREADS,
        "seed": 9,
    },
}


def optimized(app: Any, optimizer: str, apart: bool) -> dict[str, Any]:
    """The best program as DSPy would save it, made in this process by ``dspy_run``, or ``apart`` by a run's own."""
    from dspex.dspy import dspy_run, optimize_dspy

    options = OPTIMIZERS[optimizer]
    if apart:
        how: dict[str, Any] = {
            "metric": "kit.dspy_programs:right",
            "provider": "local",
            "run_id": "r",
            "options": options,
        }
        made = optimize_dspy(app, "kit.dspy_programs:build", EXAMPLES, optimizer=optimizer, **how).result(120)
        return dict(made.state.provenance["dspy"])
    from kit.dspy_programs import right  # needs DSPy

    library = dspy()
    trainset = [library.Example(**each.to_dict()).with_inputs("question") for each in EXAMPLES]
    arguments = dict(options)
    compiling = {name: arguments.pop(name) for name in ("num_trials", "minibatch") if name in arguments}
    with dspy_run(app, "r", provider="local") as lm, library.context(lm=lm):
        best = getattr(library, optimizer)(metric=right, **arguments).compile(
            library.Predict("question -> answer"), trainset=trainset, **compiling
        )
    best.set_lm(None)
    return json.loads(json.dumps(best.dump_state(), default=str))  # type: ignore[no-any-return]


def begun(app: Any, factory: str = "kit.dspy_programs:build", **how: Any) -> Any:
    """A run in a process of its own."""
    from dspex.dspy import optimize_dspy

    how = {"optimizer": RANDOM_SEARCH, "options": OPTIMIZERS[RANDOM_SEARCH], "seed": 1, "provider": "local", **how}
    return optimize_dspy(app, factory, EXAMPLES, **{"metric": "kit.dspy_programs:right", **how})


def answer_to(request: dict[str, Any]) -> str:
    """Right the more often the more examples it is shown, by a hash of all that it is told; other fields likewise."""
    texts = [str(message["content"]) for message in request["messages"]]
    luck = hashlib.sha256(json.dumps(texts).encode()).digest()[0]
    outputs = texts[0].partition("Your output fields are:")[2].partition("All interactions")[0]
    names = re.findall(r"^\d+\. `(\w+)`", outputs, re.MULTILINE)
    fields = dict.fromkeys(names, f"Look at the last digit, says rule {luck}.")
    asked = re.search(r"Is (\d+) even", texts[-1])
    if "answer" in fields and asked is not None:
        shown = min(sum(message["role"] == "assistant" for message in request["messages"]), 4)
        fields["answer"] = "yes" if (int(asked[1]) % 2 == 0) == (luck < 70 + 20 * shown) else "no"
    return "\n\n".join(f"[[ ## {name} ## ]]\n{value}" for name, value in {**fields, "completed": ""}.items())


@dataclass
class Model:
    """A provider whose answers depend on nothing but the request.

    Attributes:
        calls: how many requests came.
        models: which models were asked.
        on_call: told of each, with its number, before it is answered.
    """

    calls: int = 0
    models: set[str] = field(default_factory=set)
    on_call: Callable[[int], None] = lambda number: None
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def __call__(self, exchange: Exchange) -> None:
        """Answer a request."""
        with self._lock:
            self.calls += 1
            number = self.calls
        self.on_call(number)
        request = exchange.request.json()
        self.models.add(request["model"])
        exchange.reply(200, completion(answer_to(request)))


@contextmanager
def model() -> Iterator[tuple[Model, HttpServer]]:
    """A model and the server it answers at."""
    script = Model()
    with HttpServer(script) as server:
        yield script, server


def configuration(server: HttpServer, folder: Path) -> dict[str, Any]:
    """An application with the provider ``local``; its events and runs in this folder."""
    return {
        "events": {"path": str(folder / "app.db")},
        "app": {"console": False},
        "ai": {"providers": {"local": provider_of(server)}, "caching": {"enabled": False}},
    }


def optimizer_process(server: HttpServer, folder: Path, optimizer: str, *, apart: bool) -> subprocess.Popen[str]:
    """A process that begins the run ``r``, or goes on with it, and prints the best program."""
    folder.mkdir(exist_ok=True)
    plan = {"config": configuration(server, folder), "optimizer": optimizer, "apart": apart}
    script = folder / "optimize.py"  # a placed actor imports the main module of its parent
    script.write_text(SCRIPT)
    return subprocess.Popen(
        [sys.executable, str(script), json.dumps(plan)],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": f"{ROOT}:{ROOT / 'tests'}"},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )


def outcome_of(process: subprocess.Popen[str]) -> dict[str, Any]:
    """What such a process printed; it must have ended well."""
    try:
        _, said = process.communicate(timeout=120)
    finally:
        process.kill()
    assert process.returncode == 0, said
    found: dict[str, Any] = json.loads(said.strip().splitlines()[-1])
    return found


def killed_at(script: Model, server: HttpServer, folder: Path, optimizer: str, number: int, *, apart: bool) -> bool:
    """Begin the run or go on with it, and kill it at its model call of this number; whether it was still at work."""
    last, reached = script.calls + number, threading.Event()

    def watch(at: int) -> None:
        if at >= last:
            reached.set()

    script.on_call = watch
    process = optimizer_process(server, folder, optimizer, apart=apart)

    def wait() -> None:
        process.communicate()
        reached.set()

    ended = threading.Thread(target=wait)
    ended.start()
    try:
        assert reached.wait(120), "neither there nor over"
    finally:
        process.send_signal(signal.SIGKILL)
        ended.join()
    script.on_call = lambda at: None
    return process.returncode == -signal.SIGKILL
