"""Work that spends from one budget, side by side: what finds no room waits for the others."""

from __future__ import annotations

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dspex.actors.runs.spending import Spending
from dspex.runtime.errors import LMBudgetExceeded


def no_dearer(piece: tuple[int, int, int]) -> tuple[int, int, int]:
    """A piece of work that costs at most what it reserves."""
    estimate, cost, turns = piece
    return estimate, min(estimate, cost), turns


class Account:
    """A budget from which more is reserved than is spent in the end."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.spent = 0
        self.reserved = 0
        self.refused = 0

    async def pay(self, estimate: int, cost: int, turns: int) -> None:
        """Reserve, work for some turns of the loop, settle."""
        if self.spent + self.reserved + estimate > self.limit:
            self.refused += 1
            raise LMBudgetExceeded("no room")
        self.reserved += estimate
        try:
            for _ in range(turns):
                await asyncio.sleep(0)
        finally:
            self.reserved -= estimate
        self.spent += cost


async def all_of(account: Account, work: list[tuple[int, int, int]]) -> list[BaseException | None]:
    """Do it all at once; what each raised."""
    spending = Spending()

    def piece(estimate: int, cost: int, turns: int) -> asyncio.Task[None]:
        return asyncio.ensure_future(spending.do(lambda: account.pay(estimate, cost, turns)))

    return await asyncio.wait_for(asyncio.gather(*(piece(*each) for each in work), return_exceptions=True), 5)


@given(
    st.integers(0, 60),
    st.lists(st.tuples(st.integers(1, 20), st.integers(0, 20), st.integers(0, 4)).map(no_dearer), max_size=12),
)
def test_it_is_refused_only_when_nobody_else_holds_room(limit: int, work: list[tuple[int, int, int]]) -> None:
    """Everything ends; what is refused did not fit beside what was spent by then; the limit holds."""
    account = Account(limit)
    ends = asyncio.run(all_of(account, work))
    assert account.spent <= limit
    refused = [estimate for (estimate, _, _), end in zip(work, ends, strict=True) if end is not None]
    assert all(isinstance(end, LMBudgetExceeded) for end in ends if end is not None)
    assert all(account.spent + estimate > limit for estimate in refused)


def test_what_others_give_back_is_used() -> None:
    """Ten that reserve all of it and spend a tenth: each is done, one after the other."""
    account = Account(10)
    assert asyncio.run(all_of(account, [(10, 0, 3)] * 10)) == [None] * 10
    assert account.refused > 0


def test_other_failures_pass() -> None:
    """They end what failed, and wake who waits."""

    async def fail() -> None:
        await asyncio.sleep(0)
        raise LookupError("mine")

    async def run() -> None:
        spending, account = Spending(), Account(1)
        failing = asyncio.ensure_future(spending.do(fail))
        refused = asyncio.ensure_future(spending.do(lambda: account.pay(2, 2, 0)))
        with pytest.raises(LookupError):
            await failing
        with pytest.raises(LMBudgetExceeded):
            await asyncio.wait_for(refused, 5)

    asyncio.run(run())
