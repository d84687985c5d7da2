"""One request to a provider, in virtual time: its attempts, its pauses, and what protection and budgets are told."""

from __future__ import annotations

import asyncio
import random
from decimal import Decimal
from typing import Any

import pytest

from dspex.actors.budgets.messages import CancelReservation, SettleBudget
from dspex.actors.lm.failures import FAILURES, lm_error
from dspex.actors.testing.scripted_provider import Hang, Rule, failure, rate_limited, refused, server_error
from dspex.runtime.errors import (
    ActorDied,
    CallTimeout,
    Error,
    LMAuthError,
    LMBudgetExceeded,
    LMCircuitOpen,
    LMConnectionError,
    LMError,
    LMInvalidRequest,
    LMQuotaExceeded,
    LMRateLimited,
    LMServerError,
    LMTimeout,
)
from kit.guards import Post, post

PRICES = {"m": {"input": "1", "output": "2"}}


def fails(world: Post, expected: type[Error], **how: Any) -> Any:
    """Ask; the error that must come."""
    with pytest.raises(expected) as caught:
        world.ask(**how)
    assert type(caught.value) is expected
    return caught.value


# -- attempts --------------------------------------------------------------------------------------


def test_one_attempt_is_enough() -> None:
    """Asked once, admitted once, reserved once; settled by what was really used."""
    with post(prices=PRICES) as world:
        world.rules("Hello")
        answer = world.ask(max_tokens=100, accounts=("module/qa",))
        (reservation,), (admission,) = world.book.reservations, world.book.admissions
        assert world.book.asked == [reservation, admission]  # in this order
        assert reservation.accounts == ("provider/p", "module/qa")
        assert reservation.tokens == admission.tokens == 102  # "Hi" and its role, and what may come
        assert reservation.owner == admission.owner == world.system.address("provider/p")
        assert [(one.failure, one.tokens) for one in world.book.settled] == [(None, 15)]
        cost = (10 * Decimal(1) + 5 * Decimal(2)) / 1_000_000
        assert world.book.paid == [SettleBudget(reservation.id, 15, cost)]
        assert (answer.cost, answer.provider) == (cost, "p")
        assert [(one.number, one.status, one.error_code) for one in answer.attempts] == [(1, 200, None)]
        world.book.balanced()


def test_attempts_go_on_until_one_succeeds() -> None:
    """Each is admitted and settled by itself; the budget is reserved once and settled once."""
    with post(retry_attempts=4) as world:
        world.rules(server_error(), refused(), failure(409), "Hello")
        answer = world.ask()
        assert world.book.ends == ["server", "connection", "conflict", None]
        assert [one.error_code for one in answer.attempts] == [
            "lm_server_error",
            "lm_connection",
            "lm_server_error",
            None,
        ]
        assert [one.number for one in answer.attempts] == [1, 2, 3, 4]
        assert len(world.book.reservations) == len(world.book.paid) == 1
        world.book.balanced()


def test_no_more_attempts_than_configured() -> None:
    """The last failure is the caller's error; it holds all attempts, with how long each waited."""
    with post(retry_attempts=3) as world:
        world.rules(server_error())
        began = world.system.now
        error = fails(world, LMServerError)
        assert world.sent == 3
        waits = [one.waited for one in error.attempts]
        assert waits[0] == 0.0
        assert 0.0 < waits[1] <= 0.5
        assert 0.0 < waits[2] <= 1.0
        assert world.system.now - began == pytest.approx(sum(waits))
        assert world.book.ends == ["server"] * 3
        world.book.balanced()


@pytest.mark.parametrize("seed", range(5))
def test_pauses_come_from_the_seed(seed: int) -> None:
    """The same seed waits the same, another one waits otherwise."""

    def waits(seed: int) -> list[float]:
        with post(seed, retry_attempts=3) as world:
            world.rules(server_error())
            return [one.waited for one in fails(world, LMServerError).attempts]

    assert waits(seed) == waits(seed) != waits(seed + 100)


@pytest.mark.parametrize(
    ("answer", "expected", "row"),
    [
        (failure(401), LMAuthError, "auth"),
        (failure(402), LMQuotaExceeded, "quota"),
        (failure(400), LMInvalidRequest, "invalid"),
        (failure(501), LMInvalidRequest, "invalid"),
    ],
)
def test_what_no_attempt_mends(answer: Any, expected: type[Error], row: str) -> None:
    """One attempt, its row told to the protection, and nothing paid: the provider refused it."""
    with post() as world:
        world.rules(answer)
        fails(world, expected)
        assert world.sent == 1
        assert world.book.ends == [row]
        assert [type(one) for one in world.book.paid] == [CancelReservation]
        world.book.balanced()


def test_a_request_that_cannot_be_written_is_not_sent() -> None:
    """No model: an attempt that never reached the network, its admission and its reservation given back."""
    with post(default_model=None) as world:
        fails(world, LMInvalidRequest)
        assert world.sent == 0
        assert world.book.ends == ["invalid"]
        assert [type(one) for one in world.book.paid] == [CancelReservation]
        world.book.balanced()


# -- Retry-After, deadlines ------------------------------------------------------------------------


def test_retry_after_is_waited_and_told() -> None:
    """The next attempt is not earlier than asked; the protection hears of it, so that all others wait too."""
    with post() as world:
        world.rules(rate_limited(7.0), "Hello")
        answer = world.ask()
        assert 7.0 <= answer.attempts[1].waited <= 7.7
        assert [(one.failure, one.retry_after) for one in world.book.settled] == [("rate", 7.0), (None, None)]
        (retry,) = world.of("lm_retry")
        assert (retry.attempt, retry.code, retry.status) == (1, "lm_rate_limited", 429)
        assert retry.delay == answer.attempts[1].waited


@pytest.mark.parametrize("limits", [{"retry_after_max": 5.0}, {"timeout": 5.0}, {"retry_max_elapsed": 5.0}])
def test_a_retry_after_beyond_all_patience_is_the_error_at_once(limits: dict[str, Any]) -> None:
    """Longer than is ever waited, than the call may take, or than attempts may begin: not a second is lost."""
    with post(**limits) as world:
        world.rules(rate_limited(7.0), "Hello")
        began = world.system.now
        assert fails(world, LMRateLimited).retry_after == 7.0
        assert (world.system.now, world.sent) == (began, 1)
        world.book.balanced()


def test_a_pause_that_outlasts_the_caller_is_not_begun() -> None:
    """The caller's deadline caps it: it hears of the failure while there is time."""
    with post() as world:
        world.rules(rate_limited(7.0), "Hello")
        began = world.system.now
        fails(world, LMRateLimited, timeout=6.0)
        assert world.system.now == began


@pytest.mark.parametrize(
    ("limits", "timeout", "row", "after", "sent"),
    [
        ({"attempt_timeout": 2.0, "retry_attempts": 1}, 60.0, "timeout", 2.0, 1),
        ({"attempt_timeout": 2.0, "retry_attempts": 3, "retry_base_delay": 0.0}, 60.0, "timeout", 6.0, 3),
        ({"timeout": 3.0}, 60.0, "timeout", 3.0, 1),
        ({}, 4.0, "deadline", 3.98, 1),
        ({"attempt_timeout": 2.0}, 1.0, "deadline", 0.98, 1),
    ],
    ids=["an attempt's", "three attempts'", "the call's", "the caller's", "the caller's before an attempt's"],
)
def test_whose_time_was_up(limits: dict[str, Any], timeout: float, row: str, after: float, sent: int) -> None:
    """The provider's own limits speak against it, the caller's do not; each comes to the moment."""
    with post(**limits) as world:
        world.rules(Hang())
        began = world.system.now
        error = fails(world, LMTimeout, timeout=timeout)
        assert error.facts["failure"] == row
        assert FAILURES[row].counts_for_breaker == (row == "timeout")
        assert world.system.now - began == pytest.approx(after)
        assert (world.sent, world.book.ends) == (sent, [row] * sent)
        assert [(type(one), one.tokens) for one in world.book.paid] == [(SettleBudget, None)]  # nobody knows
        world.book.balanced()


# -- protection and budget -------------------------------------------------------------------------


def test_waiting_for_room_is_part_of_the_attempt() -> None:
    """It is written down, and it is within the deadline."""
    with post() as world:
        world.book.admit = lambda message: 3.0
        world.rules("Hello")
        began = world.system.now
        assert world.ask().attempts[0].waited == 3.0
        assert world.system.now - began == pytest.approx(3.0)


def test_no_room_in_time_is_told_as_that() -> None:
    """The caller's time is up in the queue: LMRateLimited of our own, the place given up, nothing sent or paid."""
    with post() as world:
        world.book.admit = lambda message: 100.0
        world.rules("Hello")
        error = fails(world, LMRateLimited, timeout=5.0)
        assert error.facts["local"]
        assert (world.sent, world.book.ends) == (0, ["cancelled"])
        assert [type(one) for one in world.book.paid] == [CancelReservation]
        world.book.balanced()


@pytest.mark.parametrize(
    ("row", "expected"), [("circuit_open", LMCircuitOpen), ("limit", LMRateLimited), ("auth", LMAuthError)]
)
def test_the_protection_refuses(row: str, expected: type[Error]) -> None:
    """Its error is the caller's; there is nothing to settle, and nothing is paid."""
    with post() as world:
        world.book.admit = lambda message: lm_error(row, "no", local=True)
        assert fails(world, expected).attempts == ()
        assert (world.sent, world.book.settled) == (0, [])
        assert [type(one) for one in world.book.paid] == [CancelReservation]
        world.book.balanced(refused=1)


def test_after_a_failure_a_refusal_is_not_the_news() -> None:
    """The breaker opened meanwhile: the caller hears why, not that."""
    with post() as world:
        refusals = iter([None, lm_error("circuit_open", "no", local=True)])
        world.book.admit = lambda message: next(refusals)
        world.rules(server_error())
        assert len(fails(world, LMServerError).attempts) == 1
        assert world.book.ends == ["server"]
        world.book.balanced(refused=1)


def test_the_budget_refuses() -> None:
    """Nobody else is asked."""
    with post() as world:
        world.book.reserve = lambda message: lm_error("budget", "no", account="provider/p")
        error = fails(world, LMBudgetExceeded)
        assert (error.facts["account"], world.sent) == ("provider/p", 0)
        assert (world.book.admissions, world.book.paid) == ([], [])


@pytest.mark.parametrize("stage", ["reserving", "waiting for room", "sent", "pausing"])
def test_a_caller_that_gives_up(stage: str) -> None:
    """At whatever stage: all is given back once, and what may have cost something stands as reserved."""
    with post(retry_base_delay=100.0, retry_max_delay=100.0, timeout=3000.0) as world:
        if stage == "reserving":
            world.book.reserve = lambda message: 100.0
        if stage == "waiting for room":
            world.book.admit = lambda message: 100.0
        world.rules(server_error() if stage == "pausing" else Hang())

        async def run() -> None:
            asked = asyncio.ensure_future(world.asking())
            await asyncio.sleep(1.0)
            asked.cancel()
            with pytest.raises(asyncio.CancelledError):
                await asked

        world.system.run(run())
        world.system.settle()
        expected: dict[str, list[str]] = {"reserving": [], "pausing": ["server"]}
        assert world.book.ends == expected.get(stage, ["cancelled"])
        paid = SettleBudget if stage == "sent" else CancelReservation
        assert [type(one) for one in world.book.paid] == [paid]
        assert world.script.cancelled == (stage == "sent")
        (event,) = world.of("lm_error")
        assert event.code == "cancelled"
        world.book.balanced()


@pytest.mark.parametrize("victim", ["protection/p", "core/budgets"])
def test_a_guard_that_dies_while_it_is_asked(victim: str) -> None:
    """A typed error, and the request is not sent."""
    with post() as world:
        world.book.reserve = lambda message: 100.0 if victim == "core/budgets" else None
        world.book.admit = lambda message: 100.0
        world.rules("Hello")

        async def run() -> None:
            asked = asyncio.ensure_future(world.asking())
            await asyncio.sleep(1.0)
            world.system.engine.kill(victim)
            with pytest.raises(ActorDied):
                await asked

        world.system.run(run())
        assert world.sent == 0
        assert [event.code for event in world.of("lm_error")] == ["actor_died"]


def test_estimates_are_only_worked_out_for_budgets_in_money() -> None:
    """A provider with a budget in dollars reserves its price at most; an unknown price is None."""
    with post(prices=PRICES, budget={"money": "1"}) as world:
        world.rules("Hello")
        world.ask(max_tokens=100)
        (reservation,) = world.book.reservations
        assert reservation.cost == (2 * Decimal(1) + 100 * Decimal(2)) / 1_000_000
    with post(budget={"money": "1"}) as world:
        world.rules("Hello")
        world.ask(max_tokens=100)
        assert world.book.reservations[0].cost is None


# -- what is told ----------------------------------------------------------------------------------


def test_one_request_is_one_story() -> None:
    """Request, retry, each attempt, answer: all name the request; the reservation is known by it."""
    with post() as world:
        world.rules(server_error(503), "Hello")
        world.ask()
        (began,), (retry,), (end,) = world.of("lm_request"), world.of("lm_retry"), world.of("lm_response")
        attempts = world.of("lm_attempt")
        assert {one.request_event_id for one in (retry, end, *attempts)} == {began.id}
        assert [(one.number, one.status, one.code) for one in attempts] == [(1, 503, "lm_server_error"), (2, 200, None)]
        assert world.book.reservations[0].id == began.id
        assert end.attempts == 2
        assert end.duration == pytest.approx(retry.delay)


def test_an_error_says_what_was_tried() -> None:
    """Provider, model, attempts and circumstances; the reservation stands if any attempt may have cost something."""
    with post(retry_attempts=2, attempt_timeout=1.0) as world:
        world.rules(Rule(Hang()), server_error())
        error = fails(world, LMServerError)
        assert (error.provider, error.facts["model"]) == ("p", "m")
        assert [one.error_code for one in error.attempts] == ["lm_timeout", "lm_server_error"]
        assert error.facts["ai_context"].provider == "p"
        assert [type(one) for one in world.book.paid] == [SettleBudget]


def test_nothing_was_sent_nothing_is_paid() -> None:
    """Nobody listens: cancelled, not settled."""
    with post(retry_attempts=2) as world:
        world.rules(refused())
        fails(world, LMConnectionError)
        assert world.book.ends == ["connection", "connection"]
        assert [type(one) for one in world.book.paid] == [CancelReservation]


def test_a_thousand_requests_leave_the_books_balanced() -> None:
    """Many at once, failing, refused, cancelled and answered: each is settled once."""
    with post(retry_attempts=2) as world:
        rng = random.Random(3)
        refusal = lm_error("circuit_open", "no", local=True)
        refusals = 0

        def admit(message: Any) -> Any:
            nonlocal refusals
            verdict = rng.choice([None, None, 0.5, LMError])
            if verdict is not LMError:
                return verdict
            refusals += 1
            return type(refusal)(refusal.message, **refusal.facts)

        world.book.admit = admit
        world.rules(*([server_error(), Rule("Hello", delay=0.3), rate_limited(0.2), Hang()] * 200), "Hello")

        async def run() -> list[Any]:
            tasks = [asyncio.ensure_future(world.asking(str(number), timeout=20.0)) for number in range(1000)]
            await asyncio.sleep(0.4)
            for task in tasks[::7]:
                task.cancel()
            return await asyncio.gather(*tasks, return_exceptions=True)

        ends = world.system.run(run())
        world.system.settle()
        assert all(
            not isinstance(end, BaseException) or isinstance(end, Error | asyncio.CancelledError) for end in ends
        )
        assert not any(isinstance(end, CallTimeout) for end in ends)
        assert len(world.book.paid) == len(world.book.reservations)
        assert refusals > 0
        world.book.balanced(refused=refusals)
