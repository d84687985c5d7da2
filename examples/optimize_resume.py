"""Optimize a program, have the process killed in the middle, go on in another one: what was paid for is not lost.

python examples/optimize_resume.py

A simulated model stands behind it all: it knows more of the answers, the more worked examples it is shown.
"""

import hashlib
import json
import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from scripted_server import ScriptedServer

import dspex
from dspex.actors.examples import Example

EXAMPLES = [
    Example(question=f"Is {number} even?", answer="no" if number % 2 else "yes").with_inputs("question")
    for number in range(40)
]


def model(request: dict[str, Any]) -> str:
    """A simulation: by a hash of the request it is right or wrong, always the same way."""
    shown = sum(message["role"] == "assistant" for message in request["messages"])
    luck = hashlib.sha256(json.dumps(request["messages"]).encode()).digest()[0]
    number = int(request["messages"][-1]["content"].split("Is ")[1].split(" even")[0])
    right = luck < 70 + 20 * min(shown, 4)
    return f"[[ ## answer ## ]]\n{'yes' if (number % 2 == 0) == right else 'no'}\n\n[[ ## completed ## ]]"


def optimize(url: str, folder: str) -> None:
    """What each of the processes does: begin the run "parity", or go on with it, and wait for its end."""
    config = {"events": {"path": f"{folder}/app.db"}, "app": {"console": False}, "ai": {"caching": {"enabled": False}}}
    with dspex.start(config=config) as app:
        app.configure_provider("local", kind="openai", base_url=url, default_model="simulated")
        app.start_module("parity", "question -> answer", provider="local")
        run = app.optimize(
            "parity",
            EXAMPLES,
            metric="exact_match",
            method="random_search",
            options={"candidates": 6, "generation": 3},
            run_id="parity",
            budget={"calls": 500},
        )
        result = run.result()
        status, demos = result.status, result.state.predictors["predict"].demos
        print(f"  {result.outcome}: {result.base_score:.0%} -> {result.score:.0%} with {len(demos)} worked examples")
        print(f"  {status.paid.calls} calls paid in all, {status.recalled} examples found in the journal")


def main() -> None:
    kill_at = 60
    children: list[subprocess.Popen[bytes]] = []

    def answer(request: dict[str, Any]) -> str:
        if server.requests == kill_at:
            os.kill(children[0].pid, signal.SIGKILL)
        return model(request)

    with ScriptedServer(answer) as server, tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, str(Path(__file__).resolve()), server.url, folder]
        children.append(subprocess.Popen(command))  # noqa: S603 - this very file
        children[0].wait()
        print(f"killed -9 at call {kill_at}; the model was asked {server.requests} times")
        before = server.requests
        print("the same again, in a new process:")
        subprocess.run(command, check=True)  # noqa: S603 - likewise
        print(f"the model was asked {server.requests - before} times more")
        subprocess.run(command, check=True)  # noqa: S603 - likewise
        print(f"and a third time it costs nothing: {server.requests} calls in all")


if __name__ == "__main__":
    if len(sys.argv) == 3:
        optimize(*sys.argv[1:])
    else:
        main()
