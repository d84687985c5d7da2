"""DSPy's ``Predict.acall`` against a server: ``python dspy_calls.py URL CONCURRENCY CALLS`` prints calls a second.

A script that imports nothing of dspex, so that another interpreter, with DSPy installed, can run it.
"""

from __future__ import annotations

import asyncio
import importlib
import sys
import time
from typing import Any


async def rate(url: str, concurrency: int, calls: int) -> float:
    """Calls a second of ``concurrency`` workers that share ``calls``."""
    dspy: Any = importlib.import_module("dspy")
    dspy.configure(lm=dspy.LM("openai/bench", api_base=url, api_key="bench", cache=False), track_usage=False)
    predict = dspy.Predict("question -> answer")

    async def workers(count: int, tag: str) -> None:
        turns = iter(range(count))

        async def worker() -> None:
            for turn in turns:
                answer = await predict.acall(question=f"What is {tag} {turn}?")
                assert answer.answer == "Hello", answer

        await asyncio.gather(*(worker() for _ in range(concurrency)))

    await workers(concurrency, "warm-up")
    began = time.perf_counter()
    await workers(calls, "number")
    return calls / (time.perf_counter() - began)


if __name__ == "__main__":
    print(asyncio.run(rate(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))))
