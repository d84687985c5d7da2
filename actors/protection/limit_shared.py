"""The way of the protection actor to a store that several processes share: asked off the loop, and never waited for
when it is down.

A store that does not answer does not stop the requests: for a while this process keeps to the limits by itself, as it
does anyway; then the store is asked again. Each time is counted and told.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Final, Literal

from ...runtime.gen_server import GenServer
from ...runtime.secret import SecretValue
from ..configuration.provider_settings import ProviderSettings
from .limit_buckets import Shortage
from .limit_redis import SharedHold, SharedLimits, StorageDown, open_shared_limits
from .safeguards import Asker

REST: Final = 5.0
"""Seconds for which a store that did not answer is left alone."""


@dataclass(frozen=True, slots=True)
class Asked:
    """Tag of the task that asks the store for a request."""

    asker: Asker


@dataclass(frozen=True, slots=True)
class Corrected:
    """Tag of the task that puts right what a request took."""


class SharedStore:
    """The shared store of one provider's limits, if there is one.

    Args:
        actor: who asks; its tasks do the waiting.
        provider: the provider's id.
        settings: the provider's settings.

    Attributes:
        failures: how often it did not answer.
        asking: whether an answer is awaited. One request is asked for at a time: first come, first served.
    """

    def __init__(self, actor: GenServer, provider: str, settings: ProviderSettings) -> None:
        self._actor = actor
        self._provider = provider
        self._settings = settings
        self._limits: SharedLimits | None = None
        self._rests_until: float | None = None
        # One after the other: what is given back is there for the next who asks.
        self._turn = asyncio.Lock()
        self.failures = 0
        self.asking = False

    def configure(self, settings: ProviderSettings) -> None:
        """Other settings from now on; another address is tried at once."""
        if settings.limit_storage != self._settings.limit_storage:
            self._rests_until = None
            self._drop()
        self._settings = settings

    def __repr__(self) -> str:
        return f"<{self.state}, {self.failures} failures>"

    @property
    def state(self) -> Literal["memory", "shared", "down"]:
        """Where the limits are."""
        if self._secret is None:
            return "memory"
        return "shared" if self._rests_until is None else "down"

    @property
    def usable(self) -> bool:
        """Whether it is to be asked now."""
        rests = self._rests_until is not None and self._actor.system.now() < self._rests_until
        return self._secret is not None and not rests

    def ask(self, asker: Asker) -> None:
        """Ask for a request; the answer arrives at the actor as the end of a task with the tag :class:`Asked`."""
        self.asking = True
        self._actor.detach(self._take(asker), tag=Asked(asker))

    def heard(self, tag: Asked | Corrected, answer: SharedHold | Shortage | StorageDown | None) -> bool:
        """A task is over: whether it says that the store is down, or up again."""
        if isinstance(tag, Asked):
            self.asking = False
        elif answer is None:
            return False
        was_down = self._rests_until is not None
        if isinstance(answer, StorageDown):
            self.failures += 1
            self._rests_until = self._actor.system.now() + REST
            self._drop()
            return not was_down
        self._rests_until = None
        return was_down

    def settle(self, hold: SharedHold, used: int | None, *, unsent: bool) -> None:
        """A request is over: put right what it took, if the store answers."""
        if hold.taken and (unsent or used is not None):
            self._actor.detach(self._settle(hold, used, unsent), tag=Corrected())

    @property
    def _secret(self) -> SecretValue | None:
        limited = self._settings.rate_limit is not None or self._settings.user_rate_limit is not None
        return self._settings.limit_storage if limited else None

    async def _take(self, asker: Asker) -> SharedHold | Shortage | StorageDown:
        settings, secret = self._settings, self._secret
        if secret is None:  # turned off meanwhile
            return SharedHold(())
        async with self._turn:
            try:
                limits = self._limits
                if limits is None:
                    limits = await self._actor.run_blocking(open_shared_limits, self._provider, secret)
                    self._limits = self._actor.own(limits)
                return await self._actor.run_blocking(
                    limits.take, asker.user, asker.tokens, settings.rate_limit, settings.user_rate_limit
                )
            except StorageDown as down:
                return down

    async def _settle(self, hold: SharedHold, used: int | None, unsent: bool) -> StorageDown | None:
        async with self._turn:
            # While it is down nothing can be put right; what was taken expires with its window.
            if self._limits is not None and self.usable:
                try:
                    await self._actor.run_blocking(self._limits.settle, hold, used, unsent)
                except StorageDown as down:
                    return down
        return None

    def _drop(self) -> None:
        limits, self._limits = self._limits, None
        if limits is not None:
            self._actor.disown(limits)
            limits.close()
