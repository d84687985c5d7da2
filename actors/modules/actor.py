"""The module actor, ``module/<id>``: a signature, answered by one kind of work with models (``kinds/``).

Each prediction is a task of its own: check the inputs, wait for a turn, do what the kind does. Many run at once, up to
``max_concurrency``; the rest wait in turn, up to ``max_queue``. A refused input, a failed request and an answer that
does not fit are replies; only a defect ends the actor.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, replace
from typing import Any, Final

from thespian.actors import ActorAddress

from ...runtime.child_spec import ChildSpec, StartChild
from ...runtime.errors import (
    ActorDied,
    CallError,
    CallTimeout,
    ConfigError,
    Error,
    LMInvalidRequest,
    Overloaded,
    SignatureError,
)
from ...runtime.gen_server import Fail, GenServer, NoReply, call, cast, info
from ...runtime.messages import Down
from ...runtime.outcomes import Started
from ...runtime.reasons import describe
from ...runtime.scope import SCOPE
from ..configuration.messages import NAME as CONFIG
from ..configuration.messages import START_PATIENCE, ConfigChanged, GetModuleSettings, SubscribeSettings
from ..configuration.types import is_table
from ..events.kinds import ModuleExecution
from ..events.outbox import EventOutbox
from ..events.stamps import stamp_unchecked
from ..providers.messages import Leave
from ..registry.actor import announce
from ..registry.announcing import Announcing
from ..signatures.signature import Signature
from ..signatures.values import check_inputs
from .candidates import Candidates
from .execution import Execution, code_of
from .kind import Answer, LastCall
from .messages import (
    GetState,
    Health,
    Keep,
    ModuleInfo,
    ModuleStatus,
    Predict,
    PredictionOpened,
    PredictOptions,
    PredictStream,
    UpdateModule,
    streams_name,
)
from .model_calls import ModelCalls
from .plan import ModulePlan
from .predict_stream import PredictionClosed, PredictionStream, WholePrediction
from .prediction import Prediction
from .program_state import ProgramState

UNNAMED: Final = "module"
_READ_AGAIN: Final = 1.0


@dataclass(frozen=True, slots=True)
class _ReadAgain:
    """To itself: try again to read the settings."""


@dataclass(slots=True)
class _Tally:
    """Counts of this incarnation."""

    open: int = 0
    running: int = 0
    executions: int = 0
    failures: int = 0
    last_error: str | None = None


class ModuleActor(Announcing):
    """One module of any kind.

    Args:
        module: its id. Without further arguments its settings are the configuration's ``modules.<id>``, read at
            each start and again whenever they change.
        worker: which one it is of several that are this module; None if it is the only one.
        **settings: its settings, for use without a configuration actor: ``signature``, ``provider``, and what else
            :func:`~.modules.plan.make_plan` takes.

    Raises:
        SignatureError: the signature is malformed, or a demo does not fit it.
        ConfigError: the module is not configured, or a setting is unknown or malformed.
        LMInvalidRequest: a sampling option is out of range.
    """

    async def init(self, module: str | None = None, worker: int | None = None, **settings: Any) -> None:
        """Check everything now, so that a mistake is a failed start."""
        self._id = module or (self.name or UNNAMED).rpartition("/")[2]
        self._streams_name = streams_name(self._id, worker)
        self._tally = _Tally()
        self._outbox = EventOutbox(self.system)
        self._started = self.clock.monotonic()
        if settings:
            plan = ModulePlan.of(settings)
        else:
            for path in (("modules", self._id), ("dspex", "modules"), ("dspex", "signatures")):
                await self.call(CONFIG, SubscribeSettings(self.myAddress, path), timeout=START_PATIENCE)
            own = await self.call(CONFIG, GetModuleSettings(self._id), timeout=START_PATIENCE)
            plan = ModulePlan.configured(own)
        self._refusal: Error | None = None
        # Whom a request for structured output was refused, and who answered without: (provider, model).
        self._prompt_only: set[tuple[str, str | None]] = set()
        self._streams: dict[ActorAddress | None, tuple[int, Execution]] = {}
        self._plan = plan
        self._candidates = Candidates()
        self._slots = asyncio.Semaphore(plan.max_concurrency)
        self._announce()

    # -- settings --------------------------------------------------------------------------------

    @info
    async def settings_changed(self, msg: ConfigChanged | _ReadAgain) -> None:
        """Take new settings before the next message; predictions in work end as they began."""
        try:
            plan = ModulePlan.configured(await self.call(CONFIG, GetModuleSettings(self._id)))
        except CallError:
            self.start_timer(_READ_AGAIN, _ReadAgain())  # configuration is away; the old settings hold meanwhile
            return
        except (ConfigError, SignatureError, LMInvalidRequest) as error:
            if error.facts.get("reason") == "path_not_found":
                return  # declared no more: it is about to be stopped, and goes on as it is until then
            # New predictions are told what is wrong, until it is put right.
            self._refusal = error
            self._announce()
            return
        if plan.max_concurrency != self._plan.max_concurrency:
            self._slots = asyncio.Semaphore(plan.max_concurrency)
        self._plan, self._refusal = plan, None
        self._prompt_only.clear()
        self._announce()

    # -- what it is asked ------------------------------------------------------------------------

    @call
    def predict(self, msg: Predict) -> NoReply | Fail:
        """Serve a prediction in a task of its own."""
        if self._refusal is not None:
            return Fail(type(self._refusal)(self._refusal.message, **self._refusal.facts))
        return self.serve(self._serve(msg))

    @call
    def predict_stream(self, msg: PredictStream) -> NoReply | Fail:
        """Serve the beginning of a streamed prediction; it goes on as an actor of its own beside this one."""
        if self._refusal is not None:
            return Fail(type(self._refusal)(self._refusal.message, **self._refusal.facts))
        return self.serve(self._serve_stream(msg))

    @call
    def module_info(self, msg: ModuleInfo) -> ModuleStatus:
        """What it is and how it is."""
        plan, tally = self._plan, self._tally
        return ModuleStatus(
            module=self._id,
            kind=plan.kind.name,
            signature=str(plan.signature),
            predictors={name: each.declared for name, each in plan.predictors.items()},
            instructions=plan.instructions,
            demos=sum(len(each.demos) for each in plan.predictors.values()),
            provider=plan.provider,
            adapter=plan.adapter.name,
            options=plan.options,
            max_concurrency=plan.max_concurrency,
            max_queue=plan.max_queue,
            status=self._status,
            running=tally.running,
            waiting=tally.open - tally.running,
            streams=len(self._streams),
            executions=tally.executions,
            failures=tally.failures,
            last_error=tally.last_error,
            uptime=self.clock.monotonic() - self._started,
        )

    @call
    def update_module(self, msg: UpdateModule) -> ModuleStatus | Fail:
        """Go on with other instructions, demos or state; predictions in work end as they began."""
        plan = self._plan
        try:
            if not isinstance(msg.instructions, Keep):
                plan = plan.with_instructions(msg.instructions)
            if not isinstance(msg.demos, Keep):
                plan = plan.with_demos(msg.demos)
            if msg.state is not None:
                plan = plan.with_state(msg.state)
        except (SignatureError, ConfigError) as error:
            return Fail(error)
        self._plan = plan
        self._announce()
        return self.module_info(ModuleInfo())

    @call
    def get_state(self, msg: GetState) -> ProgramState:
        """What its predictors tell their models."""
        return self._plan.state

    # -- predictions -----------------------------------------------------------------------------

    async def _serve(self, msg: Predict) -> Prediction:
        execution = self._begin(msg)
        try:
            prediction = await self._predict(execution)
        except BaseException as error:  # fault boundary: nothing is handled here, the end is only written down
            self._end(execution, error)
            raise
        self._end(execution, None)
        return prediction

    async def _serve_stream(self, msg: PredictStream) -> PredictionOpened:
        execution = self._begin(msg)
        try:
            return await self._open(execution, msg.max_demand)
        except BaseException as error:  # fault boundary: as above
            self._end(execution, error)
            raise

    def _begin(self, msg: Predict) -> Execution:
        """Count an execution in, and give it a span of its own: the provider's events become its children."""
        # Counted here and not in the handler: a task that is cancelled before it begins never gets to its end.
        tally, plan = self._tally, self._plan
        if tally.open >= plan.max_concurrency + plan.max_queue:
            label = self.name or UNNAMED
            raise Overloaded(
                f"{label} has {plan.max_concurrency} predictions in work and {plan.max_queue} waiting, its limits",
                target=label,
                limit=plan.max_queue,
            )
        if msg.state is not None:
            plan = self._candidates.plan(plan, msg.state)
        tally.open += 1
        self.set_context(self.context.child(self.ids))
        options = PredictOptions.of(msg.options).over(plan.options)
        facts: dict[str, Any] = {
            "module": self._id,
            "module_type": plan.kind.name,
            "provider": plan.provider,
            "model": options.model,
            "context": self.context,
            "address": self.myAddress,
        }
        span = self.system.telemetry.span(("dspex", "module"), facts).__enter__()
        return Execution(msg, plan, options, self.clock.monotonic(), span, self.context)

    def _end(self, execution: Execution, error: BaseException | None) -> None:
        """Count it out, whatever its end was, and tell of it."""
        tally = self._tally
        tally.open -= 1
        if execution.slots is not None:
            tally.running -= 1
            execution.slots.release()
        code = None if error is None else code_of(error)
        if execution.at_end is not None:
            execution.at_end(code)
            execution.at_end = None  # it holds the execution
        metadata = {"success": error is None, **({} if code is None else {"code": code})}
        execution.span.add({"repairs": execution.repairs}, metadata)
        execution.span.__exit__(type(error), error, None)
        self._record(execution, code)

    async def _predict(self, execution: Execution) -> Prediction:
        calls = self._calls(execution)
        answer = await self._answer(execution, calls)
        if isinstance(answer, LastCall):
            # Of several predictors each call has a span of its own, the last one too.
            ask = calls.predict if len(execution.plan.predictors) == 1 else calls.predict_within
            answer = await ask(answer.predictor, answer.inputs)
            if calls.single:
                return answer
        return calls.summed(answer)

    async def _open(self, execution: Execution, max_demand: int) -> PredictionOpened:
        calls = self._calls(execution)
        answer = await self._answer(execution, calls)
        if isinstance(answer, LastCall):
            return await self._open_last(execution, calls, answer, max_demand)
        return await self._start_stream(execution, WholePrediction, (calls.summed(answer), self.myAddress))

    async def _open_last(
        self, execution: Execution, calls: ModelCalls, last: LastCall, max_demand: int
    ) -> PredictionOpened:
        opened = await calls.open(last)
        known = replace(execution.info, provider=opened.provider)
        plan = execution.plan.predictors[last.predictor]
        earlier = calls.total if calls.responses else None
        arguments = (opened.address, plan, known, self.myAddress, execution.began, max_demand, earlier)
        try:
            return await self._start_stream(execution, PredictionStream, arguments)
        except BaseException:  # fault boundary: nothing is handled here, the provider's stream is of no use
            self.cast(opened.address, Leave())
            raise

    async def _start_stream(
        self, execution: Execution, cls: type[GenServer], arguments: tuple[Any, ...]
    ) -> PredictionOpened:
        spec = ChildSpec(f"prediction-{self.ids.span_id()}", cls, arguments, restart="temporary")
        started: Started = await self.call(self._streams_name, StartChild(spec, Leave()))
        self._streams[started.address] = (self.monitor(started.address), execution)
        return PredictionOpened(started.address)

    def _calls(self, execution: Execution) -> ModelCalls:
        return ModelCalls(self, execution, self._id, self._prompt_only, self._outbox)

    async def _answer(self, execution: Execution, calls: ModelCalls) -> Answer:
        """Check the inputs, wait for a turn, and do what the kind of module does."""
        plan, timeout = execution.plan, execution.options.timeout
        assert timeout is not None
        execution.deadline = self.system.now() + timeout
        inputs = check_inputs(plan.signature, execution.msg.inputs, checking=plan.checking)
        await self._turn(execution, execution.deadline, timeout)
        return await plan.kind.answer(calls, inputs)

    async def _turn(self, execution: Execution, deadline: float, timeout: float) -> None:
        """Wait for a slot until the deadline. Who asks from within a prediction of this module has that one's."""
        slots = self._slots
        try:
            if slots.locked() and self._asks_itself():
                slots = asyncio.Semaphore(0)  # it would wait for one that waits for it; so it counts, and takes none
            elif not slots.locked():
                await slots.acquire()  # takes no time, so it needs no clock
            else:
                async with asyncio.timeout_at(deadline):
                    await slots.acquire()
        except TimeoutError:
            label = self.name or UNNAMED
            raise CallTimeout(
                f"no turn at {label} within {timeout:g} s: as many predictions as may are in work",
                target=label,
                timeout=timeout,
                state="queued",
            ) from None
        execution.slots = slots
        self._tally.running += 1

    def _asks_itself(self) -> bool:
        scope = SCOPE.get()
        return scope is not None and scope.call is not None and scope.cell in scope.call.served()

    @cast
    def prediction_closed(self, msg: PredictionClosed) -> None:
        """A streamed prediction has ended, and says how."""
        self._stream_ended(msg.stream, msg.error)

    @info
    def prediction_down(self, msg: Down) -> None:
        """A streamed prediction has ended without a word: it was killed, or crashed."""
        error = ActorDied(f"the streamed prediction ended: {describe(msg.reason)}", reason=msg.reason)
        self._stream_ended(msg.address, error)

    def _stream_ended(self, stream: ActorAddress | None, error: Error | None) -> None:
        ref, execution = self._streams.pop(stream, (0, None))
        if execution is not None:
            self.demonitor(ref)
            self._end(execution, error)

    # -- what is told of them --------------------------------------------------------------------

    def _record(self, execution: Execution, code: str | None) -> None:
        tally, signature = self._tally, execution.plan.signature
        tally.executions += 1
        if code is not None:
            tally.failures += 1
            tally.last_error = code
        event = stamp_unchecked(
            self,
            ModuleExecution,
            execution.context,
            module=self._id,
            module_type=execution.plan.kind.name,
            signature=str(signature),
            input_fields=_given(signature, execution.msg.inputs),
            output_fields=signature.output_names if code is None else (),
            duration=max(self.clock.monotonic() - execution.began, 0.0),
            success=code is None,
            error_code=code,
            repairs=execution.repairs,
        )
        self._outbox.emit(event)
        self._announce_soon()

    def _announce(self) -> None:
        plan, tally = self._plan, self._tally
        announce(
            self,
            {
                "type": "module",
                "kind": plan.kind.name,
                "signature": str(plan.signature),
                "provider": plan.provider,
                "model": plan.options.model,
                "adapter": plan.adapter.name,
                "timeout": plan.options.timeout,
                "status": self._status,
                "executions": tally.executions,
                "failures": tally.failures,
                "last_error": tally.last_error,
            },
        )

    @property
    def _status(self) -> Health:
        return "ready" if self._refusal is None else "misconfigured"


def _given(signature: Signature, inputs: object) -> tuple[str, ...]:
    # Refused inputs are told of too, and may be anything.
    return tuple(name for name in signature.input_names if name in inputs) if is_table(inputs) else ()
