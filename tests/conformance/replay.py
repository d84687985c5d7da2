"""Replay recorded scenarios of a real OTP against our supervisors, and vectors of a real GenStage against our stages.

Usage::

    python -m tests.conformance.replay FILE.jsonl [FILE.jsonl ...] [--trace]

What a line holds decides which. Prints a line for each scenario that differs (name, step, expected, got) and
at last ``N equal, M differ``; the exit status is 1 if any differs. With ``--trace`` it prints the produced
traces as JSON lines instead, and needs no expected ones.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from .runner import run_scenario
from .stage_replay import KINDS, run_vector, vector_difference

DATA = Path(__file__).parent / "data"


def scenarios(path: Path) -> Iterator[dict[str, Any]]:
    """The lines of a file: each a scenario, with its trace if that is known, or a vector of stages."""
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
        if line.strip():
            given = json.loads(line)
            if given.get("kind") in KINDS:
                yield {"vector": given, "name": f"{path.stem}-{number}"}
            else:
                yield given if "scenario" in given else {"scenario": given}


def replay(line: Mapping[str, Any]) -> tuple[dict[str, Any], str, str | None]:
    """Run one line: what came, its name, and where that differs from what was recorded."""
    if "vector" in line:
        vector = run_vector(line["vector"])
        return vector, line["name"], vector_difference(line["vector"], vector)
    got = run_scenario(line["scenario"])
    return got, got["name"], difference(line["trace"], got) if "trace" in line else None


def difference(expected: Mapping[str, Any], got: Mapping[str, Any]) -> str | None:
    """Where two traces differ first, as text; None if they are equal."""
    for number in range(max(len(expected["trace"]), len(got["trace"]))):
        want = expected["trace"][number] if number < len(expected["trace"]) else None
        have = got["trace"][number] if number < len(got["trace"]) else None
        if want is None or have is None:
            return f"step {number}: expected {json.dumps(want)}, got {json.dumps(have)}"
        for key in sorted({*want, *have}):
            if want.get(key) != have.get(key):
                where = f"step {number} ({want.get('op')}), {key}"
                return f"{where}: expected {json.dumps(want.get(key))}, got {json.dumps(have.get(key))}"
    return None


def main(arguments: list[str]) -> int:
    """Run from the command line."""
    parser = argparse.ArgumentParser(prog="python -m tests.conformance.replay", description=__doc__)
    parser.add_argument("files", nargs="+", type=Path, metavar="FILE.jsonl")
    parser.add_argument("--trace", action="store_true", help="print the produced traces, compare nothing")
    options = parser.parse_args(arguments)
    equal = different = 0
    for path in options.files:
        for line in scenarios(path):
            got, name, found = replay(line)
            if options.trace:
                print(json.dumps(got, sort_keys=True))
            elif found is None:
                equal += 1
            else:
                different += 1
                print(f"{name}: {found}")
    if not options.trace:
        print(f"{equal} equal, {different} differ")
    return 1 if different else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
