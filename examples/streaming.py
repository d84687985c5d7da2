"""An answer in pieces, only as fast as it is read: a slow reader stops the server, and leaving ends the request.

python examples/streaming.py
"""

import threading
from collections.abc import Iterable
from typing import Any

from scripted_server import ScriptedServer

import dspex
from dspex.actors.events.kinds import LmError

PIECES = 20_000
PIECE = "All the world's a stage, and all the men and women merely players. " * 8
SHORT = ("[[ ## answer ## ]]\n", "a stage, ", "and all the men and women ", "merely players")


def answer(request: dict[str, Any]) -> Iterable[str]:
    """A long answer, as fast as anybody takes it; for the module a short one, in the form that its adapter asks for."""
    asked_by_module = "[[ ## answer ## ]]" in str(request["messages"])
    return SHORT if asked_by_module else (PIECE for _ in range(PIECES))


def main() -> None:
    config = {"events": {"in_memory": True}, "app": {"console": False}}
    with ScriptedServer(answer) as server, dspex.start(config=config) as app:
        app.configure_provider("local", kind="openai", base_url=server.url, default_model="some-model")
        read_slowly(app, server)
        read_fields(app)


def read_slowly(app: dspex.App, server: ScriptedServer) -> None:
    pause = threading.Event()
    print(f"the server would send {PIECES} pieces; at most 8 are asked for at a time")
    with app.lm.stream("local", "Tell me all of it.", max_demand=8) as stream:
        for read, chunk in enumerate(stream, start=1):
            if read % 50 == 0:
                pause.wait(0.3)  # a slow reader; the server could send thousands of pieces meanwhile
                print(f"  read {read:4}: the server has got rid of {server.sent} ({len(chunk.text)} characters each)")
            if read == 200:
                break
    server.left.wait(5)
    print(f"the reader left: the server was told, and sent {server.sent} of {PIECES} pieces in all")
    for event in app.events.query(type="lm_error").events:
        assert isinstance(event, LmError)
        print(f"in the event log: {event.type}, {event.code}: {event.message}; {event.duration:.1f} s")


def read_fields(app: dspex.App) -> None:
    qa = app.start_module("qa", "question -> answer", provider="local")
    with qa.options(max_demand=4, user="u1").stream(question="What is the world?") as stream:
        for piece in stream:
            print(f"  field {piece.field}: {piece.text!r}")
        info = stream.result.info
    print(f"the whole: {stream.result.answer!r}, {info.usage.output_tokens} tokens, {info.finish_reason}")


if __name__ == "__main__":
    main()
