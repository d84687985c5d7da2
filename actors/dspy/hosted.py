"""The actor that hosts a ``dspy.Module``, ``module/<id>``: it is asked as our own modules are.

So ``app.module(id)``, evaluation and optimization work on it. Each call runs on a daemon thread, with an LM whose calls
go to the provider actor; a failed call is a reply. Python cannot stop a thread: a call that is given up ends at its
next model call. Who needs more hosts it in a process of its own (``placement="process"``).
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from dataclasses import replace
from functools import partial
from typing import Any, Final

from ...runtime.child_spec import ChildSpec, Placement
from ...runtime.errors import CallTimeout, ConfigError, Error, Overloaded, SignatureError
from ...runtime.gen_server import Fail, GenServer, NoReply, call
from ..event_outbox import EventOutbox
from ..events import ModuleExecution, stamp
from ..lm import LMResponse
from ..module_messages import (
    GetState,
    Keep,
    ModuleInfo,
    ModuleStatus,
    Predict,
    PredictOptions,
    UpdateModule,
)
from ..outputs import how
from ..prediction import Prediction, PredictionInfo
from ..program_state import PredictorState, ProgramState
from ..registry import announce
from ..repair import both
from ..signature_values import check_inputs
from .callbacks import EventCallback
from .engine import lm_on
from .journaled import Ordinals, RecordedCall, answered
from .line import Journaled, Line
from .program import Answered, DspyProgram

KIND: Final = "dspy"
TIMEOUT: Final = 120.0
_START_TIMEOUT: Final = 120.0
"""Seconds for the import of DSPy and of the program."""
_SAMPLING: Final = ("temperature", "top_p", "max_tokens", "seed", "stop")


class HostedModule(GenServer):
    """One hosted module.

    Args:
        factory: import path of what makes the ``dspy.Module``, ``"package.module:build"``.
        provider: id of the provider or route that its model calls go to.
        signature: what it takes and gives, ``"question -> answer"``; needed unless it has just one predictor.
        state: what ``module.save("x.json")`` wrote: the file's path, or its content.
        max_concurrency: calls in work at once.
        max_queue: calls that may wait for their turn.
        **options: of the model calls, as of ``Predict``: model, temperature, max_tokens, timeout (120 s), ...

    Raises:
        ConfigError: DSPy is missing, or the factory, the state or an option is malformed.
    """

    async def init(
        self,
        factory: str,
        *,
        provider: str,
        signature: str | None = None,
        state: str | Mapping[str, Any] | None = None,
        max_concurrency: int = 8,
        max_queue: int = 256,
        **options: Any,
    ) -> None:
        """Make the program now, so that a mistake is a failed start."""
        self._id = (self.name or KIND).rpartition("/")[2]
        self._provider = provider
        self._options = PredictOptions.of(options).over(PredictOptions(timeout=TIMEOUT))
        self._limits = (max_concurrency, max_queue)
        self._slots = asyncio.Semaphore(max_concurrency)
        self._open = self._running = self._executions = self._failures = 0
        self._last_error: str | None = None
        self._outbox = EventOutbox(self.system)
        self._started = self.clock.monotonic()
        self._program = await self.run_blocking(DspyProgram.made_by, factory, signature, state)
        announce(
            self, {"type": "module", "kind": KIND, "signature": str(self._program.signature), "provider": provider}
        )

    # -- what it is asked --------------------------------------------------------------------------

    @call
    def predict(self, msg: Predict) -> NoReply | Fail:
        """Serve a call in a task of its own, if there is room."""
        if self._open >= sum(self._limits):
            label = self.name or KIND
            text = f"{label} has {self._limits[0]} calls in work and {self._limits[1]} waiting, its limits"
            return Fail(Overloaded(text, target=label, limit=self._limits[1]))
        return self.serve(self._serve(msg))

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
            streams=0,
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
        self._open += 1
        self.set_context(self.context.child(self.ids))
        began, error = self.clock.monotonic(), "crashed"
        try:
            prediction = await self._predict(msg, began)
            error = ""
        except Error as failure:
            error = failure.code
            raise
        except asyncio.CancelledError:
            error = "cancelled"
            raise
        finally:
            self._open -= 1
            self._record(msg, error or None, began)
        return prediction

    async def _predict(self, msg: Predict, began: float) -> Prediction:
        options = PredictOptions.of(msg.options).over(self._options)
        assert options.timeout is not None
        program, deadline = self._program, self.system.now() + options.timeout
        inputs = check_inputs(program.signature, msg.inputs)
        answers: list[LMResponse] = []
        line = replace(self._line(msg, options), deadline=deadline, heard=answers.append)
        async with self._turn(options.timeout, deadline):
            answer: Answered = await self.run_blocking(self._run, program, inputs, line, options, msg)
        facts = PredictionInfo(
            correlation_id=self.context.trace_id,
            span_id=self.context.span_id,
            provider=self._provider,
            calls=answer.calls,
        )
        if answers:
            whole = answers[0]
            for each in answers[1:]:
                whole = both(whole, each)
            facts = how(facts, whole, self.clock.monotonic() - began)
        return Prediction(answer.outputs, facts)

    @asynccontextmanager
    async def _turn(self, timeout: float, deadline: float) -> AsyncGenerator[None, None]:
        """A slot, waited for until the deadline."""
        label = self.name or KIND
        try:
            if not self._slots.locked():
                await self._slots.acquire()
            else:
                async with asyncio.timeout_at(deadline):
                    await self._slots.acquire()
        except TimeoutError:
            text = f"no turn at {label} within {timeout:g} s: as many calls as may are in work"
            raise CallTimeout(text, target=label, timeout=timeout, state="queued") from None
        self._running += 1
        try:
            yield
        finally:
            self._running -= 1
            self._slots.release()

    def _line(self, msg: Predict, options: PredictOptions) -> Line:
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
            journaled=journaled,
        )

    def _run(
        self, program: DspyProgram, inputs: Mapping[str, Any], line: Line, options: PredictOptions, msg: Predict
    ) -> Answered:
        """One call, on a thread of its own."""
        assert line.context is not None
        if msg.state is not None:
            program = program.with_state(msg.state)
        sampling = {name: value for name in _SAMPLING if (value := getattr(options, name)) is not None}
        callback = EventCallback(line.engine, line.context, self.name, self._outbox.emit)
        return program.run(inputs, lm_on(line, **sampling), [callback], trace=msg.trace)

    def _record(self, msg: Predict, code: str | None, began: float) -> None:
        self._executions += 1
        if code is not None:
            self._failures += 1
            self._last_error = code
        signature = self._program.signature
        event = stamp(
            self,
            ModuleExecution,
            module=self._id,
            module_type=KIND,
            signature=str(signature),
            input_fields=tuple(name for name in signature.input_names if name in msg.inputs),
            output_fields=signature.output_names if code is None else (),
            duration=max(self.clock.monotonic() - began, 0.0),
            success=code is None,
            error_code=code,
        )
        self._outbox.emit(event)


def hosted_spec(
    id: str, factory: str, /, *, provider: str, placement: Placement = "local", **settings: Any
) -> ChildSpec:
    """The child spec of a hosted module: ``app.start_child(hosted_spec("qa", "shop.qa:build", provider="local"))``.

    Args:
        id: its id; it is called as ``module/<id>``.
        factory: import path of what makes the module.
        provider: id of the provider or route.
        placement: ``process`` hosts it in a process of its own: it computes beside the others, and a kill is one.
        **settings: further arguments of :class:`HostedModule`.

    Raises:
        SpecError: a setting is malformed.
    """
    arguments = {"provider": provider, "start_timeout": _START_TIMEOUT, **settings}
    return ChildSpec(f"module/{id}", HostedModule, (factory,), arguments, name=f"module/{id}", placement=placement)
