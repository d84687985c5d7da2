"""The seed search: a test under many seeds, 200 unless ``SEEDS`` says otherwise (``SEEDS=1000 make seeds``)."""

from __future__ import annotations

import os

import pytest

SEEDS = int(os.environ.get("SEEDS", "200"))

under_many_seeds = pytest.mark.parametrize("seed", range(SEEDS), ids="seed-{}".format)
"""For a test with an argument ``seed``; a failing one is named after it, and run again by that name."""
