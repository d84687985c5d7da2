"""Run Thespian's own suite against our system base: ``python -m tests.thespian_suite [pytest arguments]``.

It takes some minutes of real waiting: the suite sleeps.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


def main(arguments: list[str]) -> int:
    """Collect ``thespian.test`` with our plugin; pytest's exit code."""
    for folder in (ROOT, ROOT / "tests"):
        sys.path.insert(0, str(folder))
    # A command of the suite is expected to lose what it printed when it is ended.
    os.environ.pop("PYTHONUNBUFFERED", None)
    import thespian.test

    suite = Path(thespian.test.__file__).parent
    chosen = [str(suite / each) if each.startswith("test_") else each for each in arguments]
    paths = [] if any(each.startswith(str(suite)) for each in chosen) else [str(suite)]
    options = ["-q", "-rs", "-p", "thespian_suite.plugin", "-p", "no:cacheprovider", "-p", "no:asyncio"]
    # Not our own pytest settings: they hold for our tests.
    return pytest.main([*options, "-c", "/dev/null", f"--rootdir={suite}", "--timeout=120", *paths, *chosen])


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
