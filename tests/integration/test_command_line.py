"""The command line, as a process: what it prints, where, and with which exit status."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import httpx
import pytest

import dspex
from kit.application import answering, provider_of
from kit.http_server import HttpServer

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A folder with a good configuration, whose event file is in it too."""
    (tmp_path / "dspex.toml").write_text(
        f"""
        [events]
        path = "{tmp_path / "events.db"}"
        [ai.providers.local]
        kind = "openai"
        base_url = "http://127.0.0.1:9/v1"
        [modules.qa]
        signature = "question -> answer"
        provider = "local"
        """
    )
    return tmp_path


def environment(home: Path) -> dict[str, str]:
    """Of the process: nothing of this machine's own configuration."""
    own = {name: value for name, value in os.environ.items() if not name.startswith("DSPEX_")}
    return {
        **own,
        "PYTHONPATH": str(ROOT),
        "XDG_STATE_HOME": str(home),
        "XDG_RUNTIME_DIR": str(home),
        "NO_COLOR": "1",
        "COLUMNS": "200",
    }


def dspex_command(home: Path, *arguments: str, columns: int = 200) -> subprocess.CompletedProcess[str]:
    """Run a command to its end; it never shows a traceback."""
    command = [sys.executable, "-m", "dspex", *arguments]
    own = {**environment(home), "COLUMNS": str(columns)}
    done = subprocess.run(command, cwd=home, env=own, capture_output=True, text=True, timeout=50, check=False)
    assert "Traceback" not in done.stderr + done.stdout
    return done


def test_an_import_path_is_looked_for_in_the_folder_at_hand(tmp_path: Path) -> None:
    """An installed ``dspex``, which like ``python -P`` does not begin with that folder, finds a program there."""
    (tmp_path / "at_hand.py").write_text(
        "import dspex\n\n\nclass Chain(dspex.Module):\n    ask = dspex.Predict('q -> a')\n\n"
        "    async def forward(self, q):\n        return await self.ask(q=q)\n"
    )
    (tmp_path / "dspex.toml").write_text(
        "[events]\nin_memory = true\n[ai.providers.local]\nkind = 'openai'\nbase_url = 'http://127.0.0.1:1/v1'\n"
        "[modules.chain]\nkind = 'program'\nsignature = 'q -> a'\nprogram = 'at_hand:Chain'\nprovider = 'local'\n"
    )
    command = [sys.executable, "-P", "-m", "dspex", "ps", "-c", "dspex.toml", "--json"]
    own = environment(tmp_path)
    done = subprocess.run(command, cwd=tmp_path, env=own, capture_output=True, text=True, timeout=50, check=True)
    states = {row["name"]: row["state"] for row in json.loads(done.stdout)}
    assert states["module/chain"] == "running"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_run_ends_well_when_told(home: Path, number: signal.Signals) -> None:
    """`run` shows the tree and what will be missing; a signal stops it cleanly: status 0, all events in the file."""
    file = home / "dspex.toml"
    file.write_text(file.read_text() + '[modules.qb]\nsignature = "question -> answer"\nprovider = "loacl"\n')
    process = subprocess.Popen(
        [sys.executable, "-m", "dspex", "run", "-c", "dspex.toml", "--drain", "1"],
        cwd=home,
        env={**environment(home), "PYTHONUNBUFFERED": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    watchdog = threading.Timer(50, process.kill)
    watchdog.start()
    with process:
        assert process.stdout is not None
        assert process.stderr is not None
        shown = ""
        while "supervisor/children" not in shown:
            shown += process.stdout.readline() or pytest.fail("it ended by itself")
        process.send_signal(number)
        errors = process.stderr.read()
    watchdog.cancel()
    said = "one of the configured providers (local), got 'loacl', at modules.qb.provider; did you mean 'local'?"
    # A busy machine may have it say more, such as that a handler took long; but nothing went wrong.
    assert process.returncode == 0
    assert f"dspex: warning: expected {said}" in errors.splitlines()
    assert "Traceback" not in errors
    assert "dspex: error" not in errors
    assert "module/qa" in shown
    found = dspex_command(home, "events", "-c", "dspex.toml", "--json", "--type", "registered")
    assert "module/qa" in found.stdout


def test_run_tells_where_the_gateway_listens(home: Path) -> None:
    """At port 0 only the command itself can tell the address: it is printed, and answers."""
    file = home / "dspex.toml"
    file.write_text(file.read_text() + "[gateway]\nenabled = true\nport = 0\n")
    process = subprocess.Popen(
        [sys.executable, "-m", "dspex", "run", "-c", "dspex.toml"],
        cwd=home,
        env={**environment(home), "PYTHONUNBUFFERED": "1"},
        stdout=subprocess.PIPE,
        text=True,
    )
    watchdog = threading.Timer(50, process.kill)
    watchdog.start()
    with process:
        assert process.stdout is not None
        line = ""
        while not line.startswith("gateway: "):
            line = process.stdout.readline() or pytest.fail("it ended by itself")
        answer = httpx.get(f"{line.removeprefix('gateway: ').strip()}/health")
        process.send_signal(signal.SIGTERM)
    watchdog.cancel()
    assert (process.returncode, answer.status_code) == (0, 200)


def test_tree_shows_the_tree_and_leaves_nothing(home: Path) -> None:
    """`tree` prints text or JSON, and does not touch the event file."""
    shown = dspex_command(home, "tree", "-c", "dspex.toml")
    assert (shown.returncode, shown.stderr) == (0, "")
    assert "├── module/qa  [ModuleActor]  idle" in shown.stdout
    node = json.loads(dspex_command(home, "tree", "-c", "dspex.toml", "--json").stdout)
    assert node["label"] == "supervisor/application"
    assert [child["label"] for child in node["children"]][:2] == ["supervisor/core", "supervisor/providers"]
    assert not (home / "events.db").exists()


def test_ps_cuts_no_name_short(home: Path) -> None:
    """In 80 columns, which a pipe counts as, each name is whole."""
    shown = dspex_command(home, "ps", "-c", "dspex.toml", columns=80)
    assert all(name in shown.stdout for name in ("supervisor/provider-pool", "supervisor/provider/local"))


def test_ps_lists_the_names(home: Path) -> None:
    """`ps` prints a table, or one JSON object for each name."""
    shown = dspex_command(home, "ps", "-c", "dspex.toml")
    assert shown.returncode == 0
    assert "module/qa" in shown.stdout
    rows = json.loads(dspex_command(home, "ps", "-c", "dspex.toml", "--json").stdout)
    assert {"name": "provider/local", "state": "running"}.items() <= next(
        row for row in rows if row["name"] == "provider/local"
    ).items()


def test_the_configuration_is_found_by_its_variable(home: Path) -> None:
    """Without `--config` the file is the one that DSPEX_CONFIG names."""
    done = subprocess.run(
        [sys.executable, "-m", "dspex", "ps", "--json"],
        cwd="/",
        env={**environment(home), "DSPEX_CONFIG": str(home / "dspex.toml")},
        capture_output=True,
        text=True,
        timeout=50,
        check=True,
    )
    assert "module/qa" in done.stdout


def test_events_reads_what_an_application_wrote(home: Path) -> None:
    """`events` reads the file of an application that ran: by type, by trace, newest first, as table or JSON lines."""
    with HttpServer(answering()) as server:
        with dspex.start(home / "dspex.toml") as app:
            app.configure_provider("local", **provider_of(server))
            trace = app.module("qa")(question="?").info.correlation_id
            app.module("qa")(question="?")
            # While it runs, too: several processes may have the file open.
            running = dspex_command(home, "events", "-c", "dspex.toml", "--type", "lm_response", "--json")
        assert running.stdout.count("\n") == 2
    assert trace is not None
    shown = dspex_command(home, "events", "-c", "dspex.toml", "--trace", trace)
    assert shown.returncode == 0
    assert [word for word in ("module_execution", "lm_response", "lm_request") if word in shown.stdout] == [
        "module_execution",
        "lm_response",
        "lm_request",
    ]
    lines = dspex_command(home, "events", "-c", "dspex.toml", "--trace", trace, "--json", "-n", "1").stdout.splitlines()
    assert [json.loads(line)["type"] for line in lines] == ["module_execution"]


def test_events_of_an_application_that_keeps_them_in_memory(home: Path) -> None:
    """`events` says that there are none to read, and does not show another application's."""
    with dspex.start(home / "dspex.toml"):
        pass
    config = (home / "dspex.toml").read_text()
    (home / "memory.toml").write_text(config.replace("[events]", "[events]\nin_memory = true", 1))
    done = dspex_command(home, "events", "-c", "memory.toml")
    assert (done.returncode, done.stdout) == (1, "")
    assert "events.in_memory" in done.stderr


def test_a_misspelt_type_of_event_gets_a_hint(home: Path) -> None:
    """`events --type` says on standard error that it knows no such type, and the nearest one; others it takes."""
    with dspex.start(home / "dspex.toml"):
        pass
    missed = dspex_command(home, "events", "-c", "dspex.toml", "--type", "registred", "--json")
    assert (missed.returncode, missed.stdout) == (0, "")
    assert missed.stderr == "dspex: no event of type 'registred'; did you mean 'registered'?\n"
    assert dspex_command(home, "events", "-c", "dspex.toml", "--type", "lm_response").stderr == ""


def test_a_good_configuration_has_no_problems(home: Path) -> None:
    """`check-config` says so, and exits with 0."""
    done = dspex_command(home, "check-config", "dspex.toml")
    assert (done.returncode, done.stdout) == (0, "dspex.toml: no problems found\n")
    assert json.loads(dspex_command(home, "check-config", "dspex.toml", "--json").stdout) == []


def test_a_bad_configuration_is_told_all_its_problems(home: Path) -> None:
    """Each problem is a line with a hint; the exit status is 1; a warning alone is no failure."""
    bad = home / "bad.toml"
    bad.write_text('[evnts]\n[ai.providers.local]\nkind = "openai"\ntimeout = "soon"\nbase_ulr = "x"\n')
    done = dspex_command(home, "check-config", "bad.toml")
    assert done.returncode == 1
    for hint in ("did you mean 'events'", "did you mean 'base_url'", "ai.providers.local.timeout"):
        assert hint in done.stdout
    problems = json.loads(dspex_command(home, "check-config", "bad.toml", "--json").stdout)
    assert {problem["path"] for problem in problems} >= {"evnts", "ai.providers.local.timeout"}
    bad.write_text('[ai.providers.local]\nkind = "openai"\napi_key = {system = "NO_SUCH_VARIABLE"}\n')
    warned = dspex_command(home, "check-config", "bad.toml")
    assert warned.returncode == 0
    assert warned.stdout.startswith("warning: expected ")
    assert "NO_SUCH_VARIABLE" in warned.stdout


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("run", "-c", "bad.toml"), "did you mean 'base_url'"),
        (("tree", "-c", "nowhere.toml"), "nowhere.toml"),
        (("events", "-c", "dspex.toml"), "no application has written there"),
        (("events", "-c", "corrupt.toml"), "corrupt.db"),
        (("run", "-c", "corrupt.toml"), "corrupt.db"),
        (("events", "-c", "corrupt.toml", "-n", "0"), "limit"),
    ],
)
def test_an_error_is_one_line_on_standard_error(home: Path, arguments: tuple[str, ...], said: str) -> None:
    """A dspex error names what is wrong, on standard error, with exit status 1."""
    (home / "bad.toml").write_text('[ai.providers.local]\nkind = "openai"\nbase_ulr = "x"\n')
    (home / "corrupt.toml").write_text(f'[events]\npath = "{home / "corrupt.db"}"\n')
    (home / "corrupt.db").write_bytes(b"this is no database " * 1000)
    done = dspex_command(home, *arguments)
    assert (done.returncode, done.stdout) == (1, "")
    last = done.stderr.splitlines()[-1]
    assert last.startswith("dspex: ")
    assert said in last


def test_the_end_of_the_application_ends_run(home: Path) -> None:
    """An application that ends by itself ends `run` with exit status 1 and the reason."""
    script = (
        "import dspex.__main__ as m\n"
        "m._tell_gateway = lambda app: app.kill('supervisor/application')\n"  # the last that it does before it waits
        "m.main()\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, "run", "-c", "dspex.toml"],
        cwd=home,
        env=environment(home),
        capture_output=True,
        text=True,
        timeout=50,
        check=False,
    )
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1] == "dspex: the application ended: killed"


def test_help_and_unknown_commands(home: Path) -> None:
    """Help names every command; an unknown one is a usage error."""
    shown = dspex_command(home, "--help")
    assert all(command in shown.stdout for command in ("run", "tree", "ps", "events", "check-config"))
    assert dspex_command(home, "tre").returncode == 2
