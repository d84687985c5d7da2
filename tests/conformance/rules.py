"""The rules of OTP and Elixir that dspex keeps, by their ids; docstrings of code and tests refer to them.

``SUP`` static supervisors, ``SIM`` simple_one_for_one, ``DYN`` DynamicSupervisor, ``LOG`` reports, ``GS``
GenServer, ``LNK`` links and monitors, ``REG`` Registry, ``TSK`` Task and Task.Supervisor, ``PAR``
PartitionSupervisor, ``TEL`` telemetry; of GenStage ``STG`` stages and streams, ``DSP`` dispatchers, ``INV``
invariants, ``CSU`` ConsumerSupervisor.
"""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Final

TESTS: Final = Path(__file__).resolve().parents[1]
SCENARIOS: Final = TESTS / "conformance" / "data" / "named.jsonl"
SEMANTICS: Final = TESTS.parent / "runtime" / "SEMANTICS.md"
EXCUSES: Final = "## Rules that cannot hold here"

_NUMBERS: Final = {
    "SUP": (
        *range(1, 9),
        *range(10, 18),
        *range(20, 25),
        *range(30, 46),
        *range(50, 57),
        *range(60, 69),
        *range(70, 79),
    ),
    "SIM": range(1, 9),
    "DYN": range(1, 10),
    "LOG": range(1, 7),
    "GS": range(1, 13),
    "LNK": range(1, 7),
    "REG": range(1, 15),
    "TSK": range(1, 9),
    "PAR": (1,),
    "TEL": range(1, 6),
    "STG": (
        *range(1, 7),
        *range(10, 15),
        *range(20, 24),
        *range(30, 32),
        *range(40, 44),
        *range(50, 52),
        *range(60, 62),
        *range(70, 73),
    ),
    "DSP": (*range(1, 6), *range(10, 15), *range(20, 25)),
    "CSU": range(1, 6),
}
_INVARIANTS: Final = tuple(f"INV-{number}" for number in range(1, 7))
RULES: Final = (
    *(f"{kind}-{number:02}" for kind, numbers in _NUMBERS.items() for number in numbers),
    *_INVARIANTS,
)
RULE: Final = re.compile(rf"\b(?:(?:{'|'.join(_NUMBERS)})-\d\d|INV-\d)\b")


def named_by_tests(source: str) -> set[str]:
    """The rules that the tests of a source name in their docstrings."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name.startswith("test_"):
            found.update(RULE.findall(ast.get_docstring(node) or ""))
    return found


def named_by_all_tests() -> dict[str, set[str]]:
    """The rules that each test file names."""
    return {
        path.relative_to(TESTS).as_posix(): named_by_tests(path.read_text("utf-8"))
        for path in sorted(TESTS.rglob("test_*.py"))
    }


def named_by_scenarios() -> set[str]:
    """The rules that a recorded scenario shows."""
    lines = SCENARIOS.read_text("utf-8").splitlines()
    return {row for line in lines for row in json.loads(line)["rows"]}


def excused(text: str) -> Iterator[tuple[str, str]]:
    """The rules of the table in ``runtime/SEMANTICS.md`` that cannot hold, each with its reason."""
    _, _, rest = text.partition(f"\n{EXCUSES}\n")
    for line in rest.partition("\n## ")[0].splitlines():
        cells = [cell.strip() for cell in line.strip("|").split(" | ")]
        if line.startswith("| ") and RULE.fullmatch(cells[0]):
            yield cells[0], cells[1] if len(cells) > 1 else ""
