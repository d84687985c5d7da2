"""House rules that no linter knows: sizes, names, fault boundaries, and that checkers see the whole package."""

from __future__ import annotations

import ast
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
FOLDERS = ("runtime", "actors", "supervisors")
PACKAGE = sorted(
    path.relative_to(ROOT).as_posix()
    for path in [*(ROOT / "dspex").glob("*.py"), *(p for folder in FOLDERS for p in (ROOT / folder).rglob("*.py"))]
)
BROAD = {"Exception", "BaseException"}


@pytest.mark.parametrize("path", PACKAGE)
def test_no_file_is_over_500_lines(path: str) -> None:
    """A file has one job; over 500 lines it has several."""
    assert len((ROOT / path).read_text("utf-8").splitlines()) <= 500


@pytest.mark.parametrize("path", PACKAGE)
def test_no_module_is_called_utils(path: str) -> None:
    """No drawer instead of a name: no utils, helpers, common or misc."""
    words = {word for part in Path(path).with_suffix("").parts for word in part.strip("_").split("_")}
    assert words.isdisjoint({"util", "utils", "helpers", "common", "misc"})


def unnamed_boundaries(source: str) -> list[int]:
    """Lines of handlers that catch everything without saying ``# fault boundary: ...`` there or just below."""
    lines = source.splitlines()
    found: list[int] = []
    for node in ast.walk(ast.parse(source)):
        if not isinstance(node, ast.ExceptHandler):
            continue
        caught = {name.id for name in ast.walk(node.type) if isinstance(name, ast.Name)} if node.type else BROAD
        # From the `except` line to its first statement: the comment may stand on a line of its own.
        text = "\n".join(lines[node.lineno - 1 : node.body[0].lineno])
        if caught & BROAD and "# fault boundary:" not in text:
            found.append(node.lineno)
    return found


@pytest.mark.parametrize("path", PACKAGE)
def test_catching_everything_is_a_named_fault_boundary(path: str) -> None:
    """`except Exception` stands only where a comment names the fault boundary it is."""
    assert unnamed_boundaries((ROOT / path).read_text("utf-8")) == []


@pytest.mark.parametrize("caught", ["", " Exception", " BaseException as error", " (ValueError, Exception)"])
def test_an_unnamed_boundary_is_found(caught: str) -> None:
    """Each way to catch everything is found, and accepted with its comment."""
    assert unnamed_boundaries(f"try:\n    f()\nexcept{caught}:\n    pass\n") == [3]
    assert unnamed_boundaries(f"try:\n    f()\nexcept{caught}:  # fault boundary: a callback\n    pass\n") == []
    assert unnamed_boundaries(f"try:\n    f()\nexcept{caught}:\n    # fault boundary: a callback\n    pass\n") == []


def test_narrow_handlers_need_no_comment() -> None:
    """Catching what is expected is no boundary."""
    assert unnamed_boundaries("try:\n    f()\nexcept (OSError, ValueError):\n    pass\n") == []


def test_the_links_lead_to_the_folders() -> None:
    """dspex/runtime and the other two are relative links, so that a clone anywhere works."""
    assert {name: (ROOT / "dspex" / name).readlink().as_posix() for name in FOLDERS} == {
        name: f"../{name}" for name in FOLDERS
    }


def test_pyright_is_told_of_every_linked_folder() -> None:
    """Pyright does not enter a linked folder and reports nothing: each must be named, and checked strictly."""
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["tool"]["pyright"]
    linked = {f"dspex/{entry.name}" for entry in (ROOT / "dspex").iterdir() if entry.is_symlink()}
    assert linked == {f"dspex/{name}" for name in FOLDERS}
    assert linked <= set(settings["include"])
    assert linked <= set(settings["strict"])
