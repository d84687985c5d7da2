"""A hosted ``dspy.Module`` that is read while it writes: as our own modules are, in this process or in its own."""

from __future__ import annotations

import threading
from typing import Any

import pytest

import dspex
from dspex.actors.modules.messages import ModuleInfo, ModuleStatus, Predict
from dspex.dspy import hosted_spec
from dspex.runtime.errors import CallTimeout, LMServerError, ParseError, RemoteError, SignatureError
from kit.application import application
from kit.dspy_scene import Model, marked, scene
from kit.http_server import Exchange

CHECKED = "question -> answer, verdict: bool"
LONG = "It is Paris, a city on the river Seine in the north of France."
PLACEMENTS = pytest.mark.parametrize("placement", ["local", "process"])


def host(app: dspex.App, factory: str = "build", **settings: Any) -> Any:
    """Host a program as ``module/qa``."""
    app.start_child(hosted_spec("qa", f"kit.dspy_programs:{factory}", provider="local", **settings))
    return app.module("qa")


def status(app: dspex.App) -> ModuleStatus:
    """How the hosted module is."""
    found: ModuleStatus = app.call("module/qa", ModuleInfo(), timeout=10)
    return found


def read(stream: Any) -> dict[str, list[str]]:
    """The pieces of each field."""
    fields: dict[str, list[str]] = {}
    for number, piece in enumerate(stream):
        assert piece.index == number
        fields.setdefault(piece.field, []).append(piece.text)
    return fields


@pytest.mark.timeout(120)
@PLACEMENTS
def test_fields_come_as_they_are_written(placement: Any) -> None:
    """Pieces are those of the model, the end is the prediction; cost and trace are those of all its calls."""
    model = Model(lambda _: marked(LONG))
    with scene(model) as app:
        qa = host(app, "Checked", signature=CHECKED, placement=placement)
        with qa.stream(question="Where?") as stream:
            fields = read(stream)
        assert "".join(fields["answer"]) == LONG
        assert len(fields["answer"]) > 5
        assert "".join(fields["verdict"]) == "True"
        assert stream.result.to_dict() == {"answer": LONG, "verdict": True}
        assert stream.result.info.usage.total_tokens == 14
        assert [request.get("stream") for request in model.requests] == [True, True]
        assert (status(app).executions, status(app).running, status(app).streams) == (1, 0, 0)
        tree = app.events.query(trace_id=stream.result.info.correlation_id, limit=100).events
        assert {"module_execution", "dspy_module", "lm_request", "lm_response"} <= {event.type for event in tree}


@pytest.mark.parametrize(
    ("form", "text"),
    [
        ("chat", f"[[ ## answer ## ]]\n{LONG}\n\n[[ ## words ## ]]\n13\n\n[[ ## completed ## ]]"),
        ("json", f'{{"answer": "{LONG}", "words": 13}}'),
        ("xml", f"<answer>\n{LONG}\n</answer>\n\n<words>\n13\n</words>"),
    ],
)
def test_each_form_of_dspys_is_read(form: str, text: str) -> None:
    """DSPy's adapters that its own streams can read are read here too."""
    with scene(Model(lambda _: text)) as app:
        with host(app, "Formatted").stream(question=form) as stream:
            fields = read(stream)
        assert ("".join(fields["answer"]), "".join(fields["words"])) == (LONG, "13")
        assert len(fields["answer"]) > 5
        assert stream.result.to_dict() == {"answer": LONG, "words": 13}


def test_what_nobody_can_read_on_the_way_comes_whole() -> None:
    """Copies of a predictor try several answers: the one that is taken comes in one piece, at the end."""
    model = Model(lambda _: marked(LONG))
    with scene(model) as app:
        with host(app, "best_of_two").stream(question="Where?") as stream:
            assert read(stream) == {"answer": [LONG]}
        assert len(model.requests) == 2
        assert not any(request.get("stream") for request in model.requests)


def test_of_a_predictor_that_is_called_twice_the_first_answer_is_read() -> None:
    """Pieces of two answers are not mixed; the prediction is what counts."""
    texts = iter(("one", "two"))
    with scene(Model(lambda _: marked(next(texts)))) as app:
        with host(app, "Twice").stream(question="Where?") as stream:
            assert read(stream) == {"answer": ["one"]}
        assert stream.result.answer == "two"


def test_failures_end_the_stream_with_their_own_class() -> None:
    """Before the first piece and after it, the reader gets the error of whoever failed; the module lives on."""
    model = Model(status=503)
    with scene(model, retry_attempts=1) as app:
        qa = host(app)
        with qa.stream(question="Where?") as stream, pytest.raises(LMServerError):
            read(stream)
        model.status, model.answer = 200, lambda _: "no marks at all"
        with qa.stream(question="Where?") as stream, pytest.raises(ParseError):
            read(stream)
        with pytest.raises(SignatureError), qa.stream(questoin="Where?"):
            pass
        assert status(app).failures == 3
        assert status(app).running == 0


def test_a_defect_of_the_program_ends_its_stream() -> None:
    """What the program raises reaches the reader in words."""
    with scene(Model()) as app:
        stream = host(app, "Clumsy").stream(question="Where?")
        with stream, pytest.raises(RemoteError, match="KeyError"):
            read(stream)


class Slow:
    """Answers in pieces without end, as fast as they are taken.

    Attributes:
        stalled: set when the kernel took nothing for 2 seconds: the client does not read.
        left: set when the client closed the connection.
    """

    def __init__(self) -> None:
        self.stalled = threading.Event()
        self.left = threading.Event()

    def __call__(self, exchange: Exchange) -> None:
        exchange.head()
        exchange.chunk(_piece("[[ ## answer ## ]]\\n"))
        exchange.sock.settimeout(2.0)
        row = _piece("a" * 1000)
        data = rest = b"%x\r\n%b\r\n" % (len(row), row)
        while not self.left.is_set():
            try:
                rest = rest[exchange.sock.send(rest) :] or data
            except TimeoutError:
                self.stalled.set()
                exchange.sock.settimeout(None)
            except OSError:
                self.left.set()
        exchange.close()


def _piece(text: str) -> bytes:
    return (
        b'data: {"id": "c1", "model": "m", "choices": [{"index": 0, "delta": {"content": "%b"}}]}\n\n' % text.encode()
    )


@pytest.mark.timeout(120)
@PLACEMENTS
def test_a_slow_reader_stops_the_server_and_leaving_ends_the_request(placement: Any) -> None:
    """Of an endless answer no more is taken than the reader asks for; when it leaves, the connection closes."""
    slow = Slow()
    with application(slow) as (app, _):
        with host(app, placement=placement).options(max_demand=2).stream(question="Where?") as stream:
            assert next(stream).field == "answer"
            assert slow.stalled.wait(30)
        assert slow.left.wait(20)
        app.registry.wait_for("module/qa", timeout=5)
        assert status(app).running == 0


@pytest.mark.timeout(120)
def test_a_call_that_is_given_up_ends_its_request() -> None:
    """Whoever waits no longer for a whole answer ends the request in flight, though a thread waits for it."""
    with application(lambda exchange: exchange.hang()) as (app, server):
        host(app)
        with pytest.raises(CallTimeout):
            app.call("module/qa", Predict({"question": "Where?"}), timeout=0.5)  # its own time is 120 s
        assert server.client_closed.wait(20)


@pytest.mark.timeout(120)
@PLACEMENTS
def test_a_killed_module_ends_its_streams(placement: Any) -> None:
    """The stream's reader is told, and the request to the provider ends."""
    slow = Slow()
    with application(slow) as (app, _):
        with host(app, placement=placement).stream(question="Where?") as stream:
            next(stream)
            app.kill("module/qa")
            with pytest.raises(dspex.Error):
                list(stream)
        assert slow.left.wait(20)
