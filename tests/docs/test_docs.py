"""Documentation that runs: every ```python block of the pages below, each in a process of its own.

A block that cannot run says why on the line above it::

    <!-- not run: needs a real provider -->

Blocks run in an empty directory, without input, and must end by themselves with exit code 0.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PATTERNS = (
    "README.md",
    "*/README.md",
    "runtime/*/README.md",
    "actors/*/README.md",
    "supervisors/*/README.md",
    "docs/**/*.md",
)
LIMIT = 60.0  # seconds for one block or example

FENCE = re.compile(r"^(?P<indent> *)(?P<fence>`{3,}|~{3,})(?P<language>[\w+-]*)[^`]*$")
NOT_RUN = re.compile(r"<!--\s*not run:\s*(?P<reason>\S.*?)\s*-->")


@dataclass(frozen=True, slots=True)
class Block:
    """A fenced python block: where its first line stands, its text, and why it is not run, or None."""

    line: int
    source: str
    reason: str | None


def blocks_of(text: str) -> list[Block]:
    """The python blocks of a Markdown text."""
    found: list[Block] = []
    lines = text.splitlines()
    at, before = 0, ""
    while at < len(lines):
        opening = FENCE.match(lines[at])
        if opening is None:
            before = lines[at] if lines[at].strip() else before
            at += 1
            continue
        indent, closing = len(opening["indent"]), re.compile(rf"^ *{re.escape(opening['fence'])}[`~]* *$")
        end = next((i for i in range(at + 1, len(lines)) if closing.match(lines[i])), len(lines))
        if opening["language"] in {"python", "py", "python3"}:
            skipped = NOT_RUN.search(before)
            source = "\n".join(line[indent:] for line in lines[at + 1 : end]) + "\n"
            found.append(Block(at + 2, source, skipped["reason"] if skipped else None))
        at, before = end + 1, ""
    return found


def pages() -> list[Path]:
    """The pages whose blocks run; links are not followed twice."""
    found = {path.resolve() for pattern in PATTERNS for path in ROOT.glob(pattern)}
    return sorted(path for path in found if ".venv" not in path.parts)


CASES = [
    pytest.param(
        page,
        block,
        id=f"{page.relative_to(ROOT).as_posix()}:{block.line}",
        marks=[pytest.mark.skip(reason=f"not run: {block.reason}")] if block.reason else [],
    )
    for page in pages()
    for block in blocks_of(page.read_text("utf-8"))
]


def run_python(arguments: list[str], where: Path) -> None:
    """Run python in a directory of its own; fail with all it printed if it does not end well."""
    # State goes below the directory too, so that nothing is left in the user's home.
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "XDG_STATE_HOME": str(where), "NO_COLOR": "1"}
    done = subprocess.run(
        [sys.executable, *arguments],
        cwd=where,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=LIMIT,
        check=False,
    )
    assert done.returncode == 0, f"exit code {done.returncode}:\n{done.stdout}"


@pytest.mark.timeout(LIMIT + 10)
@pytest.mark.parametrize(("page", "block"), CASES)
def test_a_block_runs(page: Path, block: Block, tmp_path: Path) -> None:
    """A python block of a page runs as it stands and ends with exit code 0."""
    script = tmp_path / "block.py"
    # Blank lines above keep the line numbers of the page in tracebacks.
    script.write_text("\n" * (block.line - 1) + block.source, "utf-8")
    run_python([str(script)], tmp_path)


@pytest.mark.timeout(LIMIT + 10)
@pytest.mark.parametrize("example", [p.name for p in sorted((ROOT / "examples").glob("[!_]*.py"))])
def test_an_example_runs(example: str, tmp_path: Path) -> None:
    """Each example runs as it stands, without arguments or input, and ends with exit code 0."""
    run_python([str(ROOT / "examples" / example)], tmp_path)


def test_blocks_are_found() -> None:
    """Python blocks are found with their line and text; other languages are not."""
    text = "# T\n\n```python\na\n\nb\n```\n\n```toml\na = 1\n```\n\n1. x\n\n   ```py\n   if a:\n       b\n   ```\n"
    assert blocks_of(text) == [Block(4, "a\n\nb\n", None), Block(16, "if a:\n    b\n", None)]


def test_a_block_inside_another_is_text() -> None:
    """A longer fence holds a shorter one as text."""
    assert blocks_of("````markdown\n```python\nx\n```\n````\n") == []


@pytest.mark.parametrize("gap", ["", "\n"])
def test_a_reason_stands_above_its_block_only(gap: str) -> None:
    """`not run` with a reason skips the next block, not the one after; without a reason it skips nothing."""
    text = f"<!-- not run: costs money -->\n{gap}```python\na\n```\n```python\nb\n```\n"
    assert [block.reason for block in blocks_of(text)] == ["costs money", None]
    assert [block.reason for block in blocks_of("<!-- not run: -->\n```python\na\n```\n")] == [None]


def test_a_failing_block_fails_its_test(tmp_path: Path) -> None:
    """A block that raises is a failure that shows what it printed."""
    with pytest.raises(AssertionError, match="ZeroDivisionError"):
        test_a_block_runs(ROOT / "README.md", Block(3, "1 / 0\n", None), tmp_path)
