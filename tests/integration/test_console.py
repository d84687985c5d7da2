"""Looking at a running application from another process."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import signal
import socket
import stat
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

import dspex
from dspex import ChildSpec, GenServer, call
from dspex.runtime.errors import ApplicationDown, CallTimeout, NoProcess, RemoteError, UsageError
from dspex.supervisors.app.console import sockets
from dspex.supervisors.app.console.client import ask, find
from dspex.supervisors.app.console.observer import Observer, steady
from dspex.supervisors.app.console.sockets import Address, running
from dspex.supervisors.backoff import Backoff
from kit.application import IN_MEMORY

ROOT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True, slots=True)
class Work:
    """Answer at once, or ``hold`` the loop until the gate opens."""

    how: str = ""


@dataclass(frozen=True, slots=True)
class Slowly:
    """Wait for the gate, or for the target's answer."""

    target: str = ""


class Worker(GenServer):
    """Does what it is told, until the gate opens."""

    def init(self, gate: threading.Event, at_work: threading.Event) -> None:
        self.gate = gate
        self.at_work = at_work
        self.api_key = "sk-very-secret"
        self.colour = "green"

    @call
    def work(self, message: Work) -> str:
        if message.how == "hold":
            self.at_work.set()
            self.gate.wait(50)
        return "done"

    @call
    async def slow(self, message: Slowly) -> str:
        if message.target:
            return str(await self.call(message.target, Slowly(), timeout=50))
        self.at_work.set()
        await self.run_blocking(self.gate.wait, 50)
        return "done"


@dataclass(frozen=True, slots=True)
class Block:
    """Hold the loop in a coroutine, until the gate opens."""


class Blocker(GenServer):
    """Blocks where it should await."""

    def init(self, gate: threading.Event, at_work: threading.Event) -> None:
        self.gate = gate
        self.at_work = at_work

    @call
    async def block(self, message: Block) -> None:
        await asyncio.sleep(0)
        self.at_work.set()
        self.gate.wait(50)


@dataclass
class Bench:
    """An application with two workers, and what they wait for."""

    app: dspex.App
    gate: threading.Event
    at_work: threading.Event

    @property
    def address(self) -> Address:
        """Its console."""
        found = find(str(os.getpid()))
        assert found is not None
        return found

    def begin(self, target: str, message: object) -> threading.Thread:
        """Call from a thread of its own, and wait until somebody is at work."""

        def run() -> None:
            self.app.call(target, message, timeout=60)

        thread = threading.Thread(target=run)
        thread.start()
        assert self.at_work.wait(10)
        return thread


@pytest.fixture(autouse=True)
def runtime_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A runtime folder of the test's own."""
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    return tmp_path / "dspex"


@pytest.fixture
def bench() -> Iterator[Bench]:
    """A running application."""
    gate, at_work = threading.Event(), threading.Event()
    children = [
        ChildSpec("one", Worker, (gate, at_work), name="worker/one"),
        ChildSpec("two", Worker, (gate, at_work), name="worker/two"),
    ]
    with dspex.start(config={**IN_MEMORY, "app": {"name": "shop"}}, children=children) as app:
        try:
            yield Bench(app, gate, at_work)
        finally:
            gate.set()


def dspex_command(*arguments: str, status: int = 0) -> str:
    """Run a command in a process of its own; what it prints."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("DSPEX_")}
    done = subprocess.run(
        [sys.executable, "-m", "dspex", *arguments],
        env={**environment, "PYTHONPATH": str(ROOT), "NO_COLOR": "1", "COLUMNS": "200"},
        capture_output=True,
        text=True,
        timeout=50,
        check=False,
    )
    assert "Traceback" not in done.stderr + done.stdout
    assert done.returncode == status, done.stderr
    return done.stdout + done.stderr


def row_of(address: Address, name: str) -> dict[str, Any]:
    """One row of the application."""
    found: dict[str, Any] = next(row for row in ask(address, "stats")["rows"] if row["name"] == name)
    return found


# -- the commands ------------------------------------------------------------------------------------


def test_tree_and_ps_show_the_running_application(bench: Bench) -> None:
    """Without `--config`, `tree` and `ps` show the only application that runs, as text and as JSON."""
    assert "worker/one  [Worker]  idle" in dspex_command("tree")
    assert json.loads(dspex_command("tree", "--json"))["label"] == "supervisor/application"
    assert "worker/two" in dspex_command("ps", "--app", "shop")
    rows = json.loads(dspex_command("ps", "--json", "--app", str(os.getpid())))
    row = next(row for row in rows if row["name"] == "worker/one")
    assert {"state": "idle", "restarts": 0, "incarnation": 1, "actor": "Worker", "mailbox": 0}.items() <= row.items()


def test_show_tells_an_actor_without_its_secrets(bench: Bench) -> None:
    """`show` prints row, statistics and state; what is named like a secret is left out."""
    shown = dspex_command("show", "worker/one")
    assert "colour: 'green'" in shown
    assert "very-secret" not in shown
    told = json.loads(dspex_command("show", "worker/one", "--json"))
    assert (told["row"]["state"], told["state"]["api_key"], told["statistics"]["actor"]) == ("idle", "***", "Worker")


def test_explain_says_whom_a_handler_waits_for(bench: Bench) -> None:
    """`explain` names the message in hand and the actor whose answer is awaited."""
    thread = bench.begin("worker/one", Slowly("worker/two"))
    told = dspex_command("explain", "worker/one")
    assert told.startswith("worker/one: busy\n  it handles Slowly, whose caller waits ")
    assert "for worker/two (busy) to answer Slowly" in told
    assert json.loads(dspex_command("explain", "worker/two", "--json"))["verdict"] == "busy"
    shown = ask(bench.address, "show", "worker/two")  # busy, it tells its state to nobody
    assert (shown["state"], "no reply" in shown["state_error"]) == (None, True)
    bench.gate.set()
    thread.join()


def test_watch_and_top_look_again_and_again(bench: Bench) -> None:
    """`watch` prints a line a look, `top` a table, and JSON if asked; both end after `--count`."""
    lines = dspex_command("watch", "worker/one", "--count", "2", "--interval", "0.05").splitlines()
    assert len(lines) == 2
    assert lines[0].startswith("worker/one  idle  mailbox 0")
    assert "worker/two" in dspex_command("top", "--count", "1")
    looks = dspex_command("top", "--count", "2", "--interval", "0.05", "--json", "--sort", "name", "--filter", "WORKER")
    names = [[row["name"] for row in json.loads(look)["rows"]] for look in looks.splitlines()]
    assert names == [["worker/one", "worker/two"]] * 2


def test_ctrl_c_is_a_good_end_of_top(bench: Bench) -> None:
    """Ctrl-C ends a live view with exit status 0, and nothing on standard error."""
    command = [sys.executable, "-m", "dspex", "top", "--interval", "0.05", "--json"]
    with subprocess.Popen(
        command,
        env={**os.environ, "PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert json.loads(process.stdout.readline())["app"] == "shop"
        process.send_signal(signal.SIGINT)
        process.stdout.read()
        assert process.stderr.read() == ""
    assert process.returncode == 0


def test_a_wrong_name_or_application_is_one_line_with_a_hint(bench: Bench) -> None:
    """An unknown actor or application is an error of one line, with the nearest name."""
    assert "did you mean 'worker/one'" in dspex_command("show", "worker/on", status=1)
    assert "did you mean 'worker/one'" in dspex_command("watch", "worker/on", status=1)
    assert "did you mean 'worker/one'" in dspex_command("explain", "worker/on")
    assert "did you mean 'shop'" in dspex_command("ps", "--app", "shp", status=1)
    dspex_command("ps", "--app", "shop", "--config", "x.toml", status=2)


def test_without_an_application_there_is_nothing_to_show() -> None:
    """With none running, what only looks says so."""
    assert "no application with a console runs" in dspex_command("top", status=1)


# -- what can be seen --------------------------------------------------------------------------------


def test_a_stuck_actor_can_still_be_seen(bench: Bench) -> None:
    """While a handler holds the loop, everything but its state is told, and it is called stuck."""
    thread = bench.begin("worker/one", Work("hold"))
    address = bench.address
    stats = ask(address, "stats")
    assert stats["holder"] == "worker/one"
    assert stats["held"] >= 1.0
    assert row_of(address, "worker/one")["state"] == "stuck"
    assert '"state": "stuck"' in json.dumps(ask(address, "tree"))
    assert ask(address, "explain", "worker/one")["verdict"] == "stuck"
    assert "held by worker/one" in str(ask(address, "explain", "worker/two"))
    shown = ask(address, "show", "worker/one")
    assert (shown["state"], shown["state_error"]) == (None, "the engine's loop is held: no actor can answer")
    bench.gate.set()
    thread.join()
    assert ask(address, "stats")["held"] == 0.0
    assert row_of(address, "worker/one")["state"] == "idle"


def test_a_coroutine_that_holds_the_loop_is_found(bench: Bench) -> None:
    """An actor whose coroutine blocks is called stuck too."""
    bench.app.start_child(ChildSpec("b", Blocker, (bench.gate, bench.at_work), name="worker/blocker"))
    thread = bench.begin("worker/blocker", Block())
    assert ask(bench.address, "stats")["holder"] == "worker/blocker"
    bench.gate.set()
    thread.join()


def test_an_actor_that_ended_is_seen_with_its_reason(bench: Bench) -> None:
    """A name that nobody has any more is in the rows, and is explained."""
    bench.app.kill("worker/one")
    asyncio.run(asyncio.wait_for(_restarted(bench), 10))
    address = bench.address
    row = row_of(address, "worker/one")
    assert (row["restarts"], row["reason"], row["incarnation"]) == (1, "killed", 2)
    assert "the last end: killed" in ask(address, "explain", "worker/one")["because"]


def test_a_name_that_backs_off_is_explained(bench: Bench) -> None:
    """While a supervisor pauses before a restart, one sees that, and who waits for the name."""
    away = threading.Event()
    unsubscribe = bench.app.engine.names.subscribe(
        lambda entry, change: away.set() if (entry.name, entry.state) == ("worker/late", "backing_off") else None
    )
    pause = Backoff(initial=60.0, maximum=60.0, jitter=False)
    spec = ChildSpec("late", Worker, (bench.gate, bench.at_work), name="worker/late", backoff=pause)
    bench.app.start_child(spec)
    bench.app.kill("worker/late")
    assert away.wait(10)
    unsubscribe()
    with ThreadPoolExecutor(1) as pool:
        call = pool.submit(bench.app.call, "worker/one", Slowly("worker/late"), timeout=3.0)
        address = bench.address
        seen: list[str] = []
        while not call.done() and not any("1 call waits" in sentence for sentence in seen):
            seen = ask(address, "explain", "worker/late")["because"]
        asker = ask(address, "explain", "worker/one")
        assert isinstance(call.exception(), CallTimeout)
    assert ask(address, "explain", "worker/late")["verdict"] == "backing_off"
    assert seen[0].startswith("it ended, and supervisor/children pauses before it starts it again, for ")
    assert seen[1:] == ["the last end: killed", "1 call waits for it to come back"]
    assert "for worker/late (backing_off) to answer Slowly" in str(asker)
    assert row_of(address, "worker/late")["state"] == "backing_off"


def test_what_changes_while_it_is_read_is_read_again() -> None:
    """A collection that the engine changes meanwhile is read again; other defects are not hidden."""
    tries: list[str] = ["dictionary changed size during iteration", "deque mutated during iteration"]

    def read() -> str:
        if tries:
            raise RuntimeError(tries.pop())
        return "read"

    assert steady(read) == "read"
    tries.append("something else")
    with pytest.raises(RuntimeError, match="something else"):
        steady(read)


async def _restarted(bench: Bench) -> None:
    await bench.app.aio.registry.wait_for("worker/one")


def test_looking_changes_nothing_and_cannot_harm(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nonsense is refused, a defect of the console stays in it, and the application goes on."""
    address = bench.address
    with pytest.raises(UsageError, match="'kill'"):
        ask(address, "kill", "worker/one")
    with pytest.raises(UsageError, match="expected a name"):
        ask(address, "show")
    with pytest.raises(NoProcess, match="nobody ever had"):
        ask(address, "show", "nobody/here")
    for nonsense in (b"\n", b"[]\n", b'{"op": 1}\n', b"\xff\xfe\n"):
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(str(address.path))
            client.sendall(nonsense)
            assert b"expected one line of JSON" in client.makefile("rb").readline()
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(str(address.path))  # and hangs up

    def broken(self: Observer) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(Observer, "tree", broken)
    with pytest.raises(RemoteError, match="ZeroDivisionError"):
        ask(address, "tree")
    assert bench.app.call("worker/one", Work()) == "done"
    assert row_of(address, "worker/one")["handled"] == 1


# -- the socket --------------------------------------------------------------------------------------


@contextmanager
def another(name: str) -> Iterator[dspex.App]:
    """One more application in this process."""
    with dspex.start(config={**IN_MEMORY, "app": {"name": name}}) as app:
        yield app


def test_the_socket_is_the_owners_and_goes_with_the_application(runtime_home: Path) -> None:
    """Folder and socket are owner-only; the socket is named by the application, and removed at its end."""
    with another("my-shop_1"):
        (path,) = runtime_home.iterdir()
        assert path.name == f"my-shop_1-{os.getpid()}.sock"
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        assert stat.S_IMODE(runtime_home.stat().st_mode) == 0o700
        assert [(each.app, each.pid) for each in running()] == [("my-shop_1", os.getpid())]
    assert running() == ()
    assert list(runtime_home.iterdir()) == []


def test_two_applications_must_be_told_apart() -> None:
    """With several running, one has to say which; two of one name in one process have a console each."""
    with another("a"), another("b"), another("b"):
        assert len(running()) == 3
        with pytest.raises(UsageError, match="--app"):
            find()
        found = find("a")
        assert found is not None
        assert ask(found, "stats")["app"] == "a"


def test_what_a_killed_process_left_is_cleaned_up(runtime_home: Path) -> None:
    """The socket of a process that is no more is removed when applications are listed."""
    with subprocess.Popen([sys.executable, "-c", ""]) as process:
        process.wait()
    runtime_home.mkdir(mode=0o700)
    stale = runtime_home / f"shop-{process.pid}.sock"
    with socket.socket(socket.AF_UNIX) as left:
        left.bind(str(stale))
    assert running() == ()
    assert not stale.exists()
    with pytest.raises(ApplicationDown, match="does not answer"):
        ask(Address("shop", process.pid, stale), "tree")


def test_a_folder_that_others_may_enter_is_refused(runtime_home: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Where others could have prepared the folder there is no console: a warning, and the application runs."""
    runtime_home.mkdir()
    runtime_home.chmod(0o755)
    with caplog.at_level(logging.WARNING, "dspex.console"), another("shop") as app:
        assert app.health().ok
    assert "only this user may enter" in caplog.text
    assert list(runtime_home.iterdir()) == []
    with pytest.raises(UsageError, match="only this user may enter"):
        running()


def test_another_user_is_turned_away(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who is not the owner gets no answer."""
    address = bench.address
    monkeypatch.setattr("dspex.supervisors.app.console.server.is_owner", lambda connection: False)
    with pytest.raises(ApplicationDown, match="does not answer"):
        ask(address, "tree")


@pytest.mark.skipif(not hasattr(socket, "SO_PEERCRED"), reason="this system does not tell who is at the other end")
def test_the_owner_is_told_from_others(monkeypatch: pytest.MonkeyPatch) -> None:
    """The system says who is at the other end."""
    one, other = socket.socketpair(socket.AF_UNIX)
    with one, other:
        assert sockets.is_owner(one)
        monkeypatch.setattr(os, "geteuid", lambda: 12345)
        assert not sockets.is_owner(one)


def test_without_a_runtime_folder_the_temporary_one_serves(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the system has no runtime folder for users, the sockets stand in the folder for temporary files."""
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path / "missing"))
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    with another("shop"):
        assert [each.path.parent for each in running()] == [tmp_path / f"dspex-{os.geteuid()}"]


def test_it_can_be_switched_off(runtime_home: Path) -> None:
    """With `app.console = false` there is no socket and no thread."""
    with dspex.start(config={**IN_MEMORY, "app": {"console": False}}):
        assert running() == ()
        assert not runtime_home.exists()
        assert [each.name for each in threading.enumerate() if each.name.startswith("dspex-console")] == []


def test_an_application_on_the_callers_loop_has_one_too() -> None:
    """On the caller's own loop, a blocked loop is seen from outside; the console ends with the application."""

    async def main() -> dict[str, Any]:
        async with dspex.astart(config={**IN_MEMORY, "app": {"name": "here"}}):
            # The command runs to its end while this very loop stands still.
            return json.loads(dspex_command("top", "--count", "1", "--json", "--filter", "core/"))  # type: ignore[no-any-return]

    stats = asyncio.run(main())
    assert (stats["app"], stats["holder"]) == ("here", None)
    assert stats["held"] >= 1.0
    assert {row["name"] for row in stats["rows"]} >= {"core/events", "core/registry"}
    assert running() == ()
