"""The journal of a run and the calls that go through it: acknowledged is kept, kept is not paid for again."""

from __future__ import annotations

import asyncio
import math
import sqlite3
import threading
import time
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from dspex.actors.lm.values import LMRequest, LMResponse, Message, Usage
from dspex.actors.providers.messages import Complete
from dspex.actors.runs import journal as run_journal
from dspex.actors.runs.journal import RunJournal
from dspex.actors.runs.messages import (
    Entry,
    JournalInfo,
    JournalStatus,
    Paid,
    Recall,
    RecallAll,
    Record,
    Wished,
)
from dspex.actors.runs.owner import Owner
from dspex.actors.runs.recorded_call import recorded
from dspex.actors.runs.scope import RunScope
from dspex.actors.runs.store import RunStore
from dspex.runtime.errors import ActorDied, LMServerError, RunConflict, StoreError, StoreUnavailable
from dspex.runtime.gen_server import GenServer, NoReply, call, info
from kit.engine import Lab, in_lab

JOURNAL = "run-journal/r"
SCOPE = RunScope("r", "baseline", "3")


@pytest.fixture
def store(tmp_path: Path) -> Iterator[RunStore]:
    """A file of runs."""
    store = RunStore(tmp_path / "app.runs.db")
    yield store
    store.close()


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine that is busy does not make a slow disk, and no turn of the loop shorter."""
    monkeypatch.setattr(run_journal, "_SLOW", math.inf)
    monkeypatch.setattr(time, "perf_counter", lambda: 0.0)


async def journal(lab: Lab, store: RunStore) -> Any:
    """The journal of the run ``r``."""
    return await lab.start(RunJournal, "r", "optimization", {"module": "qa"}, store, name=JOURNAL)


class Asker(GenServer):
    """Makes recorded calls to a model of its own, and counts them."""

    def init(self, answer: Any) -> None:
        self.answer = answer
        self.sent: list[Complete] = []

    @call
    def ask(self, msg: tuple) -> NoReply:  # type: ignore[type-arg]
        """(scope, ordinal, prompt) -> what the model said, and how often it was asked by now."""
        return self.serve(self._ask(*msg))

    async def _ask(self, scope: RunScope, ordinal: int, prompt: str) -> tuple[LMResponse, int]:
        async def send(ask: Complete) -> LMResponse:
            self.sent.append(ask)
            return self.answer(ask)  # type: ignore[no-any-return]

        wanted = Complete(LMRequest((Message("user", prompt),)), accounts=("module/qa",))
        return await recorded(self, scope, ordinal, wanted, send), len(self.sent)

    @call
    def accounts(self, _: str) -> list[tuple[str, ...]]:
        """What paid for each request that was sent."""
        return [ask.accounts for ask in self.sent]


def answer(ask: Complete) -> LMResponse:
    """An answer that costs."""
    return LMResponse(
        text=f"to {ask.request.messages[0].content}",
        model="m",
        finish_reason="stop",
        provider="local",
        usage=Usage(5, 2, 7, source="provider"),
        cost=Decimal("0.5"),
    )


def test_what_is_acknowledged_is_in_the_file(store: RunStore) -> None:
    """When a call to record is answered, the entries, the sum and the progress can be read by anybody."""

    async def run(lab: Lab) -> None:
        await journal(lab, store)
        record = Record((Entry("row", "a", "1"),), Paid(1, 2, Decimal(3), 0), {"step": 1}, "paused")
        await lab.call(JOURNAL, record)
        found = store.get("r")
        assert (found.paid, found.progress, found.state) == (record.paid, {"step": 1}, "paused")
        assert store.read("r", "row", "a") == "1"
        assert await lab.call(JOURNAL, Recall("row", "a")) == "1"
        assert await lab.call(JOURNAL, Recall("row", "b")) is None
        assert await lab.call(JOURNAL, RecallAll("row")) == [Entry("row", "a", "1")]

    in_lab(run, virtual=False)


def test_many_at_once_are_all_kept(store: RunStore) -> None:
    """What gathers while the file is written goes together; every one is answered, and the sum is right."""

    async def run(lab: Lab) -> None:
        await journal(lab, store)
        records = [Record((Entry("call", str(n), str(n)),), Paid(1, n)) for n in range(200)]
        await asyncio.gather(*(lab.call(JOURNAL, record) for record in records))
        assert len(store.keys("r")) == 200
        status: JournalStatus = await lab.call(JOURNAL, JournalInfo())
        assert status.paid == store.get("r").paid == Paid(200, sum(range(200)))
        assert status.recorded == 200

    in_lab(run, virtual=False)


def small(count: int) -> list[Record]:
    """Records with an entry each."""
    return [Record((Entry("call", str(number), "{}"),)) for number in range(count)]


class Writes:
    """What a store was asked to write: how many entries, and whether it might wait.

    Args:
        store: whose.
        patch: sets it in place.
        busy: whether what may not wait is refused.
    """

    def __init__(self, store: RunStore, patch: pytest.MonkeyPatch, *, busy: bool = False) -> None:
        self.done: list[tuple[int, bool]] = []
        self._write, self._busy = store.write, busy
        patch.setattr(store, "write", self._counted)

    def _counted(self, id: str, entries: Any, *, wait: bool, **more: Any) -> Any:
        if self._busy and not wait:
            raise StoreUnavailable("in use")
        wish = self._write(id, entries, wait=wait, **more)
        self.done.append((len(entries), wait))
        return wish


def test_a_small_record_is_written_at_once(store: RunStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """No thread is asked, and it is kept: another connection sees it when the answer is there."""

    async def run(lab: Lab) -> None:
        await journal(lab, store)
        writes = Writes(store, monkeypatch)
        for record in small(3):
            await lab.call(JOURNAL, record)
        assert writes.done == [(1, False)] * 3
        assert store.path is not None
        other = RunStore(store.path)
        assert {key for _, key in other.keys("r")} == {"0", "1", "2"}
        other.close()

    in_lab(run, virtual=False)


def test_what_may_take_long_is_a_threads(store: RunStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """A large record; and one after so many that SQLite's log is to be brought into the file."""

    async def run(lab: Lab) -> None:
        await journal(lab, store)
        writes = Writes(store, monkeypatch)
        half = Record((Entry("call", "half", "x" * 40_000),))
        await lab.call(JOURNAL, Record((Entry("call", "large", "x" * 80_000),)))
        assert writes.done.pop() == (1, True)
        for _ in range(2 * 4 * 1024 * 1024 // 40_000):
            await lab.call(JOURNAL, half)
        assert [wait for _, wait in writes.done].count(True) == 1
        assert store.path is not None
        assert store.path.with_name(store.path.name + "-wal").stat().st_size < 16 * 1024 * 1024

    in_lab(run, virtual=False)


def test_the_log_stays_small_whatever_small_records_come(store: RunStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each changes whole pages: it is these that are counted."""

    async def run(lab: Lab) -> None:
        await journal(lab, store)
        writes = Writes(store, monkeypatch)
        for record in small(1500):
            await lab.call(JOURNAL, record)
        assert 1 <= [wait for _, wait in writes.done].count(True) <= 15
        assert store.path is not None
        assert store.path.with_name(store.path.name + "-wal").stat().st_size < 16 * 1024 * 1024

    in_lab(run, virtual=False)


def test_a_large_plan_is_not_written_again_with_each_record(store: RunStore) -> None:
    """It holds the dataset: to write all of it for a score would hold up who is on the loop."""

    async def run(lab: Lab) -> None:
        await lab.start(RunJournal, "r", "evaluation", {"dataset": "x" * 1_000_000}, store, name=JOURNAL)
        assert store.path is not None
        log = store.path.with_name(store.path.name + "-wal")
        before = log.stat().st_size
        for record in small(20):
            await lab.call(JOURNAL, record)
        assert log.stat().st_size - before < 1_000_000

    in_lab(run, virtual=False)


def test_a_slow_disk_is_left_to_threads(store: RunStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """For a while: whoever else is on the loop does not wait for it."""

    async def run(lab: Lab) -> None:
        await journal(lab, store)
        writes = Writes(store, monkeypatch)
        slow = store.write

        def write(*args: Any, **more: Any) -> Any:
            threading.Event().wait(0.03)
            return slow(*args, **more)

        monkeypatch.setattr(run_journal, "_PATIENCE", 60.0)
        with monkeypatch.context() as patch:
            patch.setattr(run_journal, "_SLOW", 0.02)
            patch.setattr(store, "write", write)
            await lab.call(JOURNAL, small(1)[0])
        await lab.call(JOURNAL, small(1)[0])
        assert writes.done == [(1, False), (1, True)]

    in_lab(run, virtual=False)


def test_a_file_that_is_in_use_is_waited_for_elsewhere(store: RunStore) -> None:
    """While another process writes, the record waits, and the loop does not; what comes later is written later."""

    async def run(lab: Lab) -> None:
        await journal(lab, store)
        assert store.path is not None
        other = sqlite3.connect(store.path, isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        first, second = (asyncio.ensure_future(lab.call(JOURNAL, record)) for record in small(2))
        assert (await lab.call(JOURNAL, JournalInfo())).recorded == 0
        other.execute("ROLLBACK")
        other.close()
        await asyncio.gather(first, second)
        assert [entry.key for entry in store.entries("r", "call")] == ["0", "1"]

    in_lab(run, virtual=False)


def test_what_comes_together_is_one_transaction(store: RunStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """If a thread is to write it: the first does not go alone."""

    async def run(lab: Lab) -> None:
        await journal(lab, store)
        writes = Writes(store, monkeypatch, busy=True)
        await asyncio.gather(*(lab.call(JOURNAL, record) for record in small(5)))
        assert writes.done == [(5, True)]

    in_lab(run, virtual=False)


def test_a_journal_that_crashed_goes_on(store: RunStore) -> None:
    """Killed, and started again in the same application, it has all that was acknowledged."""

    async def run(lab: Lab) -> None:
        address = await journal(lab, store)
        await lab.call(JOURNAL, Record((Entry("call", "a", "1"),), Paid(1)))
        address.cell.signal("kill", None)
        await lab.down(address)
        await journal(lab, store)
        assert await lab.call(JOURNAL, Recall("call", "a")) == "1"
        assert (await lab.call(JOURNAL, JournalInfo())).paid == Paid(1)

    in_lab(run, virtual=False)


def test_a_thread_that_was_left_behind_writes_before_its_heir_or_not_at_all(
    store: RunStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A journal killed while it commits leaves a thread: what that writes late would take back what was paid since."""

    async def run(lab: Lab) -> None:
        arrived, go, over = threading.Event(), threading.Event(), threading.Event()
        write = store.write
        refused: list[RunConflict] = []

        def late(*args: Any, wait: bool, **more: Any) -> Any:
            if not wait:
                raise StoreUnavailable("in use")
            arrived.set()
            go.wait(10)
            try:
                return write(*args, **more)
            except RunConflict as error:
                refused.append(error)
                raise
            finally:
                over.set()

        address = await journal(lab, store)
        await lab.call(JOURNAL, Record((Entry("call", "a", "1"),), Paid(1)))
        with monkeypatch.context() as patch:
            patch.setattr(store, "write", late)
            waits = asyncio.ensure_future(lab.error(JOURNAL, Record((Entry("call", "b", "1"),), Paid(1))))
            await asyncio.to_thread(arrived.wait, 10)
            address.cell.signal("kill", None)
            await lab.down(address)
            await waits
        await journal(lab, store)
        await lab.call(JOURNAL, Record((Entry("call", "c", "1"), Entry("call", "d", "1")), Paid(2)))
        go.set()
        await asyncio.to_thread(over.wait, 10)
        assert len(refused) == 1
        assert store.get("r").paid == (await lab.call(JOURNAL, JournalInfo())).paid == Paid(3)
        assert {key for _, key in store.keys("r")} == {"a", "c", "d"}

    in_lab(run, virtual=False)


def test_what_is_not_json_is_refused(store: RunStore) -> None:
    """Whoever hands it in is told, and does not wait for ever; the journal goes on."""

    async def run(lab: Lab) -> None:
        await journal(lab, store)
        error = await lab.error(JOURNAL, Record(progress={"step": object()}))
        assert isinstance(error, StoreError)
        assert "expected what is JSON, got Object of type object" in error.message
        await lab.call(JOURNAL, Record(progress={"step": 1}))
        assert store.get("r").progress == {"step": 1}

    in_lab(run, virtual=False)


def test_a_defect_ends_the_journal_and_who_waits(store: RunStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """No caller is left without an answer."""

    async def run(lab: Lab) -> None:
        address = await journal(lab, store)

        def defect(*args: Any, **more: Any) -> None:
            raise ZeroDivisionError("a bug")

        monkeypatch.setattr(store, "write", defect)
        assert isinstance(await lab.error(JOURNAL, Record()), ActorDied)
        await lab.down(address)

    in_lab(run, virtual=False)


def test_what_waits_is_written_at_the_end(store: RunStore) -> None:
    """Told to stop, it writes what it was given, and answers."""

    async def run(lab: Lab) -> None:
        address = await journal(lab, store)
        waiting = [asyncio.ensure_future(lab.call(JOURNAL, Record((Entry("call", str(n), "1"),)))) for n in range(3)]
        await asyncio.sleep(0)
        await lab.order_down(address)
        assert await asyncio.gather(*waiting) == [None] * 3
        assert len(store.keys("r")) == 3

    in_lab(run, virtual=False)


def test_the_loser_of_a_run_hears_it(store: RunStore, tmp_path: Path) -> None:
    """Once another process has taken the run over, nothing more is written, and the caller is told why."""

    async def run(lab: Lab) -> None:
        await journal(lab, store)
        store.release("r")
        heir = RunStore(tmp_path / "app.runs.db", owner=Owner(Owner.myself().host, 1, "x", "heir"))
        heir.begin("r", "optimization", {})
        error = await lab.error(JOURNAL, Record((Entry("call", "a", "1"),)))
        assert isinstance(error, RunConflict)
        assert store.keys("r") == set()
        heir.close()

    in_lab(run, virtual=False)


def test_a_disk_that_fails_is_told_to_each_caller(store: RunStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """A transaction that fails fails for everybody in it; the next one may succeed."""

    async def run(lab: Lab) -> None:
        await journal(lab, store)
        with monkeypatch.context() as patch:

            def full(*args: Any, **more: Any) -> None:
                raise StoreUnavailable("expected room, got a full disk", cause="full")

            patch.setattr(store, "write", full)
            assert isinstance(await lab.error(JOURNAL, Record((Entry("call", "a", "1"),))), StoreUnavailable)
        assert await lab.call(JOURNAL, Recall("call", "a")) is None
        await lab.call(JOURNAL, Record((Entry("call", "a", "2"),)))
        assert store.read("r", "call", "a") == "2"

    in_lab(run, virtual=False)


class Told(GenServer):
    """A run that keeps what it is told."""

    def init(self, news: asyncio.Queue[Any]) -> None:
        self.news = news

    @info
    def wished(self, msg: Wished) -> None:
        """Keep it."""
        self.news.put_nowait(msg.wish)


def test_a_wish_reaches_the_run(store: RunStore) -> None:
    """What another process asks of a run arrives with the next transaction."""

    async def run(lab: Lab) -> None:
        news: asyncio.Queue[Any] = asyncio.Queue()
        await journal(lab, store)
        await lab.start(Told, news, name="run/r")
        store.wish("r", "cancel")
        await lab.call(JOURNAL, Record())
        assert await news.get() == "cancel"

    in_lab(run, virtual=False)


def test_a_wish_waits_for_a_run_that_is_restarted(store: RunStore) -> None:
    """What is asked while nobody is there to hear it is told to the next incarnation."""

    async def run(lab: Lab) -> None:
        news: asyncio.Queue[Any] = asyncio.Queue()
        await journal(lab, store)
        store.wish("r", "pause")
        await lab.call(JOURNAL, Record())
        await lab.start(Told, news, name="run/r")
        await lab.call(JOURNAL, Record())
        assert await asyncio.wait_for(news.get(), 10) == "pause"

    in_lab(run, virtual=False)


def test_a_recorded_call_is_sent_once(store: RunStore) -> None:
    """The same call is answered from the journal, and says what it once used; the run's account pays for it once."""

    async def run(lab: Lab) -> None:
        await journal(lab, store)
        await lab.start(Asker, answer, name="asker/a")
        first, sent = await lab.call("asker/a", (SCOPE, 0, "hi"))
        assert (first.text, first.cost, sent) == ("to hi", Decimal("0.5"), 1)
        again, sent = await lab.call("asker/a", (SCOPE, 0, "hi"))
        assert (again, sent) == (first, 1)
        assert await lab.call("asker/a", "") == [("module/qa", "run/r")]
        status: JournalStatus = await lab.call(JOURNAL, JournalInfo())
        assert (status.paid, status.recalled) == (Paid(1, 7, Decimal("0.5"), 0), 1)

    in_lab(run, virtual=False)


@pytest.mark.parametrize(
    "other", [(RunScope("r", "c1", "3"), 0, "hi"), (SCOPE.within("judge"), 0, "hi"), (SCOPE, 1, "hi"), (SCOPE, 0, "ho")]
)
def test_another_call_is_another_one(store: RunStore, other: Any) -> None:
    """Another trial, part, ordinal or request is not answered by what was said before."""

    async def run(lab: Lab) -> None:
        await journal(lab, store)
        await lab.start(Asker, answer, name="asker/a")
        await lab.call("asker/a", (SCOPE, 0, "hi"))
        response, sent = await lab.call("asker/a", other)
        assert (response.text, sent) == (f"to {other[2]}", 2)

    in_lab(run, virtual=False)


def test_a_failure_is_not_recorded(store: RunStore) -> None:
    """What failed is asked again next time."""

    async def run(lab: Lab) -> None:
        def fail(ask: Complete) -> LMResponse:
            raise LMServerError("overheated")

        await journal(lab, store)
        await lab.start(Asker, fail, name="asker/a")
        for _ in range(2):
            assert isinstance(await lab.error("asker/a", (SCOPE, 0, "hi")), LMServerError)
        assert len(await lab.call("asker/a", "")) == 2
        assert store.keys("r") == set()

    in_lab(run, virtual=False)


def test_a_refusal_comes_back_as_one(store: RunStore) -> None:
    """What the model refused to say is an answer too, and stays one."""

    async def run(lab: Lab) -> None:
        await journal(lab, store)
        refusing = LMResponse(text="", model="m", finish_reason="stop", refusal="I would rather not")
        await lab.start(Asker, lambda ask: refusing, name="asker/a")
        for _ in range(2):
            response, sent = await lab.call("asker/a", (SCOPE, 0, "hi"))
            assert (response.refusal, sent) == ("I would rather not", 1)

    in_lab(run, virtual=False)
