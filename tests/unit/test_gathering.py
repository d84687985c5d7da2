"""Entries of a journal are gathered until they are worth writing."""

from __future__ import annotations

import asyncio

from dspex.actors.runs.gathering import Gathering
from dspex.actors.runs.messages import Entry
from dspex.runtime.errors import Error, StoreError


def entry(number: int) -> Entry:
    """One that is told from others by its key."""
    return Entry("row", str(number), "{}")


def test_a_portion_is_written_together() -> None:
    """So many go with one message, what comes meanwhile with the next; the end waits for them."""
    written: list[list[str]] = []

    async def record(*entries: Entry) -> None:
        await asyncio.sleep(0)
        written.append([each.key for each in entries])

    async def work() -> None:
        async with asyncio.TaskGroup() as group:
            rows = Gathering(group, record, [], 2)
            rows.keep(entry(0))
            await asyncio.sleep(0)
            assert not written
            rows.keep(entry(1))
            await asyncio.sleep(0)  # they are on their way
            for number in (2, 3, 4):
                rows.keep(entry(number))
        assert rows.rest() == []

    asyncio.run(work())
    assert written == [["0", "1"], ["2", "3", "4"]]


def test_what_is_no_portion_is_left_to_the_caller() -> None:
    """It writes them with something else, once."""
    written: list[list[str]] = []

    async def record(*entries: Entry) -> None:
        written.append([each.key for each in entries])

    async def work() -> None:
        async with asyncio.TaskGroup() as group:
            rows = Gathering(group, record, [], 2)
            for number in (0, 1):
                rows.keep(entry(number))
            await asyncio.sleep(0)
            rows.keep(entry(2))
        assert [each.key for each in rows.rest()] == ["2"]
        assert rows.rest() == []

    asyncio.run(work())
    assert written == [["0", "1"]]


def test_it_begins_again_after_a_rest() -> None:
    """An entry that comes when nothing is written any more is written all the same."""
    written: list[str] = []

    async def record(*entries: Entry) -> None:
        written.extend(each.key for each in entries)

    async def work() -> None:
        async with asyncio.TaskGroup() as group:
            rows = Gathering(group, record, [], 1)
            for number in range(2):
                rows.keep(entry(number))
                await asyncio.sleep(0)
                assert written == [str(each) for each in range(number + 1)]

    asyncio.run(work())


def test_a_journal_that_cannot_write_is_a_problem_and_no_crash() -> None:
    """Who works finds the error where it looks for it, and the group ends as always."""
    problems: list[Error] = []

    async def record(*entries: Entry) -> None:
        raise StoreError("the disk is full")

    async def work() -> None:
        async with asyncio.TaskGroup() as group:
            Gathering(group, record, problems, 1).keep(entry(0))

    asyncio.run(work())
    assert [type(problem) for problem in problems] == [StoreError]
