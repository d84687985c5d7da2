"""The arrows between the folders point one way; a test reads every import and fails on one that runs back.

Layers, each of which may import itself and what stands below it::

    face          dspex/                                   the public face, the command line
    application   supervisors/app/, supervisors/gateway/, supervisors/application*.py   the composition root
    actors        actors/            supervisors   supervisors/   (neither knows the other)
    runtime       runtime/
"""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from pathlib import Path, PurePosixPath

import pytest

ROOT = Path(__file__).resolve().parents[2]
FOLDERS = ("runtime", "actors", "supervisors")
MAY_IMPORT = {
    "runtime": {"runtime"},
    "actors": {"actors", "runtime"},
    "supervisors": {"supervisors", "runtime"},
    "application": {"application", "supervisors", "actors", "runtime"},
    "face": {"face", "application", "supervisors", "actors", "runtime"},
}


def layer_of(module: str) -> str:
    """The layer of a dotted module below dspex; anything that is not in a folder is the face."""
    parts = module.split(".")
    if len(parts) < 2 or parts[1] not in FOLDERS:
        return "face"
    part = parts[2] if parts[1] == "supervisors" and len(parts) > 2 else ""
    if part in {"app", "gateway"} or part.startswith("application"):
        return "application"
    return parts[1]


def module_of(path: str) -> str:
    """The dotted name below dspex of a file, e.g. ``actors/lm/values.py`` -> ``dspex.actors.lm.values``."""
    parts = list(PurePosixPath(path).with_suffix("").parts)
    if parts[0] in FOLDERS:
        parts.insert(0, "dspex")
    return ".".join(parts)


def imports_of(source: str, package: str) -> list[tuple[int, str, bool]]:
    """Every import in a source, wherever it stands: line, absolute dotted name, whether it was relative."""
    found: list[tuple[int, str, bool]] = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found += [(node.lineno, alias.name, False) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                ancestors = package.split(".")[: len(package.split(".")) - node.level + 1]
                base = ".".join([*ancestors, base] if base else ancestors)
            # `from . import x` and `from ..actors import lm` may name modules: keep the longer name too.
            found += [(node.lineno, f"{base}.{alias.name}", node.level > 0) for alias in node.names]
    return found


def violations(path: str, source: str) -> list[str]:
    """What is wrong with the imports of one file, a line for each."""
    top = PurePosixPath(path).parts[0]
    module = module_of(path)
    package = module.removesuffix(".__init__") if path.endswith("__init__.py") else module.rpartition(".")[0]
    wrong: list[str] = []
    for line, target, relative in imports_of(source, package):
        where = f"{path}:{line} imports {target}"
        root = target.split(".")[0]
        if root in FOLDERS:
            wrong.append(f"{where}: the bare name makes a second copy of every class; import dspex.{root}")
        elif root in {"tests", "kit"} or (root in {"examples", "benchmarks"} and root != top):
            wrong.append(f"{where}: nothing but tests knows them")
        elif root == "dspex" and top in {*FOLDERS, "dspex"}:
            here, there = layer_of(module), layer_of(target)
            if there not in MAY_IMPORT[here]:
                wrong.append(f"{where}: {here} may import only {', '.join(sorted(MAY_IMPORT[here]))}")
            elif top in FOLDERS and not relative:
                wrong.append(f"{where}: inside the folders imports are relative")
    return wrong


def python_files(*folders: str) -> list[str]:
    """Python files below the folders, as paths from the root; the links in dspex/ are not entered."""
    found = [
        path.relative_to(ROOT).as_posix()
        for folder in folders
        for path in (ROOT / folder).rglob("*.py")
        if not any((ROOT / folder / name).is_symlink() for name in path.relative_to(ROOT / folder).parts[:1])
    ]
    return sorted(found)


@pytest.mark.parametrize("path", python_files(*FOLDERS, "dspex", "examples", "benchmarks"))
def test_imports_point_one_way(path: str) -> None:
    """No file of the package, the examples or the benchmarks imports against the arrows."""
    assert violations(path, (ROOT / path).read_text("utf-8")) == []


@pytest.mark.parametrize(
    ("path", "source"),
    [
        ("runtime/engine.py", "from ..actors.lm import LMRequest"),
        ("runtime/engine.py", "from ..actors import lm"),
        ("runtime/engine.py", "from .. import supervisors"),
        ("runtime/a/b.py", "from ...supervisors.flags import Flags"),
        ("runtime/engine.py", "def later():\n    from ..supervisors import flags"),
        ("runtime/engine.py", "from .. import start"),
        ("actors/examples.py", "from ..supervisors.supervisor import Supervisor"),
        ("actors/lm/values.py", "from ...supervisors.supervisor import Supervisor"),
        ("actors/lm/values.py", "import dspex.supervisors"),
        ("actors/lm/values.py", "from dspex.runtime.errors import Error"),
        ("actors/lm/values.py", "from runtime.errors import Error"),
        ("actors/lm/values.py", "import kit.http_server"),
        ("supervisors/keeper.py", "from ..actors.lm import LMRequest"),
        ("supervisors/keeper.py", "from .application import Application"),
        ("supervisors/keeper.py", "from .app.tree import tree"),
        ("supervisors/application.py", "from .. import start"),
        ("dspex/__init__.py", "import supervisors.application"),
        ("dspex/__init__.py", "from tests.kit import server"),
        ("examples/demo.py", "import actors"),
        ("examples/demo.py", "from benchmarks import harness"),
        ("benchmarks/bench_x.py", "from runtime.clock import Clock"),
    ],
)
def test_a_backward_import_is_found(path: str, source: str) -> None:
    """Each kind of import that runs back, or has the wrong form, is one violation."""
    assert len(violations(path, source)) == 1


@pytest.mark.parametrize(
    ("path", "source"),
    [
        ("runtime/engine.py", "from .clock import Clock\nfrom . import reasons\nimport asyncio"),
        ("actors/journals/sqlite.py", "from ...runtime.errors import Error\nfrom ..events import Event"),
        ("actors/__init__.py", "from .lm import LMRequest"),
        ("supervisors/keeper.py", "from ..runtime.gen_server import GenServer\nfrom .flags import Flags"),
        ("supervisors/application_tree.py", "from ..actors.lm import X\nfrom .keeper import Keeper"),
        (
            "supervisors/app/tree/standard.py",
            "from ...actors.lm import X\nfrom ..application import A",
        ),
        ("dspex/__main__.py", "from dspex.supervisors.application import Application\nfrom . import start"),
        ("examples/demo.py", "import dspex\nfrom dspex import Supervisor"),
        ("benchmarks/bench_x.py", "from benchmarks.harness import Benchmark\nfrom dspex.runtime.clock import Clock"),
    ],
)
def test_a_forward_import_is_allowed(path: str, source: str) -> None:
    """Imports along the arrows are no violation."""
    assert violations(path, source) == []


IMPORT_ALL = """
import importlib, json, pkgutil, sys
import dspex
for module in pkgutil.walk_packages(dspex.__path__, "dspex."):
    if not module.name.endswith("__main__"):
        importlib.import_module(module.name)
print(json.dumps(sorted(sys.modules)))
"""


def test_no_bare_folder_name_is_ever_imported() -> None:
    """After importing dspex and all that is in it, no bare runtime, actors or supervisors is in sys.modules."""
    # ROOT on the path is the worst case: there the bare names could be found.
    run = subprocess.run(
        [sys.executable, "-c", f"import sys; sys.path.insert(0, {str(ROOT)!r}){IMPORT_ALL}"],
        capture_output=True,
        text=True,
        timeout=50,
        check=False,
        cwd="/",
    )
    assert run.returncode == 0, run.stderr
    modules: list[str] = json.loads(run.stdout.splitlines()[-1])
    assert "dspex.runtime.errors" in modules
    assert [name for name in modules if name.split(".")[0] in FOLDERS] == []
