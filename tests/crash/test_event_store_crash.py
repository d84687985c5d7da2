"""The event log against real ends: kill -9, two processes at once, a full disk. What was acknowledged is there."""

from __future__ import annotations

import resource
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from dspex.actors.events.query import EventQuery
from dspex.actors.journals.sqlite import SqliteJournal
from dspex.actors.journals.sqlite_file import create_private
from kit.event_makers import make

ROOT = Path(__file__).resolve().parents[2]

# Each child appends, and prints an id only when it was acknowledged.
PRELUDE = """
import itertools, resource, sys
from dspex.actors.events.kinds import CustomEvent
from dspex.actors.journals.sqlite import SqliteJournal
from dspex.runtime.errors import StoreUnavailable
path, name = sys.argv[1:3]
def make(n, text=""):
    return CustomEvent(id=f"{name}-{n:06}", type="note", time=float(n), data={"text": text})
journal = SqliteJournal(path)
print("ready", flush=True)
"""
SINGLES = """
for n in itertools.count():
    journal.append([make(n)]).result()
    print(f"{name}-{n:06}", flush=True)
"""
# Many batches in flight; each acknowledged batch is printed whole.
BATCHES = """
for start in itertools.count(0, 200):
    firsts = range(start, start + 200, 20)
    futures = [journal.append([make(n, "x" * 200) for n in range(k, k + 20)]) for k in firsts]
    for k, future in zip(firsts, futures):
        future.result()
        print("\\n".join(f"{name}-{n:06}" for n in range(k, k + 20)), flush=True)
"""
COUNTED = """
sys.stdin.readline()
for n in range(300):
    journal.append([make(n)]).result()
journal.close()
print("done", flush=True)
"""
# The system refuses the file any growth, as a full disk does; then there is room again.
FULL_DISK = """
acked, refused = [], 0
def append(n, text):
    global refused
    try:
        journal.append([make(n, text), make(n + 500_000, text)]).result()
        acked.append(n)
    except StoreUnavailable as error:
        assert error.cause in ("full", "io"), error.cause
        refused += 1
soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
resource.setrlimit(resource.RLIMIT_FSIZE, (300_000, hard))
for n in range(100):
    append(n, "x" * 5000)
assert refused, "the limit was never met"
resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
append(1000, "y")
assert acked[-1] == 1000, "not usable again"
print(refused, *acked, flush=True)
journal.close()
"""


@contextmanager
def child(script: str, path: Path, name: str = "a") -> Iterator[subprocess.Popen[str]]:
    """A process that runs a script; gone at the end."""
    process = subprocess.Popen(
        [sys.executable, "-c", PRELUDE + script, str(path), name],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        yield process
    finally:
        process.kill()
        process.communicate()


def stored_ids(path: Path) -> list[str]:
    """All ids in a log, oldest first, after opening it as the next process would."""
    journal = SqliteJournal(path)
    try:
        found: list[str] = []
        query = EventQuery.of(order="oldest", limit=100_000)
        found = [event.id for event in journal.query(query).events]
    finally:
        journal.close()
    return found


def output(process: subprocess.Popen[str], lines: int) -> list[str]:
    """So many lines of a child's output."""
    assert process.stdout is not None
    return [process.stdout.readline().strip() for _ in range(lines)]


@pytest.mark.parametrize(("script", "lines"), [(SINGLES, 1), (SINGLES, 50), (BATCHES, 1), (BATCHES, 2000)])
def test_what_was_acknowledged_survives_kill_9(tmp_path: Path, script: str, lines: int) -> None:
    """Killed while it appends: each acknowledged event is there, once, in order; no batch is there in part."""
    path = tmp_path / "events.db"
    with child(script, path) as process:
        acked = output(process, lines)
        process.send_signal(signal.SIGKILL)
        rest, _ = process.communicate()
        assert process.returncode == -signal.SIGKILL
    # The last line may have been cut off by the kill.
    acked += [line for line in rest.splitlines() if len(line) == len("a-000000")]
    stored = stored_ids(path)
    assert len(acked) >= lines
    assert set(acked) <= set(stored)
    assert stored == [f"a-{n:06}" for n in range(len(stored))]
    if script is BATCHES:
        assert len(stored) % 20 == 0


def test_a_log_is_appended_to_after_a_kill(tmp_path: Path) -> None:
    """Kill after kill, the next process goes on where the log ends."""
    path = tmp_path / "events.db"
    acked: list[str] = []
    for name in "abc":
        with child(SINGLES, path, name) as process:
            acked += output(process, 20)
    stored = stored_ids(path)
    assert set(acked) <= set(stored)
    assert [each[0] for each in stored] == sorted(each[0] for each in stored)


def test_two_processes_append_to_one_file(tmp_path: Path) -> None:
    """Both open a new file and append at once: nothing is lost, each process's events keep their order."""
    path = tmp_path / "events.db"
    with child(COUNTED, path, "a") as first, child(COUNTED, path, "b") as second:
        for process in (first, second):
            assert process.stdin is not None
            process.stdin.write("go\n")
            process.stdin.flush()
        for process in (first, second):
            assert output(process, 1) == ["done"]
    stored = stored_ids(path)
    assert len(stored) == 600
    for name in "ab":
        assert [each for each in stored if each[0] == name] == [f"{name}-{n:06}" for n in range(300)]


def test_many_processes_open_a_new_file_at_once(tmp_path: Path) -> None:
    """Whoever comes first makes the tables; the others wait instead of failing."""
    path = tmp_path / "events.db"
    script = "import sys\n" + PRELUDE.replace("journal =", 'print("up", flush=True); sys.stdin.readline()\njournal =')
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", script, str(path), str(n)],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for n in range(4)
    ]
    try:
        for process in processes:
            assert output(process, 1) == ["up"]
        for process in processes:
            assert process.stdin is not None
            process.stdin.write("go\n")
            process.stdin.flush()
        assert [output(process, 1) for process in processes] == [["ready"]] * 4
    finally:
        for process in processes:
            process.kill()
            process.communicate()
    assert stored_ids(path) == []


@pytest.mark.skipif(not hasattr(resource, "RLIMIT_FSIZE"), reason="the system has no limit on the size of files")
def test_a_full_disk_loses_nothing_and_is_survived(tmp_path: Path) -> None:
    """While there is no room appends fail typed and whole; with room again the same journal works."""
    path = tmp_path / "events.db"
    with child(FULL_DISK, path) as process:
        refused, *acked = output(process, 1)[0].split()
        process.communicate(timeout=30)
        assert process.returncode == 0
    assert int(refused) > 0
    wanted = {f"a-{int(n) + more:06}" for n in acked for more in (0, 500_000)}
    assert set(stored_ids(path)) == wanted


def test_a_second_open_in_one_process_keeps_the_locks_of_the_first(tmp_path: Path) -> None:
    """A store restarted while the killed one still holds the file: another process's close takes nothing away."""
    path = tmp_path / "events.db"
    look = (
        "from dspex.actors.journals.sqlite import SqliteJournal\n"
        f"journal = SqliteJournal({str(path)!r}); print(journal.stats().events); journal.close()"
    )

    def others_see() -> str:
        return subprocess.run(
            [sys.executable, "-c", look], check=True, timeout=30, capture_output=True, text=True
        ).stdout

    first = SqliteJournal(path)
    try:
        create_private(path)  # what every opening of the log begins with
        assert others_see().strip() == "0"
        first.append([make(id="kept")]).result(10)
        assert others_see().strip() == "1"
    finally:
        first.close()
