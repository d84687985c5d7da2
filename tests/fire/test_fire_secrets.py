"""A server that echoes whatever it was sent, and actors that die meanwhile: the keys show nowhere."""

from __future__ import annotations

import json
import logging
import pickle
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

import dspex
from dspex.actors.protection.messages import ResetProtection
from dspex.actors.providers.messages import ProviderStatus
from dspex.actors.telemetry.prometheus_text import prometheus_text
from dspex.runtime.messages import GetState
from dspex.supervisors.app.console.picture import TreeNode
from kit.application import Quick, Watch
from kit.fire import KINDS, MODES, QUICK, ROOTS, Fire, error_body, error_event, pieces, steps, whole
from kit.http_server import Exchange, HttpServer, Script

KEY = "q7-Zx/key+0123456789"
HEADER = "gateway-secret-987654"
ROTATED = "q8-rotated/0123456789"


def echo(ex: Exchange) -> str:
    """All that the client sent to be let in."""
    return " ".join(f"{name}: {value}" for name, value in ex.request.headers.items())


def stream_of(*parts: bytes, end: bool = True) -> Script:
    """A stream of these pieces."""

    def send(ex: Exchange) -> None:
        ex.head()
        for part in (*parts, b"") if end else parts:
            ex.chunk(part)

    return send


def malformed(ex: Exchange, kind: str) -> None:
    """A stream with an event that is no JSON, and the keys in it."""
    name = b"event: content_block_delta\n" if kind == "anthropic" else b""
    name = b"event: response.output_text.delta\n" if kind == "openai_responses" else name
    stream_of(pieces(kind, "Hello ")[0], name + b"data: {" + echo(ex).encode() + b"\n\n")(ex)


def echoed(event: bytes, ex: Exchange) -> bytes:
    """The error event, with the keys in its message."""
    return event.replace(b"the engine broke", json.dumps(echo(ex))[1:-1].encode())


SCRIPTS: dict[str, Callable[[str], Script]] = {
    "401": lambda kind: lambda ex: ex.reply(401, error_body(kind, echo(ex), code=KEY)),
    "400": lambda kind: lambda ex: ex.reply(400, error_body(kind, echo(ex))),
    "429": lambda kind: lambda ex: ex.reply(429, error_body(kind, echo(ex), type=KEY)),
    "500, a page": lambda kind: lambda ex: ex.reply(500, echo(ex).encode(), content_type="text/html"),
    "a redirect": lambda kind: lambda ex: ex.reply(302, b"", headers={"Location": f"http://x.invalid/?key={KEY}"}),
    "a page": lambda kind: lambda ex: ex.reply(200, echo(ex).encode(), content_type="text/html"),
    "no JSON": lambda kind: lambda ex: ex.reply(200, b"{" + echo(ex).encode()),
    "no HTTP": lambda kind: steps(lambda ex: ex.send(echo(ex).encode() + b"\r\n\r\n"), Exchange.close),
    "a bad header": lambda kind: steps(
        lambda ex: ex.send(f"HTTP/1.1 200 OK\r\nbad {KEY}\r\n\r\n".encode()), Exchange.close
    ),
    "request id": lambda kind: lambda ex: ex.reply(500, error_body(kind), headers={"x-request-id": KEY}),
    "request id of an answer": lambda kind: lambda ex: ex.reply(200, whole(kind), headers={"x-request-id": HEADER}),
    "content type": lambda kind: lambda ex: ex.reply(200, b"?", content_type=f"text/{HEADER}"),
    "an error in a stream": lambda kind: (
        lambda ex: stream_of(pieces(kind, "Hello ")[0], echoed(error_event(kind), ex))(ex)
    ),
    "an error after text": lambda kind: (
        lambda ex: stream_of(*pieces(kind, "Hello ", "there")[:3], echoed(error_event(kind), ex))(ex)
    ),
    "a malformed stream": lambda kind: lambda ex: malformed(ex, kind),
    "a broken chunk": lambda kind: steps(
        stream_of(*pieces(kind, "Hello ")[:2], end=False), lambda ex: ex.send(f"{KEY}\r\n".encode()), Exchange.hang
    ),
    "hang": lambda kind: lambda ex: ex.hang(),
    "an answer": lambda kind: lambda ex: ex.reply(200, whole(kind)),
    "a stream": lambda kind: stream_of(*pieces(kind, "Hello ")),
}


@contextmanager
def burning(server: HttpServer, folder: Path, kind: str) -> Iterator[Fire]:
    """An application with a file of events that keeps prompts, and a provider with secrets."""
    provider = {**QUICK, "kind": kind, "base_url": server.url + ROOTS[kind], "api_key": KEY, "attempt_timeout": 0.4}
    config = {
        "events": {"path": str(folder / "events.db"), "capture_prompts": True},
        "ai": {
            "providers": {"p": {**provider, "headers": {"x-gateway": HEADER}, "retry_attempts": 2}},
            "caching": {"enabled": False},
            "monitoring": {"detailed_event_logging": True},
        },
    }
    with dspex.start(config=config, rng=Quick(1)) as app:
        yield Fire(app)


@pytest.mark.parametrize("kind", KINDS)
def test_the_keys_show_nowhere(
    kind: str, tmp_path: Path, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    """Not in logs, events and their file, errors, tracebacks, metrics, registry, tree, states, statuses or pickles."""
    caplog.set_level(logging.DEBUG)
    shown: list[str] = []
    pickled: list[bytes] = []
    with HttpServer(Exchange.hang) as server, burning(server, tmp_path, kind) as fire:
        for name, make in SCRIPTS.items():
            server.script = make(kind)
            for mode in MODES:
                fire.app.call("protection/p", ResetProtection())
                found = outcome(fire, mode, name)
                shown += [repr(found), str(found)]
                if isinstance(found, dspex.Error):
                    shown += [*traceback.format_exception(found), repr(found.facts)]
                pickled.append(pickle.dumps(found))
            look(fire, shown, pickled)
        watch = Watch(fire.app)
        for victim in ("streams/p", "provider/p", "protection/p", "core/config"):
            before = watch.incarnation(victim)
            fire.app.kill(victim)
            watch.until(lambda: watch.running(victim, before) and watch.running("streams/p"))  # noqa: B023
        fire.app.update_setting(("ai", "providers", "p", "api_key"), ROTATED)
        server.script = SCRIPTS["401"](kind)
        shown.append(repr(outcome(fire, "whole", "rotated")))
        look(fire, shown, pickled)
        assert ROTATED in repr([request.headers for request in server.requests])
    files = {path.name: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    assert files
    written = capfd.readouterr()
    texts = {"shown": "\n".join(shown), "log": caplog.text, "out": written.out, "err": written.err}
    for secret in (KEY, HEADER, ROTATED):
        for form in (secret, json.dumps(secret)[1:-1].replace("/", "\\/"), secret[:-1]):
            for place, text in texts.items():
                assert form not in text, f"{form} in {place}: {around(text, form)}"
            for name, content in files.items():
                assert form.encode() not in content, f"{form} in {name}"
            assert not [one for one in pickled if form.encode() in one]
    assert "lm_error" in texts["shown"]


def around(text: str, form: str) -> str:
    """Where it stands."""
    place = text.index(form)
    return text[max(0, place - 200) : place + 50]


def outcome(fire: Fire, mode: Any, text: str) -> Any:
    """The answer, or the error."""
    try:
        return fire.ask("p", mode, text, timeout=3.0)
    except dspex.Error as error:
        return error


def look(fire: Fire, shown: list[str], pickled: list[bytes]) -> None:
    """Look at everything that an application shows."""
    app = fire.app
    for status in (fire.protection("p"), fire.budget("provider/p"), app.call("provider/p", ProviderStatus())):
        shown.append(repr(status))
        pickled.append(pickle.dumps(status))
    rows = app.registry.select(kind="provider")
    page = app.events.query(limit=1000)
    snapshot = app.telemetry.snapshot()
    shown += [repr(rows), app.tree(), repr(app.health()), repr(snapshot), prometheus_text(snapshot)]
    shown += [event.model_dump_json() for event in page.events]
    shown += [repr(page), repr(app.engine.dead_letters.recent), repr(app.setting("ai", "providers", "p"))]
    for label in labels(app.tree_data()):
        try:
            shown.append(repr(app.call(label, GetState())))
        except dspex.Error as error:
            shown.append(repr(error))
    pickled += [pickle.dumps(rows), pickle.dumps(page), pickle.dumps(snapshot)]


def labels(node: TreeNode) -> list[str]:
    """Every actor of the tree."""
    return [node.label, *(label for child in node.children for label in labels(child))]
