"""The predict module, ``module/<id>``: a signature, asked of a model once per call.

Each prediction is a task of its own: check the inputs, write the prompt, ask the provider, read the answer. Many run
at once, up to ``max_concurrency``; the rest wait in turn, up to ``max_queue``. A refused input, a failed request and
an answer that does not fit are replies; only a defect ends the actor.
"""

from __future__ import annotations

import asyncio
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any, Final

from thespian.actors import ActorAddress

from ..runtime.child_spec import ChildSpec, StartChild
from ..runtime.context import Context
from ..runtime.errors import (
    ActorDied,
    CallError,
    CallTimeout,
    ConfigError,
    Error,
    LMContextLength,
    LMInvalidRequest,
    Overloaded,
    SignatureError,
)
from ..runtime.gen_server import Fail, GenServer, NoReply, call, cast, info
from ..runtime.messages import Down
from ..runtime.outcomes import Started
from ..runtime.reasons import describe
from .config_messages import START_PATIENCE, ConfigChanged, GetModuleSettings, SubscribeSettings
from .event_outbox import EventOutbox
from .events import ModuleExecution, stamp
from .execution import Execution
from .lm import LMResponse, Message
from .module_messages import (
    Health,
    Keep,
    ModuleInfo,
    ModuleStatus,
    Predict,
    PredictionOpened,
    PredictOptions,
    PredictStream,
    UpdateModule,
)
from .module_plan import ModulePlan
from .outputs import how
from .predict_stream import PredictionClosed, PredictionStream
from .prediction import Prediction
from .program_state import ONLY
from .provider_messages import Ask, Complete, Leave, OpenStream, StreamOpened
from .registry import announce
from .repair import read_or_repair
from .settings_types import is_table
from .signature import Signature
from .signature_values import check_inputs

KIND: Final = "predict"
CONFIG: Final = "core/config"
_ANNOUNCE_EVERY: Final = 0.25
_READ_AGAIN: Final = 1.0


@dataclass(frozen=True, slots=True)
class _AnnounceDue:
    """To itself: tell the registry how things are."""


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
    announcing: bool = False


class PredictModule(GenServer):
    """One predict module.

    Args:
        module: its id. Without further arguments its settings are the configuration's ``modules.<id>``, read at
            each start and again whenever they change.
        **settings: its settings, for use without a configuration actor: ``signature``, ``provider``, and what else
            :func:`~.module_plan.make_plan` takes.

    Raises:
        SignatureError: the signature is malformed, or a demo does not fit it.
        ConfigError: the module is not configured, or a setting is unknown or malformed.
        LMInvalidRequest: a sampling option is out of range.
    """

    async def init(self, module: str | None = None, **settings: Any) -> None:
        """Check everything now, so that a mistake is a failed start."""
        self._id = module or (self.name or KIND).rpartition("/")[2]
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
            kind=KIND,
            signature=str(plan.signature),
            predictors={ONLY: plan.signature},
            instructions=plan.signature.instructions,
            demos=len(plan.demos),
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
        """Go on with other instructions or demos; predictions in work end as they began."""
        plan = self._plan
        try:
            if not isinstance(msg.instructions, Keep):
                plan = plan.with_instructions(msg.instructions)
            if not isinstance(msg.demos, Keep):
                plan = plan.with_demos(msg.demos)
        except SignatureError as error:
            return Fail(error)
        self._plan = plan
        self._announce()
        return self.module_info(ModuleInfo())

    # -- predictions -----------------------------------------------------------------------------

    async def _serve(self, msg: Predict) -> Prediction:
        execution = self._begin(msg)
        with self._to_its_end(execution):
            prediction = await self._predict(execution)
        self._end(execution, None)
        return prediction

    async def _serve_stream(self, msg: PredictStream) -> PredictionOpened:
        execution = self._begin(msg)
        with self._to_its_end(execution):
            return await self._open(execution, msg.max_demand)

    @contextmanager
    def _to_its_end(self, execution: Execution) -> Generator[None, None, None]:
        """Have the execution counted out if the work on it fails."""
        try:
            yield
        except BaseException as error:  # fault boundary: nothing is handled here, the end is only written down
            self._end(execution, error)
            raise

    def _begin(self, msg: Predict) -> Execution:
        """Count an execution in, and give it a span of its own: the provider's events become its children."""
        # Counted here and not in the handler: a task that is cancelled before it begins never gets to its end.
        tally, plan = self._tally, self._plan
        if tally.open >= plan.max_concurrency + plan.max_queue:
            label = self.name or KIND
            raise Overloaded(
                f"{label} has {plan.max_concurrency} predictions in work and {plan.max_queue} waiting, its limits",
                target=label,
                limit=plan.max_queue,
            )
        tally.open += 1
        self.set_context(self.context.child(self.ids))
        options = PredictOptions.of(msg.options).over(plan.options)
        facts: dict[str, Any] = {
            "module": self._id,
            "module_type": KIND,
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
        code = None if error is None else _code(error)
        metadata = {"success": error is None, **({} if code is None else {"code": code})}
        execution.span.add({"repairs": execution.repairs}, metadata)
        execution.span.__exit__(type(error), error, None)
        self._record(execution, code)

    async def _predict(self, execution: Execution) -> Prediction:
        messages = await self._ready(execution)

        async def again(messages: tuple[Message, ...]) -> LMResponse:
            self._in_time(execution)
            execution.repairs += 1
            return await self._complete(execution, messages)

        response = await self._complete(execution, messages)
        outputs, response = await read_or_repair(execution.plan, messages, response, again)
        duration = self.clock.monotonic() - execution.began
        return Prediction(outputs, how(execution.info, response, duration, execution.repairs))

    async def _complete(self, execution: Execution, messages: tuple[Message, ...]) -> LMResponse:
        answer: LMResponse = await self._send(execution, Complete, messages)
        return answer

    async def _open(self, execution: Execution, max_demand: int) -> PredictionOpened:
        plan = execution.plan
        opened: StreamOpened = await self._send(execution, OpenStream, await self._ready(execution))
        known = replace(execution.info, provider=opened.provider)
        arguments = (opened.address, plan, known, self.myAddress, execution.began, max_demand)
        spec = ChildSpec(f"prediction-{self.ids.span_id()}", PredictionStream, arguments, restart="temporary")
        try:
            started: Started = await self.call(f"streams/module/{self._id}", StartChild(spec))
        except BaseException:  # fault boundary: nothing is handled here, the provider's stream is of no use
            self.cast(opened.address, Leave())
            raise
        self._streams[started.address] = (self.monitor(started.address), execution)
        return PredictionOpened(started.address)

    async def _ready(self, execution: Execution) -> tuple[Message, ...]:
        """Check the inputs, write the prompt and wait for a turn; the messages to send."""
        plan, options = execution.plan, execution.options
        assert options.timeout is not None
        execution.deadline = self.system.now() + options.timeout
        inputs = check_inputs(plan.signature, execution.msg.inputs, checking=plan.checking)
        messages = tuple(plan.adapter.format(plan.signature, inputs, plan.demos))
        options.request(messages)  # refused here rather than after the wait
        await self._turn(execution, execution.deadline, options.timeout)
        return messages

    async def _send(self, execution: Execution, kind: type[Ask], messages: tuple[Message, ...]) -> Any:
        """Ask the provider, for structured output first; who refuses it is asked without, from then on at once."""
        plan, options = execution.plan, execution.options
        whom = (plan.provider, options.model)
        wanted = None if whom in self._prompt_only else plan.adapter.response_format(plan.signature)
        try:
            return await self._ask(execution, kind(options.request(messages, wanted), accounts=self._accounts))
        except LMContextLength:
            raise
        except LMInvalidRequest:
            if wanted is None:
                raise
        answer = await self._ask(execution, kind(options.request(messages), accounts=self._accounts))
        self._prompt_only.add(whom)
        return answer

    @property
    def _accounts(self) -> tuple[str, ...]:
        return (f"module/{self._id}",)

    async def _ask(self, execution: Execution, ask: Ask) -> Any:
        left = max(execution.deadline - self.system.now(), 0.0)
        return await self.call(f"provider/{execution.plan.provider}", ask, timeout=left)

    def _in_time(self, execution: Execution) -> None:
        if self.system.now() >= execution.deadline:
            label, timeout = self.name or KIND, execution.options.timeout
            raise CallTimeout(f"no time is left at {label}", target=label, timeout=timeout, state="repairing")

    async def _turn(self, execution: Execution, deadline: float, timeout: float) -> None:
        """Wait for a slot until the deadline."""
        slots = self._slots
        try:
            if not slots.locked():
                await slots.acquire()  # takes no time, so it needs no clock
            else:
                async with asyncio.timeout_at(deadline):
                    await slots.acquire()
        except TimeoutError:
            label = self.name or KIND
            raise CallTimeout(
                f"no turn at {label} within {timeout:g} s: as many predictions as may are in work",
                target=label,
                timeout=timeout,
                state="queued",
            ) from None
        execution.slots = slots
        self._tally.running += 1

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
        event = stamp(
            self,
            ModuleExecution,
            module=self._id,
            module_type=KIND,
            signature=str(signature),
            input_fields=_given(signature, execution.msg.inputs),
            output_fields=signature.output_names if code is None else (),
            duration=max(self.clock.monotonic() - execution.began, 0.0),
            success=code is None,
            error_code=code,
            repairs=execution.repairs,
            **_place(execution.context),
        )
        self._outbox.emit(event)
        if not tally.announcing and self.name is not None:
            # Counters change with each call; the registry hears of them a few times a second at most.
            tally.announcing = True
            self.start_timer(_ANNOUNCE_EVERY, _AnnounceDue())

    @info
    def announce_due(self, msg: _AnnounceDue) -> None:
        """Tell the registry."""
        self._tally.announcing = False
        self._announce()

    def _announce(self) -> None:
        plan, tally = self._plan, self._tally
        announce(
            self,
            {
                "type": "module",
                "kind": KIND,
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


def _place(context: Context) -> dict[str, str | None]:
    """Where an event belongs that is told of in another message's turn."""
    return {name: getattr(context, name) for name in ("trace_id", "span_id", "parent_id", "user")}


def _given(signature: Signature, inputs: object) -> tuple[str, ...]:
    # Refused inputs are told of too, and may be anything.
    return tuple(name for name in signature.input_names if name in inputs) if is_table(inputs) else ()


def _code(error: BaseException) -> str:
    if isinstance(error, Error):
        return error.code
    return "cancelled" if isinstance(error, asyncio.CancelledError) else "crashed"
