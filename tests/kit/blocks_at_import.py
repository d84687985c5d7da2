"""A program whose module cannot be imported in a child interpreter: there its import never ends."""

from __future__ import annotations

import sys
import threading

import dspex

if sys.argv[0].endswith("boot.py"):
    threading.Event().wait()


class Blocks(dspex.Module):
    """Never gets there."""

    ask = dspex.Predict("question -> answer")

    async def forward(self, question: str) -> dict[str, str]:
        return {"answer": question}
