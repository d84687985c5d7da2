"""What a module says is public is what is there, and all of it can be imported."""

from __future__ import annotations

import ast
import importlib
import pkgutil
from pathlib import Path
from types import ModuleType
from typing import ParamSpec, TypeVar

import pytest

import dspex

MODULES = sorted(
    name
    for _, name, _ in pkgutil.walk_packages(dspex.__path__, "dspex.")
    if not any(part.startswith("_") for part in name.split(".")[1:])
)


def names_bound(source: str, *, package: bool) -> set[str]:
    """Public names that a source defines at its top level.

    In a package's ``__init__`` the names it takes from its own modules count too, also those
    that only a type checker sees (a lazy ``__init__`` has them under ``if TYPE_CHECKING``).
    """
    found: set[str] = set()
    pending: list[ast.stmt] = list(ast.parse(source).body)
    while pending:
        node = pending.pop()
        if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            found.add(node.name)
        elif isinstance(node, ast.Assign):
            found |= {name.id for target in node.targets for name in ast.walk(target) if isinstance(name, ast.Name)}
        elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            found.add(node.target.id)
        elif isinstance(node, ast.ImportFrom) and node.level and package:
            found |= {alias.asname or alias.name for alias in node.names}
        elif isinstance(node, ast.If | ast.Try):
            pending += [*node.body, *node.orelse]
    return {name for name in found if not name.startswith("_")}


def source_of(module: ModuleType) -> str:
    """The text of a module's file."""
    assert module.__file__ is not None
    return Path(module.__file__).read_text("utf-8")


def check(module: ModuleType, source: str) -> None:
    """Assert that ``__all__`` of a module is a tuple without doubles, complete, and importable."""
    public: object = module.__all__
    assert isinstance(public, tuple), f"{module.__name__}.__all__ must be a tuple"
    assert len(set(public)) == len(public), f"{module.__name__}.__all__ names something twice"
    missing = [name for name in public if not hasattr(module, name)]
    assert missing == [], f"{module.__name__}.__all__ names what is not there"
    bound = names_bound(source, package=hasattr(module, "__path__"))
    # A type variable is spelling, not something to import.
    unnamed = {name for name in bound - set(public) if not isinstance(getattr(module, name, None), TypeVar | ParamSpec)}
    assert unnamed == set(), f"{module.__name__} has public names that __all__ does not name"


@pytest.mark.parametrize("name", MODULES)
def test_all_is_what_is_there(name: str) -> None:
    """A module that declares `__all__` declares all of it, as a tuple, and nothing that is not there."""
    module = importlib.import_module(name)
    if hasattr(module, "__all__"):
        check(module, source_of(module))


def test_the_face_declares_what_it_offers() -> None:
    """`dspex.__all__` is complete, every name in it imports, and `dir(dspex)` shows them, lazy ones too."""
    assert hasattr(dspex, "__all__"), "dspex/__init__.py declares no __all__"
    check(dspex, source_of(dspex))
    assert set(dspex.__all__) <= set(dir(dspex))


def test_the_face_refuses_unknown_names() -> None:
    """A name that dspex does not offer is an AttributeError, also when names are loaded lazily."""
    name = "no_such_name"
    with pytest.raises(AttributeError, match=name):
        getattr(dspex, name)


def made(source: str, *, path: bool = False) -> ModuleType:
    """A module made of a source text."""
    module = ModuleType("made")
    if path:
        module.__path__ = []
    exec(source, module.__dict__)
    return module


@pytest.mark.parametrize(
    "source",
    [
        "__all__ = ['f']\ndef f(): ...",
        "__all__ = ('f', 'f')\ndef f(): ...",
        "__all__ = ('f', 'g')\ndef f(): ...",
        "__all__ = ('f',)\ndef f(): ...\ndef g(): ...",
        "__all__ = ('f',)\ndef f(): ...\nLIMIT: int = 3",
    ],
)
def test_a_wrong_all_is_found(source: str) -> None:
    """A list, a double, a missing name and an undeclared name are each found."""
    with pytest.raises(AssertionError):
        check(made(source), source)


def test_a_lazy_package_is_understood() -> None:
    """Names given by `__getattr__` count as there; those seen only by type checkers must be declared."""
    lazy = "if False:\n    from .x import {}\n__all__ = ('start',)\ndef __getattr__(name):\n    return 1"
    check(made(lazy.format("start"), path=True), lazy.format("start"))
    with pytest.raises(AssertionError):
        check(made(lazy.format("start, stop"), path=True), lazy.format("start, stop"))
