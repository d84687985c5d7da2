"""Protection, budgets and cache, as users of an application meet them."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import pytest

import dspex
from dspex.actors.configuration.provider_settings import Budget
from dspex.runtime.errors import (
    ConfigError,
    LMBudgetExceeded,
    LMCircuitOpen,
    LMConnectionError,
    LMQuotaExceeded,
    LMRateLimited,
    NoProcess,
    UsageError,
)
from kit.application import IN_MEMORY, Watch, answering, application
from kit.http_server import HttpServer


def down() -> None:
    """A function whose service is down."""
    raise ConnectionError("down")


@pytest.fixture
def app() -> Iterator[dspex.App]:
    """An application with one provider, whose answers are not kept."""
    with application(answering("Oslo"), "qa") as (running, _):
        yield running


def test_limits_change_while_the_provider_runs(app: dspex.App) -> None:
    """create_provider_protection: new limits hold at once, the provider is not restarted, other settings stay."""
    before = app.setting("ai", "providers", "local")
    app.protection.configure("local", rate_limit={"window": 60.0, "limit": 1, "on_limit": "fail"})
    assert app.lm.complete("local", "one").text
    with pytest.raises(LMRateLimited) as caught:
        app.lm.complete("local", "two")
    assert caught.value.local
    assert 0 < caught.value.retry_after <= 60.0
    after = app.setting("ai", "providers", "local")
    assert after.base_url == before.base_url
    entry = app.entry("provider/local")
    assert entry is not None
    assert entry.incarnation == 1


def test_what_was_configured_stays_beside_changed_limits(app: dspex.App) -> None:
    """Prices, money and windows of more than an hour are declared again as they were."""
    more = {"prices": {"m": {"input": 1, "output": "0.1"}}, "budget": {"money": 5, "window": "1d"}}
    app.configure_provider("priced", kind="openai", base_url="http://127.0.0.1:1/v1", **more)
    before = app.setting("ai", "providers", "priced")
    app.protection.configure("priced", failure_threshold=2)
    after = app.setting("ai", "providers", "priced")
    assert after.failure_threshold == 2
    assert (after.prices, after.budget) == (before.prices, before.budget)


def test_of_two_changes_at_once_none_is_lost(app: dspex.App) -> None:
    """Each changes its own setting, whatever another thread changes meanwhile."""
    with ThreadPoolExecutor(2) as pool:
        for number in range(1, 21):
            changes = {"failure_threshold": number}, {"probes": number}
            list(pool.map(lambda change: app.protection.configure("local", **change), changes))
            now = app.setting("ai", "providers", "local")
            assert (now.failure_threshold, now.probes) == (number, number)


@pytest.mark.parametrize(("key", "value"), [("rate_limt", {}), ("base_url", "http://x"), ("failure_threshold", -1)])
def test_a_wrong_setting_of_protection_is_refused(app: dspex.App, key: str, value: object) -> None:
    """Misspelt, not a matter of protection, or out of range: a ConfigError that names it."""
    with pytest.raises(ConfigError, match=key):
        app.protection.configure("local", **{key: value})


def test_any_function_runs_under_protection(app: dspex.App) -> None:
    """execute_ai_protected: what the function returns comes back; its failures open the breaker; a refusal is typed."""
    app.protection.configure("local", failure_threshold=2, recovery_time=30.0)
    assert app.protection.run("local", lambda: 42, user="ann") == 42

    def fails() -> None:
        raise ConnectionError("down")

    for _ in range(2):
        with pytest.raises(ConnectionError, match="down"):
            app.protection.run("local", fails)
    with pytest.raises(LMCircuitOpen):
        app.protection.run("local", lambda: 42)
    assert app.protection.status("local").breaker.state == "open"
    with pytest.raises(LMCircuitOpen):
        app.lm.complete("local", "one")
    app.protection.reset("local")
    assert app.lm.complete("local", "one").text


def test_the_breaker_outlives_the_provider(app: dspex.App) -> None:
    """A crash of the provider is no way to hammer what is down."""
    app.protection.configure("local", failure_threshold=1)
    with pytest.raises(ValueError, match="wrong"):
        app.protection.run("local", lambda: int("wrong", 36) and int("wrong"))
    app.kill("provider/local")
    assert app.registry.wait_for("provider/local", timeout=5).restarts == 1
    with pytest.raises(LMCircuitOpen):
        app.lm.complete("local", "one")


def test_the_breaker_outlives_the_providers_supervisor(app: dspex.App) -> None:
    """Neither the end of the protection itself nor that of the whole supervisor closes an open breaker."""
    app.protection.configure("local", failure_threshold=1, rate_limit={"limit": 5, "window": 600.0})
    assert app.lm.complete("local", "one").text
    with pytest.raises(ConnectionError):
        app.protection.run("local", down)
    watch = Watch(app)
    for victim in ("protection/local", "supervisor/provider/local", *["provider/local"] * 5):
        before = watch.incarnation(victim)
        app.kill(victim)
        watch.until(partial(watch.running, victim, before))
        watch.until(partial(watch.running, "provider/local"))
        with pytest.raises(LMCircuitOpen):
            app.lm.complete("local", "one")
    report = app.protection.status("local")
    assert report.in_flight == 0
    (requests,) = (bucket for bucket in report.buckets if bucket.limit == "requests")
    assert requests.used == 1  # what never reached the provider is given back


def test_a_removed_provider_leaves_no_protection(app: dspex.App) -> None:
    """One of the same name begins with a closed breaker."""
    settings = {"kind": "openai", "base_url": "http://127.0.0.1:1/v1", "failure_threshold": 1}
    app.configure_provider("gone", **settings)
    with pytest.raises(ConnectionError):
        app.protection.run("gone", down)
    assert app.protection.status("gone").breaker.state == "open"
    app.remove_provider("gone")
    app.configure_provider("gone", **settings)
    assert app.protection.status("gone").breaker.state == "closed"


def test_a_function_may_be_a_coroutine_and_is_bounded(app: dspex.App) -> None:
    """Awaited in the caller's loop; too long is a TimeoutError, and its room is free again."""

    async def work() -> str:
        return "done"

    async def run() -> None:
        app.protection.configure("local", rate_limit={"limit": "none", "concurrency": 1}, failure_threshold=0)
        assert await app.aio.protection.run("local", work) == "done"
        with pytest.raises(TimeoutError):
            await app.aio.protection.run("local", lambda: asyncio.sleep(10), timeout=0.05)
        assert await app.aio.protection.run("local", work, timeout=5) == "done"

    asyncio.run(asyncio.to_thread(asyncio.run, run()))


def test_protection_of_nobody(app: dspex.App) -> None:
    """An unknown provider has none; a timeout in milliseconds is a mistake."""
    with pytest.raises(NoProcess):
        app.protection.status("lokal")
    with pytest.raises(UsageError, match="seconds"):
        app.protection.run("local", lambda: 1, timeout=5000)


def test_budgets_are_kept(app: dspex.App) -> None:
    """A module's budget and an account of one's own refuse once they are spent; the report says how much."""
    app.update_setting(("modules", "qa", "budget"), {"requests": 2})
    for question in ("a", "b"):
        assert app.module("qa")(question=question).answer == "Oslo"
    with pytest.raises(LMBudgetExceeded) as caught:
        app.module("qa")(question="c")
    assert caught.value.account == "module/qa"
    (report,) = app.budgets.status("module/qa")
    assert (report.spent.requests, report.requests_left, report.refused) == (2, 0, 1)
    app.budgets.set("run/r1", Budget(requests=1))
    assert app.lm.complete("local", "x", accounts=["run/r1"]).text
    with pytest.raises(LMBudgetExceeded):
        app.lm.complete("local", "y", accounts=["run/r1"])


def test_no_money_is_never_tried_again() -> None:
    """429 for want of money: one request, a closed quota gate, and the next call fails at once with the same word."""
    body = {"error": {"message": "You exceeded your quota", "code": "insufficient_quota"}}
    with application(lambda exchange: exchange.reply(429, body)) as (app, server):
        for _ in range(2):
            with pytest.raises(LMQuotaExceeded):
                app.lm.complete("local", "x")
        assert len(server.requests) == 1


def test_answers_come_from_the_cache() -> None:
    """Asked again the same, nothing is sent and nothing is spent; a rollout of its own, or no cache, asks again."""
    with HttpServer(answering("Oslo")) as server, dspex.start(config=IN_MEMORY) as app:
        app.configure_provider("local", kind="openai", base_url=f"{server.url}/v1", default_model="m")
        first, again = (app.lm.complete("local", "Capital of Norway?") for _ in range(2))
        assert (first.cache_hit, again.cache_hit) == (False, True)
        assert again.text == first.text
        assert again.usage.total_tokens == again.cost == 0
        assert again.attempts == ()
        assert not app.lm.complete("local", "Capital of Norway?", cache=False).cache_hit
        assert len(server.requests) == 2
        assert app.cache.status().memory_hits == 1
        app.cache.clear()
        assert not app.lm.complete("local", "Capital of Norway?").cache_hit
        app.update_setting(("ai", "caching", "enabled"), False)
        assert not app.lm.complete("local", "Capital of Norway?").cache_hit


def test_what_may_have_been_sent_stays_taken() -> None:
    """A connection that breaks after the request was sent: its room and its budget are not given back."""
    config = {"rate_limit": {"limit": 10, "window": 600.0}, "budget": {"requests": 10}, "retry_attempts": 2}
    with application(lambda exchange: exchange.close()) as (app, server):
        app.protection.configure("local", retry_base_delay=0.0, failure_threshold=0, **config)
        with pytest.raises(LMConnectionError) as caught:
            app.lm.complete("local", "x")
        assert caught.value.failure == "reset"
        assert len(server.requests) == 2
        (requests,) = (bucket for bucket in app.protection.status("local").buckets if bucket.limit == "requests")
        assert requests.used == 2
        (report,) = app.budgets.status("provider/local")
        assert report.spent.requests == 1
