"""Starts that fail because a test wants them to."""

from __future__ import annotations

from collections import deque
from typing import Any
from unittest import mock

from thespian.actors import Actor

from ..engine import Engine
from ..gen_server import GenServer
from ..names import qualify
from ..outcomes import StartResult, Stop
from ..reasons import Reason


class FailingStart(GenServer):
    """Stands in for an actor whose start is to fail."""

    def init(self, reason: Reason) -> Stop:
        """Fail."""
        return Stop(reason)


class StartFaults:
    """Lets chosen starts of one engine fail, the way a failing ``init`` does.

    Args:
        engine: whose.
    """

    def __init__(self, engine: Engine) -> None:
        self._planned: dict[str | type[Actor], deque[Reason]] = {}
        self._spawn = engine.spawn
        self._patch = mock.patch.object(engine, "spawn", self._spawn_or_fail)
        self._patch.start()

    def fail_next(self, who: str | type[Actor], reason: Reason, times: int) -> None:
        """Let the next starts of this name or class fail with ``reason``."""
        self._planned.setdefault(who, deque()).extend([reason] * times)

    def remove(self) -> None:
        """Start everything as it is again."""
        self._patch.stop()

    async def _spawn_or_fail(
        self, cls: type[Actor], args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None, **options: Any
    ) -> StartResult:
        candidates: tuple[str | type[Actor], ...] = (cls, *_names(options))
        for who in candidates:
            if planned := self._planned.get(who):
                return await self._spawn(FailingStart, (planned.popleft(),), {}, **options)
        return await self._spawn(cls, args, kwargs, **options)


def _names(options: dict[str, Any]) -> tuple[str, ...]:
    """The name of a start, as given and with its namespace."""
    name, parent, space = options.get("name"), options.get("parent"), options.get("namespace")
    if name is None:
        return ()
    if space is None:
        space = parent.namespace if parent is not None else ""
    return tuple(dict.fromkeys((name, qualify(space, name))))
