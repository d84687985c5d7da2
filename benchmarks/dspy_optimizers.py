"""DSPy's optimizers against a server: ``python dspy_optimizers.py < JOB`` prints what each task took, as JSON.

A script that imports nothing of dspex, so that another interpreter, with DSPy installed, can run it. What DSPy does
not do, measuring the program before and after ``LabeledFewShot`` and ``BootstrapFewShot``, its ``Evaluate`` does: who
optimizes wants to know whether that was any good.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import sys
import time
import urllib.request
from typing import Any

dspy: Any = importlib.import_module("dspy")
JOB: dict[str, Any] = json.load(sys.stdin)


def used() -> dict[str, int]:
    """Calls and tokens so far."""
    with urllib.request.urlopen(JOB["url"].removesuffix("/v1") + "/usage", timeout=10) as found:
        told: dict[str, int] = json.load(found)
        return told


def examples(rows: list[dict[str, str]]) -> list[Any]:
    """The data, as DSPy's examples."""
    return [dspy.Example(**row).with_inputs("text") for row in rows]


def right(gold: Any, answer: Any, trace: Any = None) -> bool:
    """The metric."""
    return bool(gold.label == answer.label)


def judged(gold: Any, answer: Any, trace: Any = None, pred_name: Any = None, pred_trace: Any = None) -> Any:
    """The metric of GEPA, with the feedback that dspex's has."""
    told = "" if right(gold, answer) else f"The label is {gold.label}: {JOB['clue']}."
    return dspy.Prediction(score=float(right(gold, answer)), feedback=told)


def accuracy(program: Any, data: list[Any]) -> float:
    """Which part of the data the program answers right."""
    evaluate = dspy.Evaluate(devset=data, metric=right, num_threads=JOB["workers"], display_progress=False)
    return float(evaluate(program).score) / 100


def optimized(program: Any, task: dict[str, Any]) -> Any:
    """The program, optimized."""
    method, options, threads = JOB["method"], JOB["options"], JOB["workers"]
    train, validation = examples(task["train"]), examples(task["validation"])
    if method in {"labeled_few_shot", "bootstrap"}:
        accuracy(program, validation)
        few_shot = dspy.LabeledFewShot if method == "labeled_few_shot" else dspy.BootstrapFewShot
        metric = {} if method == "labeled_few_shot" else {"metric": right}
        better = few_shot(**metric, **options).compile(program, trainset=train)
        accuracy(better, validation)
        return better
    if method == "random_search":
        search = dspy.BootstrapFewShotWithRandomSearch(metric=right, num_threads=threads, stop_at_score=100, **options)
        return search.compile(program, trainset=train, valset=validation)
    if method == "mipro":
        trials = options.pop("num_trials")
        joint = dspy.MIPROv2(metric=right, auto=None, num_threads=threads, seed=task["seed"], **options)
        found = joint.compile(program, trainset=train, valset=validation, num_trials=trials, minibatch=False)
        options["num_trials"] = trials
        return found
    lm = dspy.settings.lm
    gepa = dspy.GEPA(metric=judged, num_threads=threads, reflection_lm=lm, seed=task["seed"], **options)
    return gepa.compile(program, trainset=train, valset=validation)


def measure(task: dict[str, Any]) -> dict[str, float]:
    """What one task took, and how good the program is on data that was held out."""
    program = dspy.Predict(dspy.Signature(JOB["signature"], JOB["instructions"]))
    before, began = used(), time.perf_counter()
    better = optimized(program, task)
    seconds, after = time.perf_counter() - began, used()
    spent = {name: float(after[name] - before[name]) for name in after}
    return {"seconds": seconds, **spent, "score": accuracy(better, examples(task["held_out"]))}


def main() -> None:
    dspy.configure(lm=dspy.LM("openai/simulated", api_base=JOB["url"], api_key="bench", cache=JOB["cache"]))
    with contextlib.redirect_stdout(sys.stderr):
        accuracy(dspy.Predict(dspy.Signature(JOB["signature"], JOB["instructions"])), examples(JOB["warm_up"]))
        found = [measure(task) for task in JOB["tasks"]]
    print(json.dumps(found))


if __name__ == "__main__":
    main()
