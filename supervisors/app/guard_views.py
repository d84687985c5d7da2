"""What stands around the providers: protection, budgets and cache; as coroutines, and below for plain code."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar, overload

from ...actors.budgets.messages import BudgetReport, BudgetStatus, SetBudget
from ...actors.cache.messages import CacheClear, CacheStatus, CacheStatusReport
from ...actors.configuration.messages import AmendProvider
from ...actors.configuration.provider_settings import PROTECTION_KEYS, Budget
from ...actors.protection.messages import ProtectionReport, ProtectionStatus, ResetProtection
from ...actors.providers.messages import OnLimit
from ...runtime.errors import ConfigError, UsageError, did_you_mean
from . import names
from .life import Life
from .seat import Seat, check_function
from .views import CALL_TIMEOUT, LM_TIMEOUT

T = TypeVar("T")


class AsyncProtection:
    """What protects the providers: limits, breaker, pause and gates."""

    def __init__(self, life: Life) -> None:
        self._life = life

    async def configure(self, provider: str, **settings: Any) -> None:
        """Change what protects a configured provider, while it runs; counts and states stay.

        Args:
            provider: its id.
            **settings: those of :data:`.PROTECTION_KEYS`; others of the provider stay as they are.

        Raises:
            ConfigError: there is no such provider, or a setting is unknown, of the wrong type or out of range.
        """
        for key in settings:
            if key not in PROTECTION_KEYS:
                hint = did_you_mean(key, PROTECTION_KEYS)
                known = ", ".join(PROTECTION_KEYS)
                raise ConfigError(f"expected a setting of protection ({known}), got {key!r}{hint}", path=key, got=key)
        await self._life.call(names.CONFIG, AmendProvider(provider, settings), timeout=CALL_TIMEOUT)

    async def status(self, provider: str) -> ProtectionReport:
        """Every gate with its numbers."""
        target = f"protection/{provider}"
        return await self._life.call(target, ProtectionStatus(), timeout=CALL_TIMEOUT)  # type: ignore[no-any-return]

    async def reset(self, provider: str) -> None:
        """Close the breaker, open all gates, end pause and slow-down."""
        await self._life.call(f"protection/{provider}", ResetProtection(), timeout=CALL_TIMEOUT)

    @overload
    async def run(
        self,
        provider: str,
        function: Callable[[], Awaitable[T]],
        *,
        user: str | None = None,
        tokens: int = 0,
        timeout: float = LM_TIMEOUT,
        on_limit: OnLimit | None = None,
    ) -> T: ...

    @overload
    async def run(
        self,
        provider: str,
        function: Callable[[], T],
        *,
        user: str | None = None,
        tokens: int = 0,
        timeout: float = LM_TIMEOUT,
        on_limit: OnLimit | None = None,
    ) -> T: ...

    async def run(
        self,
        provider: str,
        function: Callable[[], Any],
        *,
        user: str | None = None,
        tokens: int = 0,
        timeout: float = LM_TIMEOUT,
        on_limit: OnLimit | None = None,
    ) -> Any:
        """Call any function under a provider's protection: it waits for room, and its outcome is counted.

        An exception counts against the provider, as the failure it is (an ``LMError`` by its row, anything else as
        a server's error). There is no second try.

        Args:
            provider: its id.
            function: called without arguments; a coroutine function is awaited, anything else is called here.
            user: on whose behalf, for limits of a user.
            tokens: what it will use, estimated.
            timeout: seconds for the wait and the function together.
            on_limit: ``wait`` for room or ``fail`` at once; as the provider is configured if None.

        Raises:
            LMCircuitOpen, LMRateLimited, LMQuotaExceeded, LMAuthError: the protection refuses.
            TimeoutError: the function took too long.
            UsageError: an argument is of the wrong type.
        """
        check_function(function)
        seat = Seat(self._life, provider, user, tokens, timeout, on_limit)
        loop = asyncio.get_running_loop()
        until = loop.time() + timeout
        with seat:
            await self._life.call(seat.target, seat.ask, timeout=timeout, context=seat.context)
            seat.taken = True
            async with asyncio.timeout_at(until):
                result = function()
                return await result if inspect.isawaitable(result) else result


class AsyncBudgets:
    """What was spent, and what may be."""

    def __init__(self, life: Life) -> None:
        self._life = life

    async def status(self, account: str | None = None) -> tuple[BudgetReport, ...]:
        """Of one account (``provider/openai``, ``module/qa``), or of all."""
        return await self._life.call(names.BUDGETS, BudgetStatus(account), timeout=CALL_TIMEOUT)  # type: ignore[no-any-return]

    async def set(self, account: str, budget: Budget | None) -> None:
        """Give an account of one's own a budget, or none; those of providers and modules are configured.

        Raises:
            ConfigError: the account is a provider's or a module's.
        """
        await self._life.call(names.BUDGETS, SetBudget(account, budget), timeout=CALL_TIMEOUT)


class AsyncCache:
    """The cache of model answers."""

    def __init__(self, life: Life) -> None:
        self._life = life

    async def status(self) -> CacheStatusReport:
        """How it is."""
        return await self._life.call(names.CACHE, CacheStatus(), timeout=CALL_TIMEOUT)  # type: ignore[no-any-return]

    async def clear(self) -> None:
        """Forget every answer, on disk too."""
        await self._life.call(names.CACHE, CacheClear(), timeout=CALL_TIMEOUT)


class Protection:
    """What protects the providers; see :class:`AsyncProtection`."""

    def __init__(self, view: AsyncProtection, life: Life) -> None:
        self._view = view
        self._life = life

    def configure(self, provider: str, **settings: Any) -> None:
        """Change what protects a configured provider; see :meth:`AsyncProtection.configure`."""
        self._life.run(self._view.configure(provider, **settings))

    def status(self, provider: str) -> ProtectionReport:
        """Every gate with its numbers."""
        return self._life.run(self._view.status(provider))

    def reset(self, provider: str) -> None:
        """Close the breaker, open all gates, end pause and slow-down."""
        self._life.run(self._view.reset(provider))

    def run(
        self,
        provider: str,
        function: Callable[[], T],
        *,
        user: str | None = None,
        tokens: int = 0,
        timeout: float = LM_TIMEOUT,
        on_limit: OnLimit | None = None,
    ) -> T:
        """Call any plain function in this thread under a provider's protection; see :meth:`AsyncProtection.run`.

        Nothing can stop a plain function: ``timeout`` is that of the wait, and how long the room is kept for it.
        """
        check_function(function)
        if inspect.iscoroutinefunction(function):
            raise UsageError("expected a plain function, got a coroutine function: await the same of app.aio")
        seat = Seat(self._life, provider, user, tokens, timeout, on_limit)
        with seat:
            self._life.call_blocking(seat.target, seat.ask, timeout=timeout, context=seat.context)
            seat.taken = True
            return function()


class Budgets:
    """What was spent, and what may be; see :class:`AsyncBudgets`."""

    def __init__(self, view: AsyncBudgets, life: Life) -> None:
        self._view = view
        self._life = life

    def status(self, account: str | None = None) -> tuple[BudgetReport, ...]:
        """Of one account, or of all."""
        return self._life.run(self._view.status(account))

    def set(self, account: str, budget: Budget | None) -> None:
        """Give an account of one's own a budget, or none."""
        self._life.run(self._view.set(account, budget))


class Cache:
    """The cache of model answers; see :class:`AsyncCache`."""

    def __init__(self, view: AsyncCache, life: Life) -> None:
        self._view = view
        self._life = life

    def status(self) -> CacheStatusReport:
        """How it is."""
        return self._life.run(self._view.status())

    def clear(self) -> None:
        """Forget every answer, on disk too."""
        self._life.run(self._view.clear())
