"""The predict module, ``module/<id>``: a signature, asked of a model once per call.

Each prediction is a task of its own: check the inputs, write the prompt, ask the provider, read the answer. Many run
at once, up to ``max_concurrency``; the rest wait in turn, up to ``max_queue``. A refused input, a failed request and
an answer that does not fit are replies; only a defect ends the actor.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Any, Final

from ..runtime.errors import (
    CallError,
    CallTimeout,
    ConfigError,
    Error,
    LMInvalidRequest,
    Overloaded,
    ParseError,
    SignatureError,
)
from ..runtime.gen_server import Fail, GenServer, NoReply, call, info
from .config_messages import START_PATIENCE, ConfigChanged, GetModuleSettings, SubscribeSettings
from .event_outbox import EventOutbox
from .events import ModuleExecution, stamp
from .lm import LMResponse
from .module_messages import Health, Keep, ModuleInfo, ModuleStatus, Predict, PredictOptions, UpdateModule
from .module_plan import ModulePlan
from .prediction import Prediction, PredictionInfo
from .provider_messages import Complete
from .registry import announce
from .settings_types import is_table
from .signature import Signature
from .signature_values import KEPT, check_inputs, shorten

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
            for path in (("modules", self._id), ("dspex", "modules")):
                await self.call(CONFIG, SubscribeSettings(self.myAddress, path), timeout=START_PATIENCE)
            own = await self.call(CONFIG, GetModuleSettings(self._id), timeout=START_PATIENCE)
            plan = ModulePlan.configured(own)
        self._refusal: Error | None = None
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
        self._announce()

    # -- what it is asked ------------------------------------------------------------------------

    @call
    def predict(self, msg: Predict) -> NoReply | Fail:
        """Serve a prediction in a task of its own."""
        if self._refusal is not None:
            return Fail(type(self._refusal)(self._refusal.message, **self._refusal.facts))
        return self.serve(self._serve(msg))

    @call
    def module_info(self, msg: ModuleInfo) -> ModuleStatus:
        """What it is and how it is."""
        plan, tally = self._plan, self._tally
        return ModuleStatus(
            module=self._id,
            kind=KIND,
            signature=str(plan.signature),
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
        # Counted here and not in the handler: a task that is cancelled before it begins never gets to its finally.
        tally, plan = self._tally, self._plan
        if tally.open >= plan.max_concurrency + plan.max_queue:
            label = self.name or KIND
            raise Overloaded(
                f"{label} has {plan.max_concurrency} predictions in work and {plan.max_queue} waiting, its limits",
                target=label,
                limit=plan.max_queue,
            )
        tally.open += 1
        try:
            return await self._recorded(msg, plan)
        finally:
            tally.open -= 1

    async def _recorded(self, msg: Predict, plan: ModulePlan) -> Prediction:
        """One execution, told of in an event, in telemetry and in the counters whatever its end."""
        # A span of its own: the provider's events become its children.
        self.set_context(self.context.child(self.ids))
        began = self.clock.monotonic()
        options = PredictOptions.of(msg.options).over(plan.options)
        facts = {"module": self._id, "module_type": KIND, "provider": plan.provider, "model": options.model}
        with self.system.telemetry.span(("dspex", "module"), facts) as span:
            try:
                prediction = await self._predict(msg, plan, options, began)
            except BaseException as error:  # fault boundary: nothing is handled here, the end is only written down
                code = _code(error)
                span.add(metadata={"code": code, "success": False})
                self._record(plan, msg, began, code)
                raise
            span.add(metadata={"success": True})
            self._record(plan, msg, began, None)
            return prediction

    async def _predict(self, msg: Predict, plan: ModulePlan, options: PredictOptions, began: float) -> Prediction:
        assert options.timeout is not None
        deadline = self.system.now() + options.timeout
        inputs = check_inputs(plan.signature, msg.inputs)
        messages = plan.adapter.format(plan.signature, inputs, plan.demos)
        request = options.request(tuple(messages))
        slots = self._slots
        await self._turn(slots, deadline, options.timeout)
        try:
            left = max(deadline - self.system.now(), 0.0)
            response: LMResponse = await self.call(f"provider/{plan.provider}", Complete(request), timeout=left)
        finally:
            self._tally.running -= 1
            slots.release()
        return Prediction(_outputs(plan, response), self._how(plan, response, began))

    async def _turn(self, slots: asyncio.Semaphore, deadline: float, timeout: float) -> None:
        """Wait for a slot until the deadline."""
        try:
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
        self._tally.running += 1

    def _how(self, plan: ModulePlan, response: LMResponse, began: float) -> PredictionInfo:
        context = self.context
        return PredictionInfo(
            usage=response.usage,
            correlation_id=context.trace_id,
            span_id=context.span_id,
            attempts=response.attempts,
            provider=response.provider or plan.provider,
            model=response.model,
            finish_reason=response.finish_reason,
            duration=self.clock.monotonic() - began,
            text=response.text,
        )

    # -- what is told of them --------------------------------------------------------------------

    def _record(self, plan: ModulePlan, msg: Predict, began: float, code: str | None) -> None:
        tally, signature = self._tally, plan.signature
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
            input_fields=_given(signature, msg.inputs),
            output_fields=signature.output_names if code is None else (),
            duration=max(self.clock.monotonic() - began, 0.0),
            success=code is None,
            error_code=code,
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


def _outputs(plan: ModulePlan, response: LMResponse) -> dict[str, Any]:
    if response.refusal is not None and not response.text.strip():
        expected, got = ", ".join(plan.signature.output_names), shorten(repr(response.refusal))
        raise ParseError(
            f"expected the fields {expected}, got the model's refusal {got}",
            expected=expected,
            got=got,
            text=shorten(response.refusal, KEPT),
            finish_reason=response.finish_reason,
        )
    try:
        return plan.adapter.parse(plan.signature, response.text)
    except ParseError as error:
        hint = "; the answer was cut off, max_tokens is too small" if response.finish_reason == "length" else ""
        facts = {**error.facts, "finish_reason": response.finish_reason}
        raise ParseError(f"{error.message}{hint}", **facts) from None


def _given(signature: Signature, inputs: object) -> tuple[str, ...]:
    # Refused inputs are told of too, and may be anything.
    return tuple(name for name in signature.input_names if name in inputs) if is_table(inputs) else ()


def _code(error: BaseException) -> str:
    if isinstance(error, Error):
        return error.code
    return "cancelled" if isinstance(error, asyncio.CancelledError) else "crashed"
