"""The application from coroutines: on the caller's loop, in a thread of its own, and in a notebook."""

from __future__ import annotations

import ast
import asyncio
import re
import threading
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest

import dspex
from dspex import ChildSpec, GenServer, call
from dspex.runtime.errors import ApplicationDown, ConfigError, LMError, StartError, UsageError, WrongThread
from dspex.runtime.host import LoopChoice
from kit.application import IN_MEMORY, Add, Broken, Counter, Gate, answering, configuration, counter
from kit.http_server import Exchange, HttpServer, Script

README = Path(__file__).resolve().parents[2] / "README.md"
LOOPS: tuple[LoopChoice, ...] = ("current", "own")


def play(
    use: Callable[[dspex.AsyncApp, HttpServer], Coroutine[Any, Any, None]],
    script: Script | None = None,
    loop: LoopChoice = "current",
    **options: Any,
) -> None:
    """Run ``use`` with an application that has the provider ``local`` and the module ``qa``."""

    async def run(server: HttpServer) -> None:
        async with dspex.astart(config=configuration(server, "qa"), loop=loop, **options) as app:
            await use(app, server)
        assert (await app.health()).status == "stopped"

    with HttpServer(script or answering()) as server:
        asyncio.run(run(server))


@pytest.mark.parametrize("loop", LOOPS)
def test_async_with_starts_and_stops(loop: LoopChoice) -> None:
    """Inside the block a module answers; all names of the blocking view are there, awaited."""

    async def use(app: dspex.AsyncApp, server: HttpServer) -> None:
        assert app.engine.outside.on_thread() is (loop == "current")
        prediction = await app.module("qa")(question="?")
        assert prediction.answer == "Shakespeare"
        fresh = await app.start_module("fresh", "question -> answer", provider="local", timeout=5)
        answers = await asyncio.gather(*(fresh.options(user="u")(question=str(n)) for n in range(20)))
        assert {answer["answer"] for answer in answers} == {"Shakespeare"}
        assert (await fresh.status()).executions == 20
        assert "module/fresh" in await app.tree()
        assert (await app.registry.wait_for("module/fresh")).state == "running"
        assert len((await app.events.query(type="module_execution", limit=100)).events) == 21
        assert (await app.telemetry.snapshot()).total("dspex_lm_requests_total") == 21
        assert (await app.lm.complete("local", "Hi")).text == "Shakespeare"
        app.kill("provider/local")
        assert (await fresh(question="?")).answer == "Shakespeare"
        await app.stop_module("fresh")
        await app.remove_provider("local")

    play(use, loop=loop)


@pytest.mark.parametrize("loop", LOOPS)
def test_await_starts_and_stop_stops(loop: LoopChoice) -> None:
    """`app = await astart()` is the other way; after `stop` each call says that it is down."""

    async def run() -> None:
        app = await dspex.astart(config=IN_MEMORY, children=[counter()], loop=loop)
        assert await app.call("demo/counter", Add(3)) == 3
        waiting = asyncio.create_task(app.wait())
        with pytest.raises(TimeoutError):
            await app.wait(0.01)
        told: list[Any] = []
        app.on_exit(told.append)
        await app.stop(reason="enough")
        await app.stop()
        assert await waiting == "enough"
        assert told == ["enough"]
        for way in (lambda: app.call("demo/counter", Add()), app.tree, app.registry.select):
            with pytest.raises(ApplicationDown):
                await way()

    asyncio.run(run())


def test_giving_up_waiting_leaves_the_others_waiting() -> None:
    """A cancelled `wait` does not cancel the end itself."""

    async def run() -> None:
        app = await dspex.astart(config=IN_MEMORY)
        patient, hasty = asyncio.create_task(app.wait()), asyncio.create_task(app.wait())
        await asyncio.sleep(0)
        hasty.cancel()
        await asyncio.gather(hasty, return_exceptions=True)
        await app.stop()
        assert await patient == "shutdown"

    asyncio.run(run())


def test_a_start_that_fails_leaves_nothing() -> None:
    """Wrong settings are refused at once, a bad child when awaited; no task and no thread stays."""

    async def run() -> None:
        with pytest.raises(ConfigError, match="did you mean"):
            dspex.astart(config={"evnts": {}})
        with pytest.raises(UsageError, match="did you mean"):
            dspex.astart(config=IN_MEMORY, childern=[])
        for loop in LOOPS:
            with pytest.raises(StartError, match="no way") as caught:
                await dspex.astart(config=IN_MEMORY, children=[ChildSpec("bad", Broken)], loop=loop)
            assert isinstance(caught.value.__cause__, ZeroDivisionError)
        assert asyncio.all_tasks() == {asyncio.current_task()}

    asyncio.run(run())
    assert [thread for thread in threading.enumerate() if thread.name.startswith("dspex")] == []


def test_nothing_stays_on_the_callers_loop() -> None:
    """After the block the loop has no task but the caller's."""

    async def run() -> None:
        for _ in range(5):
            async with dspex.astart(config=IN_MEMORY) as app:
                await app.events.record("x")
        assert asyncio.all_tasks() == {asyncio.current_task()}

    asyncio.run(run())


@pytest.mark.parametrize("loop", LOOPS)
def test_cancelling_a_call_cancels_the_request(loop: LoopChoice) -> None:
    """The awaited call cancelled, the server sees its socket close, and the events say so."""

    async def use(app: dspex.AsyncApp, server: HttpServer) -> None:
        asking = asyncio.create_task(app.module("qa")(question="?"))
        assert await asyncio.to_thread(server.arrived.wait, 5)
        asking.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asking
        assert await asyncio.to_thread(server.client_closed.wait, 5)
        (event,) = (await app.events.query(type="lm_error")).events
        assert event.model_dump()["code"] == "cancelled"

    play(use, Exchange.hang, loop=loop)


def test_an_asyncio_timeout_is_a_cancellation_too() -> None:
    """`asyncio.timeout` around a call ends it down to the socket."""

    async def use(app: dspex.AsyncApp, server: HttpServer) -> None:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(1.0):
                await app.module("qa")(question="?")
        assert await asyncio.to_thread(server.client_closed.wait, 5)

    play(use, Exchange.hang)


@pytest.mark.parametrize("loop", LOOPS)
def test_draining_awaited(loop: LoopChoice) -> None:
    """A call in progress finishes; a new one is refused."""
    gate = Gate()

    async def use(app: dspex.AsyncApp, server: HttpServer) -> None:
        answer = asyncio.create_task(app.module("qa")(question="?"))
        assert await asyncio.to_thread(server.arrived.wait, 5)
        stopping = asyncio.create_task(app.stop(drain=10.0))
        await asyncio.sleep(0)
        with pytest.raises(ApplicationDown, match="draining"):
            await app.module("qa")(question="?")
        gate.open.set()
        assert (await answer).answer == "late"
        await stopping

    play(use, gate, loop=loop)


class Blocker(GenServer):
    """Uses the blocking view where it must not."""

    def init(self, app: list[dspex.App]) -> None:
        self.app = app

    @call
    def add(self, msg: Add) -> int:
        return int(self.app[0].call("demo/counter", msg))


def test_blocking_use_on_the_engines_thread_is_refused() -> None:
    """An actor that calls the blocking view crashes with WrongThread at once; nobody hangs."""
    box: list[dspex.App] = []
    children = [counter(), ChildSpec("blocker", Blocker, (box,), name="demo/blocker")]
    with dspex.start(config=IN_MEMORY, children=children) as app:
        box.append(app)
        with pytest.raises(dspex.Error, match="WrongThread"):
            app.call("demo/blocker", Add())

    async def run() -> None:
        async with dspex.astart(config=IN_MEMORY) as app:
            with pytest.raises(WrongThread):
                dspex.App(app._life).call("core/registry", Add())  # pyright: ignore[reportPrivateUsage]

    asyncio.run(run())


def test_a_namespace_awaited() -> None:
    """The view on a namespace resolves names there."""

    async def use(app: dspex.AsyncApp, server: HttpServer) -> None:
        tenant = app.namespace("t")
        await tenant.start_child(ChildSpec("c", Counter, (5,), name="demo/c"))
        assert await tenant.call("demo/c", Add()) == 6
        with pytest.raises(dspex.Error):
            await app.call("demo/c", Add())

    play(use)


def test_a_notebook() -> None:
    """Cells run one by one in one running loop, with top-level await; the application lives across them."""
    cells = [
        "import dspex\napp = await dspex.astart(config=config)",
        "qa = app.module('qa')",
        "first = (await qa(question='?')).answer",
        "app.kill('module/qa')\nsecond = (await qa(question='?')).answer",
        "blocking = dspex.start(config=config)\nthird = blocking.module('qa')(question='?').answer\nblocking.stop()",
        "await app.stop()",
    ]

    async def notebook(scope: dict[str, Any]) -> None:
        for cell in cells:
            code = compile(cell, "cell", "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
            result = eval(code, scope)
            if asyncio.iscoroutine(result):
                await result

    with HttpServer(answering()) as server:
        scope: dict[str, Any] = {"config": configuration(server, "qa")}
        asyncio.run(notebook(scope))
    assert (scope["first"], scope["second"], scope["third"]) == ("Shakespeare",) * 3


def test_the_readmes_scripts_run_as_they_stand(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The README's script and its awaitable twin run, with nothing but the server's address put in."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    script, awaited = re.findall(r"```python\n(.*?)```", README.read_text("utf-8"), re.DOTALL)[:2]
    with HttpServer(answering()) as server:
        place = 'base_url="http://127.0.0.1:8080/v1"'
        assert place in script
        assert place in awaited
        address = f'base_url="{server.url}/v1"'
        exec(compile(script.replace(place, address), "README.md", "exec"), {})
        code = compile(awaited.replace(place, address), "README.md", "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
        asyncio.run(eval(code, {"dspex": dspex}))
    said = capsys.readouterr().out
    assert said.count("Shakespeare") == 3
    assert "provider/local  [ProviderActor]  idle  restarts 1" in said
    assert "test-model" in said


def test_errors_of_a_provider_are_typed() -> None:
    """An error answer of the server is an LMError at the awaiting caller, and the module lives on."""

    async def use(app: dspex.AsyncApp, server: HttpServer) -> None:
        with pytest.raises(LMError) as caught:
            await app.module("qa")(question="?")
        assert caught.value.status == 401
        entry = app.entry("module/qa")
        assert entry is not None
        assert entry.incarnation == 1

    def script(exchange: Exchange) -> None:
        exchange.reply(401, {"error": {"message": "no"}})

    play(use, script)
