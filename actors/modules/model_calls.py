"""The model calls of one execution: asked within its deadline, journaled if it is part of a run, summed at its end."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Awaitable, Generator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from functools import partial, reduce
from typing import TYPE_CHECKING, Any

from ...runtime.context import Context
from ...runtime.errors import CallCancelled, CallTimeout, LMContextLength, LMInvalidRequest
from ...runtime.gen_server import GenServer
from ...runtime.scope import SCOPE, Scope
from ..events.kinds import ModuleExecution
from ..events.outbox import EventOutbox
from ..events.stamps import stamp_unchecked
from ..lm.values import LMResponse, Message
from ..optimizers.bench import PredictorCall
from ..providers.messages import Ask, Complete, OpenStream, StreamOpened
from ..runs.recorded_call import recorded
from ..signatures.values import check_inputs
from .execution import Execution, code_of
from .kind import LastCall
from .messages import Predict
from .outputs import how
from .prediction import Prediction
from .predictor_plan import PredictorPlan, plain_fields
from .repair import both, read_or_repair

if TYPE_CHECKING:
    from ..runs.scope import RunScope
    from .plan import ModulePlan

Tools = tuple[Mapping[str, Any], ...]


class ModelCalls:
    """What a kind of module asks models with, for one call that the module serves.

    Args:
        actor: the module.
        execution: the call.
        id: the module's.
        prompt_only: whom a request for structured output was refused, and who answered without: (provider, model).
            Shared by all executions of the module.
        outbox: its way to the event store.

    Attributes:
        actor: the module.
        id: the module's.
        responses: the answers so far.
        outbox: the module's way to the event store.
    """

    def __init__(
        self,
        actor: GenServer,
        execution: Execution,
        id: str,
        prompt_only: set[tuple[str, str | None]],
        outbox: EventOutbox,
    ) -> None:
        self.actor = actor
        self.responses: list[LMResponse] = []
        self._execution = execution
        self.id = id
        self._prompt_only = prompt_only
        self.outbox = outbox
        self._turns: dict[str, int] = {}
        self._calls: tuple[PredictorCall, ...] = ()
        self._busy: set[asyncio.Task[Any]] = set()
        self._rest: asyncio.Task[Any] | None = None

    @property
    def plan(self) -> ModulePlan:
        """What the module works with."""
        return self._execution.plan

    # -- predictors --------------------------------------------------------------------------------

    async def predict(
        self, name: str, inputs: Mapping[str, Any], *, rollout: str | None = None, after: tuple[Message, ...] = ()
    ) -> Prediction:
        """Ask a predictor, whose inputs are checked.

        Args:
            name: its name.
            inputs: a value for each of its inputs.
            rollout: names one of several answers to the same question.
            after: messages that follow the prompt.

        Raises:
            ParseError: its answer does not fit, nor does a second one.
            LMError, CallError: there is none.
        """
        turn = self.turn(name, inputs, rollout)
        messages = (*turn.messages, *after) if after else turn.messages
        return await turn.read(messages, await turn.ask(messages))

    async def predict_within(self, name: str, inputs: Mapping[str, Any]) -> Prediction:
        """As :meth:`predict`, in a span of its own below the execution's, with an event; inputs are checked here.

        Raises:
            SignatureError: an input is missing, unknown or of the wrong type.
            ParseError, LMError, CallError: as :meth:`predict`.
        """
        with self._in_work(), self._span(name):
            plan = self._execution.plan.predictors[name]
            return await self.predict(name, check_inputs(plan.signature, inputs, checking=plan.checking))

    async def open(self, last: LastCall) -> StreamOpened:
        """Ask a predictor for its answer in pieces. One of several has a span of its own, which ends with the call.

        Raises:
            LMError, CallError: there is none.
        """
        turn = self.turn(last.predictor, last.inputs)
        if len(self.plan.predictors) == 1:
            return await turn.open()
        began = self.actor.clock.monotonic()
        with self._below() as context:
            self._execution.at_end = partial(self._record, last.predictor, began, context)
            return await turn.open()

    async def module(self, id: str, inputs: Mapping[str, Any]) -> Prediction:
        """Ask another module; what it used counts here too.

        Raises:
            Error: as a call of that module.
        """
        part = f"module/{id}"
        message = Predict(inputs, run=self._scope(part, inputs))
        answer: Prediction = await self.ask(part, message, timeout=self.left)
        info = answer.info
        spent = LMResponse(text="", model=info.model or "", usage=info.usage, cost=info.cost, attempts=info.attempts)
        self.responses.append(replace(spent, cache_hit=info.cache_hit))
        return answer

    async def ask(self, name: str, message: Any, *, timeout: float | None) -> Any:
        """Ask any actor.

        Raises:
            CallError: there is no answer, or the error the actor failed with.
        """
        with self._in_work():
            return await self.actor.call(name, message, timeout=timeout)

    def end(self) -> None:
        """The code that asks has ended, but for the task that says so: what its other tasks still ask is given up."""
        self._rest = asyncio.current_task()
        for task in self._busy - {self._rest}:
            task.cancel()

    @contextmanager
    def _in_work(self) -> Generator[None, None, None]:
        task = asyncio.current_task()
        assert task is not None
        if self._rest is not None and task is not self._rest:
            raise CallCancelled(f"the call of {self.actor.name or self.id} that this was a part of has ended")
        self._busy.add(task)
        try:
            yield
        finally:
            self._busy.discard(task)

    def turn(self, name: str, inputs: Mapping[str, Any], rollout: str | None = None) -> PredictorTurn:
        """The beginning of a conversation with a predictor, whose inputs are checked."""
        return PredictorTurn(self, self._execution, name, inputs, self._scope(name, inputs), rollout)

    def done(self, name: str, inputs: Mapping[str, Any], outputs: Mapping[str, Any]) -> None:
        """Note a predictor's call, if somebody wants to know."""
        if self._execution.msg.trace:
            signature = self._execution.plan.predictors[name].signature
            called = PredictorCall(name, plain_fields(signature, inputs), plain_fields(signature, outputs))
            self._calls = (*self._calls, called)

    @property
    def single(self) -> bool:
        """Whether there was one answer, and nobody wants to know of calls: its prediction tells everything."""
        return len(self.responses) == 1 and not self._calls

    def summed(self, prediction: Prediction) -> Prediction:
        """A prediction that tells what all calls together used."""
        info, known = prediction.info, self._execution.info
        made = info.correlation_id is None  # by code of the program, out of nothing but fields
        info = replace(
            info,
            correlation_id=known.correlation_id,
            span_id=known.span_id,
            provider=info.provider or known.provider,
            duration=self.actor.clock.monotonic() - self._execution.began,
            repairs=self._execution.repairs,
            calls=self._calls,
        )
        if len(self.responses) > 1 or (made and self.responses):
            total = self.total
            info = replace(info, usage=total.usage, cost=total.cost, attempts=total.attempts, cache_hit=total.cache_hit)
        return Prediction(prediction.to_dict(), info)

    @property
    def total(self) -> LMResponse:
        """The last answer, with the usage, cost and attempts of all. There is one at least."""
        return reduce(both, self.responses)

    # -- sending -----------------------------------------------------------------------------------

    async def send(self, kind: type[Ask], plan: PredictorPlan, messages: tuple[Message, ...], ask: Asking) -> Any:
        """Ask the provider, for structured output first; who refuses it is asked without, from then on at once."""
        execution = self._execution
        whom = (execution.plan.provider, execution.options.model)
        wanted = None if whom in self._prompt_only else plan.adapter.response_format(plan.signature)
        try:
            return await self._ask(kind, messages, wanted, ask)
        except LMContextLength:
            raise
        except LMInvalidRequest:
            if wanted is None:
                raise
        answer = await self._ask(kind, messages, None, ask)
        self._prompt_only.add(whom)
        return answer

    def _ask(
        self, kind: type[Ask], messages: tuple[Message, ...], wanted: Mapping[str, Any] | None, ask: Asking
    ) -> Awaitable[Any]:
        options = self._execution.options
        request = options.request(messages, wanted)
        if ask.tools:
            request = replace(request, tools=ask.tools, tool_choice=ask.tool_choice)
        accounts = (f"module/{self.id}",)
        cache, rollout = options.cache is not False, _joined(options.rollout, ask.rollout)
        whole = kind(request, accounts=accounts, cache=cache, rollout=rollout)
        if ask.scope is None or kind is not Complete:
            return self._deliver(whole)
        return recorded(self.actor, ask.scope, ask.ordinal, whole, self._deliver)

    def _deliver(self, ask: Ask) -> Awaitable[Any]:
        return self.actor.call(f"provider/{self._execution.plan.provider}", ask, timeout=self.left)

    @property
    def left(self) -> float:
        """Seconds that are left."""
        return max(self._execution.deadline - self.actor.system.now(), 0.0)

    def in_time(self, state: str) -> None:
        """Refuse to go on when the time is over.

        Raises:
            CallTimeout: it is.
        """
        if self.left <= 0:
            label, timeout = self.actor.name or self.id, self._execution.options.timeout
            raise CallTimeout(f"no time is left at {label}", target=label, timeout=timeout, state=state)

    def _scope(self, part: str, inputs: Mapping[str, Any]) -> RunScope | None:
        """Where in the run the next turn of ``part`` belongs: told by what is asked, as calls side by side come in an
        order of their own each time.
        """
        run = self._execution.msg.run
        if run is None:
            return None
        asked = f"{part}.{hashlib.sha256(repr(dict(inputs)).encode('utf-8', 'replace')).hexdigest()[:16]}"
        number = self._turns[asked] = self._turns.get(asked, -1) + 1
        return run.within(f"{asked}.{number}")

    # -- telling -----------------------------------------------------------------------------------

    @contextmanager
    def _span(self, name: str) -> Generator[None, None, None]:
        began, code = self.actor.clock.monotonic(), None
        with self._below() as context:
            try:
                yield
            except BaseException as error:  # fault boundary: nothing is handled here, the end is only written down
                code = code_of(error)
                raise
            finally:
                self._record(name, began, context, code)

    @contextmanager
    def _below(self) -> Generator[Context, None, None]:
        """A scope of its own: calls that run side by side in one task group stand beside one another in the trace."""
        scope = SCOPE.get()
        assert scope is not None
        context = self.actor.context.child(self.actor.ids)
        token = SCOPE.set(Scope(scope.cell, scope.call, context, scope.in_handler))
        try:
            yield context
        finally:
            SCOPE.reset(token)

    def _record(self, name: str, began: float, context: Context, code: str | None) -> None:
        signature = self._execution.plan.predictors[name].signature
        event = stamp_unchecked(
            self.actor,
            ModuleExecution,
            context,
            module=f"{self.id}.{name}",
            module_type="predictor",
            signature=str(signature),
            input_fields=signature.input_names,
            output_fields=signature.output_names if code is None else (),
            duration=max(self.actor.clock.monotonic() - began, 0.0),
            success=code is None,
            error_code=code,
        )
        self.outbox.emit(event)


class Asking:
    """How one request is sent, beside what it says.

    Args:
        scope: where in a run it belongs, or None.
        ordinal: which request at that place.
        rollout: names one of several answers to the same question.
        tools, tool_choice: tools on offer.
    """

    __slots__ = ("ordinal", "rollout", "scope", "tool_choice", "tools")

    def __init__(
        self,
        scope: RunScope | None,
        ordinal: int,
        rollout: str | None,
        tools: Tools = (),
        tool_choice: str | None = None,
    ) -> None:
        self.scope, self.ordinal, self.rollout = scope, ordinal, rollout
        self.tools, self.tool_choice = tools, tool_choice


class PredictorTurn:
    """One conversation with a predictor.

    Attributes:
        messages: the prompt.
    """

    def __init__(
        self,
        calls: ModelCalls,
        execution: Execution,
        name: str,
        inputs: Mapping[str, Any],
        scope: RunScope | None,
        rollout: str | None,
    ) -> None:
        self._calls, self._execution, self._scope, self._rollout = calls, execution, scope, rollout
        self._name, self._inputs = name, inputs
        self._plan = execution.plan.predictors[name]
        self._asked = 0
        self.messages = self._plan.messages(inputs)

    async def ask(
        self, messages: tuple[Message, ...], *, tools: Tools = (), tool_choice: str | None = None
    ) -> LMResponse:
        """Send messages; what the model answers.

        Raises:
            LMError, CallError: there is no answer, or no time for one.
        """
        if self._asked:
            self._calls.in_time("asking")
        asking = Asking(self._scope, self._asked, self._rollout, tools, tool_choice)
        self._asked += 1
        response: LMResponse = await self._calls.send(Complete, self._plan, messages, asking)
        self._calls.responses.append(response)
        return response

    async def open(self) -> StreamOpened:
        """Ask for the answer in pieces.

        Raises:
            LMError, CallError: there is none.
        """
        asking = Asking(None, 0, self._rollout)
        opened: StreamOpened = await self._calls.send(OpenStream, self._plan, self.messages, asking)
        return opened

    async def read(self, messages: tuple[Message, ...], response: LMResponse, *, tools: Tools = ()) -> Prediction:
        """Read the outputs out of the answer to ``messages``; one that does not fit is repaired, once.

        Args:
            messages: what was asked.
            response: the answer.
            tools: those that were on offer; none may be called in a repair.

        Raises:
            ParseError: no answer fits.
        """

        async def again(messages: tuple[Message, ...]) -> LMResponse:
            self._calls.in_time("repairing")
            self._execution.repairs += 1
            return await self.ask(messages, tools=tools, tool_choice="none" if tools else None)

        outputs, response = await read_or_repair(self._plan, messages, response, again)
        self._calls.done(self._name, self._inputs, outputs)
        execution = self._execution
        duration = self._calls.actor.clock.monotonic() - execution.began
        return Prediction(outputs, how(execution.info, response, duration, execution.repairs))


def _joined(outer: str | None, inner: str | None) -> str | None:
    return inner if outer is None else outer if inner is None else f"{outer}/{inner}"
