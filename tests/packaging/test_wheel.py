"""The wheel, not the tree: what is in it, and that it works where no checkout is near (make wheel)."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import venv
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
FOLDERS = ("runtime", "actors", "supervisors")

pytestmark = [pytest.mark.wheel, pytest.mark.timeout(300)]


def run(*command: str | Path, where: Path, **environment: str) -> str:
    """Run a command and return its output; fail with that output if it does not end well."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    done = subprocess.run(
        [str(part) for part in command],
        cwd=where,
        env={**clean, **environment},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=240,
        check=False,
    )
    assert done.returncode == 0, f"{command}: exit code {done.returncode}\n{done.stdout}"
    return done.stdout


def build(source: Path, target: Path, kind: str) -> Path:
    """Build a wheel or an sdist with the backend of this environment and return the file."""
    run(sys.executable, "-m", "build", "--no-isolation", f"--{kind}", "--outdir", target, source, where=target)
    (made,) = target.glob("*.whl" if kind == "wheel" else "*.tar.gz")
    return made


def package_files() -> set[str]:
    """Where each tracked file of the package belongs in the wheel (every file, where git tracks none)."""
    tracked = run("git", "ls-files", "dspex", *FOLDERS, where=ROOT).splitlines() if (ROOT / ".git").exists() else []
    if not any(path.startswith(FOLDERS) for path in tracked):
        found = [path for folder in ("dspex", *FOLDERS) for path in (ROOT / folder).rglob("*") if path.is_file()]
        tracked = [path.relative_to(ROOT).as_posix() for path in found if "__pycache__" not in path.parts]
    links = tuple(f"dspex/{folder}" for folder in FOLDERS)
    return {path if path.startswith("dspex/") else f"dspex/{path}" for path in tracked if not path.startswith(links)}


def installed_files(wheel: Path) -> set[str]:
    """The files of a wheel, without its own metadata."""
    with zipfile.ZipFile(wheel) as archive:
        return {name for name in archive.namelist() if ".dist-info/" not in name}


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, built from the tree."""
    return build(ROOT, tmp_path_factory.mktemp("wheel"), "wheel")


def test_the_wheel_holds_the_package_and_nothing_else(wheel: Path) -> None:
    """Every tracked file of the package is in the wheel, below dspex, and no other file is."""
    assert installed_files(wheel) == package_files()


def test_the_wheel_has_one_top_level_name(wheel: Path) -> None:
    """No top-level runtime, actors or supervisors reaches anybody's site-packages."""
    assert {name.split("/")[0] for name in installed_files(wheel)} == {"dspex"}


def test_the_wheel_carries_licence_and_types(wheel: Path) -> None:
    """The licence, the type marker and the command are in the wheel."""
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
        (entry_points,) = [name for name in names if name.endswith("entry_points.txt")]
        assert "dspex = dspex.__main__:main" in archive.read(entry_points).decode()
    assert "dspex/py.typed" in names
    assert any(name.endswith("licenses/LICENSE") for name in names)


def test_the_sdist_builds_the_same_wheel(wheel: Path, tmp_path: Path) -> None:
    """A wheel built from the source distribution, where the links are not, holds the same files."""
    sdist = build(ROOT, tmp_path, "sdist")
    shutil.unpack_archive(sdist, tmp_path / "unpacked", filter="data")
    (source,) = (tmp_path / "unpacked").iterdir()
    (tmp_path / "again").mkdir()
    assert installed_files(build(source, tmp_path / "again", "wheel")) == installed_files(wheel)


@pytest.fixture(scope="module")
def clean_python(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The python of a new environment with nothing but the wheel and what it depends on."""
    home = tmp_path_factory.mktemp("clean") / "venv"
    venv.create(home, with_pip=True)
    python = home / "bin" / "python"
    run(python, "-m", "pip", "install", "-q", "-c", ROOT / "constraints.txt", wheel, where=home)
    return python


IMPORT_ALL = """
import importlib, importlib.metadata, importlib.util, pkgutil, sys
import dspex
assert "site-packages" in dspex.__file__, dspex.__file__
# A plugin of pytest is imported by pytest, which is no dependency of ours.
plugins = [each.module for each in importlib.metadata.entry_points(group="pytest11")]
for module in pkgutil.walk_packages(dspex.__path__, "dspex."):
    # The gateway's own modules are loaded when it is started, and need its extra.
    extra = module.name.startswith("dspex.supervisors.gateway.")
    if module.name not in plugins and (not extra or importlib.util.find_spec("starlette")):
        importlib.import_module(module.name)
for module in ("actor", "exposure", "messages"):
    importlib.import_module(f"dspex.supervisors.gateway.{module}")
assert not {"runtime", "actors", "supervisors"} & {name.split(".")[0] for name in sys.modules}
"""


def test_the_installed_package_imports_without_extras(clean_python: Path, tmp_path: Path) -> None:
    """Each module imports with the declared dependencies alone, from site-packages."""
    run(clean_python, "-c", IMPORT_ALL, where=tmp_path)


def test_the_installed_command_answers(clean_python: Path, tmp_path: Path) -> None:
    """The command `dspex` is installed and knows its help."""
    assert "Usage" in run(clean_python.parent / "dspex", "--help", where=tmp_path, NO_COLOR="1")


def test_the_installed_package_runs_an_example(clean_python: Path, tmp_path: Path) -> None:
    """An example, copied away from the checkout, runs on the installed wheel."""
    examples = sorted((ROOT / "examples").glob("[!_]*.py"), key=lambda path: (path.name != "supervisor.py", path.name))
    if not examples:
        pytest.skip("examples/ holds no example yet")
    script = shutil.copy(examples[0], tmp_path)
    run(clean_python, script, where=tmp_path, XDG_STATE_HOME=str(tmp_path))
