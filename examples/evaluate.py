"""How good is it? A dataset, run through a module by several workers and scored; failures count as failures.

python examples/evaluate.py
"""

from typing import Any

import rich
from scripted_server import Refusal, ScriptedServer

import dspex
from dspex import Example, Prediction

CAPITALS = {"Norway": "Oslo", "Germany": "Berlin", "France": "Paris", "Italy": "Rome", "Spain": "Madrid"}
DATASET = [
    Example(question=f"What is the capital of {country}?", answer=capital).with_inputs("question")
    for country, capital in {**CAPITALS, "Atlantis": "unknown"}.items()
]


def model(request: dict[str, Any]) -> str | Refusal:
    """A stand-in that likes to talk, is wrong about Italy, and refuses Atlantis."""
    question = request["messages"][-1]["content"]
    if "Atlantis" in question:
        return Refusal(400, "no such place")
    capital = next(capital for country, capital in CAPITALS.items() if country in question)
    answer = "Milan" if capital == "Rome" else f"It is {capital}."
    return f"[[ ## answer ## ]]\n{answer}\n\n[[ ## completed ## ]]"


def brief(example: Example, prediction: Prediction) -> tuple[float, str]:
    """A metric of one's own: right, and in few words."""
    if example.answer not in prediction.answer:
        return 0.0, f"expected {example.answer}"
    words = len(prediction.answer.split())
    return 1 / words, f"{words} words where one would do"


def main() -> None:
    with ScriptedServer(model) as server, dspex.start(config={"events": {"in_memory": True}}) as app:
        app.configure_provider("local", kind="openai", base_url=server.url, default_model="stand-in")
        app.start_module("qa", "question -> answer", provider="local")

        report = app.evaluate("qa", DATASET, metric="contains", workers=3)
        rich.print(report.table())
        for metric in ("exact_match", "f1", brief):
            print(app.evaluate("qa", DATASET, metric=metric, workers=3))
        print()
        print(report.to_csv())


if __name__ == "__main__":
    main()
