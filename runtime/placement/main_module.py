"""The parent's ``__main__`` in a child: run, under another name, only if a class of it arrives."""

from __future__ import annotations

import runpy
import sys
from collections.abc import Mapping
from types import ModuleType
from typing import Any, Final

ALIAS: Final = "__mp_main__"
"""The name that ``multiprocessing`` uses for the same; the parent knows its main module by it too."""


class MainModule(ModuleType):
    """Stands in for ``__main__`` until something of it is wanted.

    The program's own start belongs below ``if __name__ == "__main__":``, as for ``multiprocessing``.
    """

    def __init__(self, where: Mapping[str, str]) -> None:
        super().__init__("__main__")
        self.__dict__["_where"] = dict(where)

    def __getattr__(self, name: str) -> Any:
        where: dict[str, str] = self.__dict__["_where"]
        if name.startswith("__") or not where:
            raise AttributeError(f"the program's main module cannot be loaded here; {name!r} is not known")
        self.__dict__["_where"] = {}
        found = _run(where)
        self.__dict__.update(found)
        module = ModuleType(ALIAS)
        module.__dict__.update(found)
        sys.modules[ALIAS] = module
        if name not in found:
            raise AttributeError(f"the program's main module has no {name!r}")
        return found[name]


def _run(where: Mapping[str, str]) -> dict[str, Any]:
    if "name" in where:
        return runpy.run_module(where["name"], run_name=ALIAS, alter_sys=True)
    return runpy.run_path(where["path"], run_name=ALIAS)
