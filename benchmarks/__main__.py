"""Run the benchmarks: ``python -m benchmarks [name ...] [--rounds N] [--json]``.

A name is a module (``telemetry`` for ``bench_telemetry.py``) or a part of a benchmark's name. The exit status is
1 if a benchmark crashed, else 0: a missed floor is marked, not an error, as the machine may be the reason.
"""

from __future__ import annotations

import argparse
import importlib
import json
import sys
import traceback
from collections.abc import Sequence
from pathlib import Path

from .harness import Benchmark, Result, judge, run_rounds, table, with_baselines

ROUNDS = 3


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description="Run the benchmarks.")
    parser.add_argument("names", nargs="*", metavar="name", help="a module, or a part of a benchmark's name")
    parser.add_argument("--rounds", type=int, default=ROUNDS, help="runs of each benchmark (default: %(default)s)")
    parser.add_argument("--json", action="store_true", help="print the results as JSON")
    options = parser.parse_args(arguments)
    if options.rounds < 1:
        parser.error(f"expected at least 1 round, got {options.rounds}")
    modules, broken = load_modules()
    everything = [one for benchmarks in modules.values() for one in benchmarks]
    chosen = choose(modules, options.names)
    for name in options.names:
        if not choose(modules, [name]) and name not in broken:
            known = ", ".join([*modules, *(repr(one.name) for one in everything)])
            parser.error(f"no module or benchmark is called {name!r}; there are: {known}")
    results = run_modules(modules, with_baselines(chosen, everything), options.rounds)
    if options.json:
        print(json.dumps([result.to_dict() for result in results], indent=2))
    else:
        print(table(results))
    crashed = any(result.verdict == "crashed" for result in results)
    return 1 if crashed or any(not options.names or name in options.names for name in broken) else 0


def load_modules() -> tuple[dict[str, tuple[Benchmark, ...]], list[str]]:
    """The benchmarks of each ``bench_*.py`` beside this file, and the modules that cannot be imported."""
    modules: dict[str, tuple[Benchmark, ...]] = {}
    broken: list[str] = []
    for path in sorted(Path(__file__).parent.glob("bench_*.py")):
        name = path.stem.removeprefix("bench_")
        try:
            modules[name] = importlib.import_module(f".{path.stem}", __package__).BENCHMARKS
        except Exception:  # fault boundary: a module that cannot be imported must not hide the others
            print(f"benchmarks/{path.name} cannot be imported:", file=sys.stderr)
            traceback.print_exc()
            broken.append(name)
    return modules, broken


def choose(modules: dict[str, tuple[Benchmark, ...]], names: Sequence[str]) -> list[Benchmark]:
    """The benchmarks that the names mean; all of them without a name."""
    return [
        one
        for module, benchmarks in modules.items()
        for one in benchmarks
        if not names or any(name == module or name.lower() in one.name.lower() for name in names)
    ]


def run_modules(modules: dict[str, tuple[Benchmark, ...]], chosen: Sequence[Benchmark], rounds: int) -> list[Result]:
    """Run the chosen benchmarks, module by module, and judge them all."""
    figures: dict[str, tuple[float, ...]] = {}
    for module, benchmarks in modules.items():
        selected = [one for one in benchmarks if one in chosen]
        if selected:
            print(f"{module}: {len(selected)} benchmarks, {rounds} rounds ...", file=sys.stderr)
            figures |= run_rounds(selected, rounds)
    return judge(chosen, figures)


if __name__ == "__main__":
    sys.exit(main())
