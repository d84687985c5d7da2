"""Metrics that come with dspex; see :mod:`~dspex.actors.evaluation.scoring` for what a metric is."""

from __future__ import annotations
