"""The parent's ``__main__`` in a child: run, under another name, only if a class of it arrives."""

from __future__ import annotations

import runpy
import sys
from collections.abc import Mapping
from contextvars import ContextVar
from types import ModuleType
from typing import Any, Final

from ..errors import UsageError

ALIAS: Final = "__mp_main__"
"""The name that ``multiprocessing`` uses for the same; the parent knows its main module by it too."""


_LOOKED_FOR: Final[ContextVar[str | None]] = ContextVar("looked_for", default=None)
"""What the program's main module is being run for, in this process; None if it is not."""


def refuse_to_start_again() -> None:
    """Refuse what a program does at its start while it runs for its classes only: it would be done twice, and paid.

    Raises:
        UsageError: a child interpreter runs the program's main module.
    """
    name = _LOOKED_FOR.get()
    if name is not None:
        raise UsageError(
            "expected the start of the program below `if __name__ == '__main__':`, got one that is run again in the "
            f"process of a placed actor, which looks for {name!r} in the program's main module"
        )


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
        token = _LOOKED_FOR.set(name)
        try:
            found = _run(where)
        finally:
            _LOOKED_FOR.reset(token)
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
