"""A model that uses tools: a function and an actor; a call that does not fit is told to the model, not to you.

python examples/react.py
"""

from dataclasses import dataclass
from typing import Any

from scripted_server import ScriptedServer, ToolCalls

import dspex
from dspex import ChildSpec, GenServer, call


def multiply(a: int, b: int) -> int:
    """Multiplies two whole numbers."""
    return a * b


@dataclass(frozen=True)
class FindPrice:
    """What one piece of something costs, in euros."""

    of: str


class Shop(GenServer):
    """Knows prices."""

    @call
    def price(self, msg: FindPrice) -> int:
        return {"apple": 3}[msg.of]


def model(request: dict[str, Any]) -> str | ToolCalls:
    """A model that asks for the price, multiplies wrongly, then rightly, then answers."""
    said = [message["content"] for message in request["messages"] if message["role"] == "tool"]
    match len(said):
        case 0:
            return ToolCalls(("find_price", {"of": "apple"}))
        case 1:
            return ToolCalls(("multiply", {"a": "four", "b": int(said[0])}))
        case 2:
            return ToolCalls(("multiply", {"a": 4, "b": int(said[0])}))
        case _:
            return f"[[ ## euros ## ]]\n{said[-1]}"


def main() -> None:
    config = {"events": {"in_memory": True}, "app": {"console": False}}
    with ScriptedServer(model) as server, dspex.start(config=config) as app:
        app.configure_provider("local", kind="openai", base_url=server.url, default_model="some-model")
        app.start_child(ChildSpec("shop", Shop, name="tool/shop"))
        sums = app.start_module(
            "sums",
            "question -> euros: int",
            provider="local",
            kind="react",
            tools=[multiply, {"actor": "tool/shop", "message": FindPrice}],
            max_steps=5,
        )
        answer = sums(question="What do four apples cost?")
        for step in answer.trajectory:
            print(f"{step['step']}: {step['tool']}({step['arguments']}) -> {step['observation']}")
        print(f"answer: {answer.euros} euros, after {len(answer.info.attempts)} requests")


if __name__ == "__main__":
    main()
