"""The pool of a module with several workers, ``module/<id>``: hands each prediction to the worker with the fewest.

A worker, ``module/<id>/1`` and so on, is the module in every respect. It answers callers directly, so the pool costs
a call one step on its way in and nothing on its way out, and a pool that ends loses no answer. How busy a worker is
stands in the engine's books, or was told by it; nobody is asked, and nothing is counted twice.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

from ...runtime.child_spec import Placement
from ...runtime.errors import CallError
from ...runtime.gen_server import GenServer, NoReply, call, info
from ...runtime.names import WAITING, Change, NameEntry, qualify
from ..registry.actor import announce
from .messages import (
    GetState,
    ModuleInfo,
    ModuleStatus,
    Predict,
    PredictStream,
    UpdateModule,
    streams_name,
    worker_name,
)

_PATIENCE: Final = 1.0
"""Seconds for which an answer of one worker waits for those of the others, which may compute."""
_SAME: Final = ("type", "kind", "signature", "provider", "model", "adapter", "timeout")
"""What all workers announce alike."""
_RUNS, _COMES, _IS_AWAY = range(3)


@dataclass(frozen=True, slots=True)
class _Tell:
    """To itself: a worker has announced something, or has come or gone."""


class ModulePool(GenServer):
    """The front of several workers that run already, or are on their way.

    Args:
        module: the module's id.
        workers: how many there are.
        placement: where they run; announced.
    """

    def init(self, module: str, workers: int, placement: Placement = "local") -> None:
        """Follow what the workers announce."""
        numbers = range(1, workers + 1)
        names = [(worker_name(module, each), streams_name(module, each)) for each in numbers]
        self._workers = [(qualify(self.namespace, name), qualify(self.namespace, streams)) for name, streams in names]
        self._names = frozenset(name for name, _ in self._workers)
        self._placement = placement
        self._first = 0
        self._telling = False
        self._started = self.clock.monotonic()
        self.own(self.system.names.subscribe(self._on_change))
        self._announce()

    # -- what it is asked ------------------------------------------------------------------------

    @call
    def hand_on(self, msg: Predict | PredictStream | GetState) -> NoReply:
        """Have a worker answer it: who asks from within a prediction is answered by the worker that has that one.

        Another one might wait for a turn behind predictions that wait, in the same way, for this one's.
        """
        asks = (each.name for each in self.caller.served() if each.name in self._names)
        return self.forward(next(asks, None) or self._least_busy())

    @call
    def module_info(self, msg: ModuleInfo) -> NoReply:
        """What the module is, and how its workers are together."""
        return self.serve(self._status())

    @call
    def update_module(self, msg: UpdateModule) -> NoReply:
        """Have all workers go on with other instructions, demos or state."""
        return self.serve(self._update(msg))

    # -- the workers -----------------------------------------------------------------------------

    def _least_busy(self) -> str:
        """The worker with the fewest calls and streams; of several such, each in its turn.

        One that restarts is asked only if nobody runs: then the call waits for it, as for any name.
        """
        workers = self._workers
        self._first = first = (self._first + 1) % len(workers)
        return min((*workers[first:], *workers[:first]), key=self._load)[0]

    def _load(self, worker: tuple[str, str]) -> tuple[int, int]:
        name, streams = worker
        router, entry = self.system.router, self.system.names.get(name)
        if entry is not None and entry.state == "running":
            # Streams are children of a supervisor beside the worker, or actors below it, which it tells of.
            told = entry.metadata.get("streams", 0)
            return _RUNS, router.load(entry.address) + router.children(streams) + told
        if entry is not None and (entry.state in WAITING or entry.state == "starting"):
            return _COMES, router.load(entry.address) + len(router.parked(name))
        return _IS_AWAY, 0

    def _running(self) -> list[str]:
        return [worker[0] for worker in self._workers if self._load(worker)[0] == _RUNS]

    async def _status(self) -> ModuleStatus:
        return self._summed(await self._told(self._running() or [self._least_busy()], ModuleInfo()))

    async def _update(self, msg: UpdateModule) -> ModuleStatus:
        # It is sent to all at once, so that of two updates all workers end with the same. One that computes takes it
        # before the next call that it is handed; one that is away reads what configuration says then.
        return self._summed(await self._told([name for name, _ in self._workers], msg))

    async def _told(self, names: Sequence[str], msg: ModuleInfo | UpdateModule) -> list[ModuleStatus]:
        """What workers answer: one of them whenever it does, the others soon after it."""
        waiting = {asyncio.ensure_future(_answer(self.call(name, msg, timeout=None))) for name in names}
        told: list[ModuleStatus] = []
        lost: CallError | None = None
        try:
            while waiting:
                when = asyncio.ALL_COMPLETED if told else asyncio.FIRST_COMPLETED
                done, waiting = await asyncio.wait(waiting, timeout=_PATIENCE if told else None, return_when=when)
                if not done:
                    break
                for each in done:
                    answer = each.result()
                    if isinstance(answer, ModuleStatus):
                        told.append(answer)
                    else:
                        lost = answer
        finally:
            for each in waiting:
                each.cancel()
        if lost is not None and not told:
            raise lost
        return told

    def _summed(self, told: Sequence[ModuleStatus]) -> ModuleStatus:
        """One status of all workers; those that told stand for the others in what all have alike."""
        first, count = told[0], len(self._workers)
        return replace(
            first,
            max_concurrency=first.max_concurrency * count,
            max_queue=first.max_queue * count,
            status="ready" if all(each.status == "ready" for each in told) else "misconfigured",
            running=sum(each.running for each in told),
            waiting=sum(each.waiting for each in told),
            streams=sum(each.streams for each in told),
            executions=sum(each.executions for each in told),
            failures=sum(each.failures for each in told),
            last_error=next((each.last_error for each in told if each.last_error is not None), None),
            uptime=self.clock.monotonic() - self._started,
            workers=count,
            ready=len(told),
        )

    # -- what is told of them --------------------------------------------------------------------

    def _on_change(self, entry: NameEntry, change: Change) -> None:
        """On the engine's thread, while whoever changed the name runs."""
        if entry.name in self._names and not self._telling:
            self._telling = True
            self.start_timer(0.0, _Tell())  # which a full mailbox does not refuse

    @info
    def tell(self, msg: _Tell) -> None:
        """Tell the registry."""
        self._telling = False
        self._announce()

    def _announce(self) -> None:
        said = [self.system.names.metadata(name) for name, _ in self._workers]
        spoken = [each for each in said if "type" in each]
        facts: dict[str, Any] = {"type": "module"}
        if spoken:
            facts |= {key: spoken[0].get(key) for key in _SAME}
            facts |= {key: sum(each.get(key, 0) for each in spoken) for key in ("executions", "failures")}
            facts["last_error"] = next((each["last_error"] for each in spoken if each.get("last_error")), None)
            wrong = any(each.get("status") == "misconfigured" for each in spoken)
            facts["status"] = "misconfigured" if wrong else "ready"
        counts = {"workers": len(said), "ready": len(self._running()), "placement": self._placement}
        announce(self, {**facts, **counts})


async def _answer(asked: Awaitable[ModuleStatus]) -> ModuleStatus | CallError:
    try:
        return await asked
    except CallError as error:
        return error  # it has ended, or will: the others speak for it
