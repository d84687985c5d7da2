"""Optimizers: what searches for a better state of a program. Pure of actors: each works on a :class:`~.bench.Bench`."""

from __future__ import annotations
