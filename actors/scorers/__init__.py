"""Metrics that come with dspex; see :mod:`~dspex.actors.scoring` for what a metric is."""

from __future__ import annotations
