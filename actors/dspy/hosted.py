"""The actor that hosts a ``dspy.Module``, ``module/<id>``: it is asked as our own modules are.

So ``app.module(id)``, evaluation and optimization work on it. Each call runs on a daemon thread, with an LM whose calls
go to the provider actor; a failed call is a reply. Python cannot stop a thread: a call that is given up ends at its
next model call. Who needs more hosts it in a process of its own (``placement="process"``).
"""

from __future__ import annotations

import asyncio
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

from thespian.actors import ActorAddress

from ...runtime.context import Context
from ...runtime.errors import CallError, CallTimeout, ConfigError, Overloaded, SignatureError
from ...runtime.gen_server import Fail, NoReply, Started, call, cast, info
from ...runtime.messages import ExitSignal
from ..events.kinds import ModuleExecution
from ..events.outbox import EventOutbox
from ..events.stamps import stamp_unchecked
from ..modules.execution import code_of
from ..modules.messages import (
    GetState,
    Keep,
    ModuleInfo,
    ModuleStatus,
    Predict,
    PredictionOpened,
    PredictOptions,
    PredictStream,
    UpdateModule,
)
from ..modules.predict_stream import PredictionClosed
from ..modules.prediction import Prediction
from ..modules.program_state import PredictorState, ProgramState
from ..registry.actor import announce
from ..registry.announcing import Announcing
from ..signatures.values import check_inputs
from .hosted_call import HostedCall
from .hosted_stream import HostedStream
from .journaled import Ordinals, RecordedCall, answered
from .line import Journaled, Line
from .program import DspyProgram

KIND: Final = "dspy"
TIMEOUT: Final = 120.0
_PATIENCE: Final = 1.0
"""Seconds in which another worker, which may compute, has to tell its state."""


@dataclass(slots=True)
class _Work:
    """A call on its way: when and where in a trace it began, and whether it holds a slot."""

    msg: Predict
    context: Context
    began: float
    running: bool = False


class HostedModule(Announcing):
    """One hosted module, or one of its workers.

    Args:
        factory: import path of what makes the ``dspy.Module``, ``"package.module:build"``.
        provider: id of the provider or route that its model calls go to.
        signature: what it takes and gives, ``"question -> answer"``; needed unless it has just one predictor.
        state: what ``module.save("x.json")`` wrote: the file's path, or its content.
        max_concurrency: calls in work at once.
        max_queue: calls that may wait for their turn.
        module: its id; taken from its name if not given.
        others: names of the other workers of the module. What they were told by an update, this one goes on with.
        **options: of the model calls, as of ``Predict``: model, temperature, max_tokens, timeout (120 s), ...

    Raises:
        ConfigError: DSPy is missing, or the factory, the state or an option is malformed.
    """

    trap_exit = True  # its streams are linked with it, and may fail alone

    async def init(
        self,
        factory: str,
        *,
        provider: str,
        signature: str | None = None,
        state: str | Mapping[str, Any] | None = None,
        max_concurrency: int = 8,
        max_queue: int = 256,
        module: str | None = None,
        others: Sequence[str] = (),
        **options: Any,
    ) -> None:
        """Make the program now, so that a mistake is a failed start."""
        self._id = module or (self.name or KIND).rpartition("/")[2]
        self._provider = provider
        self._options = PredictOptions.of(options).over(PredictOptions(timeout=TIMEOUT))
        self._limits = (max_concurrency, max_queue)
        self._slots = asyncio.Semaphore(max_concurrency)
        self._streams: dict[ActorAddress, _Work] = {}
        self._open = self._running = self._executions = self._failures = 0
        self._last_error: str | None = None
        self._outbox = EventOutbox(self.system)
        self._started = self.clock.monotonic()
        self._program = await self.run_blocking(DspyProgram.made_by, factory, signature, state)
        await self._catch_up(others)
        self._tell_streams()
        self._announce()

    async def _catch_up(self, others: Sequence[str]) -> None:
        """Take the state of a worker that runs, before the first call: so an update holds as long as one of them does.

        An update that is made meanwhile waits for this one's start, as it is sent to all names.
        """
        for name in others:
            try:
                state: ProgramState = await self.call(name, GetState(), timeout=_PATIENCE, fail_fast=True)
            except CallError:
                continue  # it is away as well, or held up
            if state != self._program.state:
                self._program = await self.run_blocking(self._program.with_state, state)
            return

    # -- what it is asked --------------------------------------------------------------------------

    @call
    def predict(self, msg: Predict) -> NoReply:
        """Serve a call in a task of its own, if there is room."""
        return self.serve(self._serve(msg))

    @call
    def predict_stream(self, msg: PredictStream) -> NoReply:
        """Serve the beginning of a streamed call; it goes on as an actor of its own, linked with this one."""
        return self.serve(self._serve_stream(msg))

    @call
    def recorded_call(self, msg: RecordedCall) -> NoReply:
        """Serve a model call that the program makes for a run."""
        return self.serve(answered(self, msg, f"provider/{self._provider}"))

    @call
    def module_info(self, msg: ModuleInfo) -> ModuleStatus:
        """What it is and how it is."""
        program, state = self._program, self._program.state.predictors
        return ModuleStatus(
            module=self._id,
            kind=KIND,
            signature=str(program.signature),
            predictors=program.predictors,
            instructions=next(iter(state.values())).instructions if len(state) == 1 else None,
            demos=sum(len(each.demos) for each in state.values()),
            provider=self._provider,
            adapter=KIND,
            options=self._options,
            max_concurrency=self._limits[0],
            max_queue=self._limits[1],
            status="ready",
            running=self._running,
            waiting=self._open - self._running,
            streams=len(self._streams),
            executions=self._executions,
            failures=self._failures,
            last_error=self._last_error,
            uptime=self.clock.monotonic() - self._started,
        )

    @call
    async def get_state(self, msg: GetState) -> ProgramState:
        """What its predictors tell their models now."""
        return await self.run_blocking(lambda: self._program.state)

    @call
    async def update_module(self, msg: UpdateModule) -> ModuleStatus | Fail:
        """Go on in another state; calls in work end as they began."""
        try:
            state = msg.state or self._state_of(msg)
            self._program = await self.run_blocking(self._program.with_state, state)
        except (ConfigError, SignatureError) as error:
            return Fail(error)
        return self.module_info(ModuleInfo())

    def _state_of(self, msg: UpdateModule) -> ProgramState:
        """The state that instructions and demos without a predictor's name mean."""
        state = self._program.state
        if len(state.predictors) != 1:
            known = ", ".join(state.predictors)
            raise ConfigError(
                f"expected a state for the predictors {known}, got no names", path="state", expected=known
            )
        ((name, old),) = state.predictors.items()
        instructions = old.instructions if isinstance(msg.instructions, Keep) else msg.instructions
        demos = old.demos if isinstance(msg.demos, Keep) else tuple(msg.demos)
        return ProgramState({name: PredictorState(instructions, demos)})

    # -- calls -------------------------------------------------------------------------------------

    async def _serve(self, msg: Predict) -> Prediction:
        work = self._begin(msg)
        with self._to_its_end(work):
            call = await self._ready(msg, work)
            prediction = await call.predict(self)
        self._end(work, None)
        return prediction

    async def _serve_stream(self, msg: PredictStream) -> PredictionOpened:
        work = self._begin(msg)
        with self._to_its_end(work):
            call = await self._ready(msg, work)
            started = await self.spawn_link(HostedStream, call, self.myAddress, msg.max_demand, supervised=False)
            assert isinstance(started, Started)
            self._streams[started.address] = work
            self._tell_streams()
        return PredictionOpened(started.address)

    def _begin(self, msg: Predict) -> _Work:
        # Counted here and not in the handler: a task that is cancelled before it begins never gets to its end.
        if self._open >= sum(self._limits):
            label = self.name or KIND
            text = f"{label} has {self._limits[0]} calls in work and {self._limits[1]} waiting, its limits"
            raise Overloaded(text, target=label, limit=self._limits[1])
        self._open += 1
        self.set_context(self.context.child(self.ids))
        return _Work(msg, self.context, self.clock.monotonic())

    @contextmanager
    def _to_its_end(self, work: _Work) -> Generator[None, None, None]:
        """Have the call counted out if the work on it fails."""
        try:
            yield
        except BaseException as error:  # fault boundary: nothing is handled here, the end is only written down
            self._end(work, code_of(error))
            raise

    def _end(self, work: _Work, code: str | None) -> None:
        self._open -= 1
        if work.running:
            self._running -= 1
            self._slots.release()
        self._record(work, code)

    async def _ready(self, msg: Predict, work: _Work) -> HostedCall:
        """A call whose inputs are checked and whose turn it is."""
        options = PredictOptions.of(msg.options).over(self._options)
        assert options.timeout is not None
        program, deadline = self._program, self.system.now() + options.timeout
        inputs = check_inputs(program.signature, msg.inputs)
        await self._turn(work, options.timeout, deadline)
        # The time of a stream is its reader's: only each of its model calls has a bound.
        line = self._line(msg, options, None if isinstance(msg, PredictStream) else deadline)
        return HostedCall(msg, program, inputs, options, line, self.name, self._outbox, work.began)

    async def _turn(self, work: _Work, timeout: float, deadline: float) -> None:
        """A slot, waited for until the deadline."""
        try:
            if not self._slots.locked():
                await self._slots.acquire()
            else:
                async with asyncio.timeout_at(deadline):
                    await self._slots.acquire()
        except TimeoutError:
            label = self.name or KIND
            text = f"no turn at {label} within {timeout:g} s: as many calls as may are in work"
            raise CallTimeout(text, target=label, timeout=timeout, state="queued") from None
        work.running = True
        self._running += 1

    def _line(self, msg: Predict, options: PredictOptions, deadline: float | None) -> Line:
        """How the model calls of one call are sent."""
        journaled: Journaled | None = None
        if msg.run is not None:
            place = partial(Ordinals().place, scope=msg.run)
            journaled = Journaled(self.myAddress, place)
        return Line(
            self.system,
            self._provider,
            model=options.model,
            timeout=options.timeout,
            accounts=(f"module/{self._id}",),
            cache=bool(options.cache),
            rollout=options.rollout,
            context=self.context,
            deadline=deadline,
            journaled=journaled,
        )

    # -- streams -----------------------------------------------------------------------------------

    @cast
    def prediction_closed(self, msg: PredictionClosed) -> None:
        """A streamed call has ended, and says how."""
        self._stream_ended(msg.stream, None if msg.error is None else msg.error.code)

    @info
    def stream_down(self, msg: ExitSignal) -> None:
        """A streamed call has ended without a word: it was killed, or crashed."""
        self._stream_ended(msg.sender, "crashed")

    def _stream_ended(self, stream: ActorAddress, code: str | None) -> None:
        work = self._streams.pop(stream, None)
        if work is not None:
            self._tell_streams()
            self._end(work, code)

    # -- what is told of them --------------------------------------------------------------------

    def _tell_streams(self) -> None:
        """Have a pool know at once how many there are; they may be in another process, where its books do not reach."""
        if self.name is not None:
            self.system.names.set_metadata(self.name, {"streams": len(self._streams)})

    def _announce(self) -> None:
        announce(
            self,
            {
                "type": "module",
                "kind": KIND,
                "signature": str(self._program.signature),
                "provider": self._provider,
                "model": self._options.model,
                "adapter": KIND,
                "timeout": self._options.timeout,
                "status": "ready",
                "executions": self._executions,
                "failures": self._failures,
                "last_error": self._last_error,
            },
        )

    def _record(self, work: _Work, code: str | None) -> None:
        self._executions += 1
        if code is not None:
            self._failures += 1
            self._last_error = code
        signature = self._program.signature
        event = stamp_unchecked(
            self,
            ModuleExecution,
            work.context,
            module=self._id,
            module_type=KIND,
            signature=str(signature),
            input_fields=tuple(name for name in signature.input_names if name in work.msg.inputs),
            output_fields=signature.output_names if code is None else (),
            duration=max(self.clock.monotonic() - work.began, 0.0),
            success=code is None,
            error_code=code,
        )
        self._outbox.emit(event)
        self._announce_soon()
