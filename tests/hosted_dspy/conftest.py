"""These tests need DSPy; where it is not installed they are left out (``make dspy`` has it)."""

from __future__ import annotations

from importlib.util import find_spec

collect_ignore_glob = [] if find_spec("dspy") is not None else ["test_*.py"]
