"""The loop in virtual time is part of the test kit that dspex ships; tests here take it from this place."""

from __future__ import annotations

from dspex.runtime.testing.virtual_loop import Deadlock, LoopClock, VirtualLoop

__all__ = ("Deadlock", "LoopClock", "VirtualLoop")
