"""DSPy on supervised providers: its models call our actors, its modules are actors, its optimizers resume.

What is printed between the lines below is DSPy's own.

pip install 'dspex[dspy]'
python examples/hosted_dspy.py
"""

from importlib import import_module
from importlib.util import find_spec
from typing import Any

from scripted_server import ScriptedServer

import dspex
from dspex.dspy import actor_lm, dspy_run, hosted_spec, optimize_dspy

# So that this file can be imported without DSPy; else: import dspy
dspy: Any = import_module("dspy") if find_spec("dspy") else None
CAPITALS = {"Norway": "Oslo", "France": "Paris", "Italy": "Rome", "Spain": "Madrid"}


def model(request: dict[str, Any]) -> str:
    """A stand-in that knows capitals."""
    question = request["messages"][-1]["content"]
    capital = next((capital for country, capital in CAPITALS.items() if country in question), "unknown")
    return f"[[ ## reasoning ## ]]\nLet me see.\n\n[[ ## answer ## ]]\n{capital}\n\n[[ ## completed ## ]]"


def build() -> Any:
    """The program that is hosted; found by its import path, ``hosted_dspy:build``."""
    return dspy.ChainOfThought("question -> answer")


def question(country: str) -> dict[str, str]:
    return {"question": f"What is the capital of {country}?"}


def right(example: Any, found: Any, trace: Any = None) -> bool:
    return bool(example.answer == found.answer)


def show(app: dspex.App, server: ScriptedServer) -> None:
    print("an LM of DSPy's, below it a provider actor:")
    with dspy.context(lm=actor_lm(app, "local")):
        print("   ", build()(**question("Norway")).answer)

    print("a program as an actor, with two workers in processes of their own; one is killed, and comes back:")
    how: Any = {"provider": "local", "signature": "question -> answer", "workers": 2, "placement": "process"}
    app.start_child(hosted_spec("capitals", "hosted_dspy:build", **how))
    capitals = app.module("capitals")
    print("   ", capitals(**question("France")).answer)
    app.kill("module/capitals/1")
    print("   ", capitals(**question("Italy")).answer)
    with capitals.stream(**question("Spain")) as stream:
        print("   ", " | ".join(f"{piece.field}: {piece.text}" for piece in stream))

    print("an optimizer of DSPy's, twice; the second time its run's journal answers:")
    examples = [
        dspy.Example(**question(country), answer=capital).with_inputs("question")
        for country, capital in CAPITALS.items()
    ]
    for _ in range(2):
        before = server.requests
        with dspy_run(app, "capitals-1", provider="local") as lm, dspy.context(lm=lm):
            best = dspy.BootstrapFewShot(metric=right)
            demos = best.compile(build(), trainset=examples).predictors()[0].demos
        print(f"    {len(demos)} demos, {server.requests - before} requests")

    print("a run in a process of its own; its budget is spent, and with a larger one it goes on where it was:")
    for calls in (10, 200):
        run = optimize_dspy(
            app,
            "hosted_dspy:build",
            examples,
            optimizer="BootstrapFewShotWithRandomSearch",
            metric="hosted_dspy:right",
            provider="local",
            run_id="capitals-2",
            budget={"calls": calls},
            options={"max_bootstrapped_demos": 2, "num_candidate_programs": 2, "num_threads": 4},
        )
        result = run.result()
        paid, score = result.status.paid.calls, result.score or 0.0
        print(f"    {result.outcome}: {result.status.trials} evaluations, score {score:.0%}, {paid} calls paid in all")
    capitals.update(result.state)


def main() -> None:
    if dspy is None:
        print("DSPy is not installed; this example needs it: pip install 'dspex[dspy]'")
        return
    with ScriptedServer(model) as server, dspex.start(config={"events": {"in_memory": True}}) as app:
        app.configure_provider("local", kind="openai", base_url=server.url, default_model="stand-in")
        show(app, server)


if __name__ == "__main__":
    main()
