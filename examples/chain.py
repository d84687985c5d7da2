"""A program of one's own: two predictors, one after the other; traced, streamed, taught, saved and loaded.

python examples/chain.py
"""

import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from scripted_server import ScriptedServer

import dspex
from dspex.actors.events.kinds import ModuleExecution
from dspex.actors.modules.program_state import PredictorState


class Chain(dspex.Module):
    """Drafts an answer, then improves it."""

    draft = dspex.Predict("question -> draft")
    improve = dspex.Predict("question, draft -> answer", "Make the draft better.")

    async def forward(self, question: str) -> Any:
        first = await self.draft(question=question)
        return self.improve.last(question=question, draft=first.draft)  # what is streamed, if that is asked for


def model(request: dict[str, Any]) -> str | Iterable[str]:
    """A model that fills in the field it is asked for, and says so when it was told to be brief."""
    question = str(request["messages"][-1]["content"])
    if "`[[ ## draft ## ]]`" in question:
        return "[[ ## draft ## ]]\nSome playwright."
    brief = "Be brief." in str(request["messages"][0]["content"])
    answer = "Shakespeare." if brief else "It was William Shakespeare, about 1600."
    pieces = ("[[ ## answer ## ]]\n", *(f"{word} " for word in answer.split()))
    return pieces if request.get("stream") else "".join(pieces)


def main() -> None:
    config = {"events": {"in_memory": True}, "app": {"console": False}}
    with ScriptedServer(model) as server, dspex.start(config=config) as app:
        app.configure_provider("local", kind="openai", base_url=server.url, default_model="some-model")
        chain = app.start_program("chain", Chain, provider="local")

        answer = chain(question="Who wrote Hamlet?")
        print(f"answer: {answer.answer}")
        print(f"both calls together: {answer.info.usage.total_tokens} tokens")
        for event in app.events.query(type="module_execution", trace_id=answer.info.correlation_id).events:
            if isinstance(event, ModuleExecution):
                print(f"  {event.module}: {', '.join(event.input_fields)} -> {', '.join(event.output_fields)}")

        print("streamed: ", end="")
        with chain.stream(question="Who wrote Hamlet?") as stream:
            for piece in stream:
                print(piece.text, end="|")
        print()

        chain.update(dspex.ProgramState({"improve": PredictorState("Be brief.")}))
        print(f"taught: {chain(question='Who wrote Hamlet?').answer}")
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "chain.json"
            chain.save(path)
            other = app.start_program("other", Chain, provider="local")
            other.load(path)
            print(f"another one, loaded from {path.name}: {other(question='Who wrote Hamlet?').answer}")


if __name__ == "__main__":
    main()
