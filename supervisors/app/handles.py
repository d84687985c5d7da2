"""Handles of modules: what ``start_module`` and ``module`` give back."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields, replace
from functools import partial
from typing import Any, Final, Never

from ...actors.modules.field_chunks import FieldChunk
from ...actors.modules.messages import (
    DEFAULT_OPTIONS,
    KEEP,
    Keep,
    ModuleInfo,
    ModuleStatus,
    Predict,
    PredictOptions,
    PredictStream,
    check_max_demand,
)
from ...actors.modules.prediction import Prediction
from ...actors.modules.program_state import ProgramState
from ...actors.signatures.signature import Signature
from ...actors.signatures.values import refuse_unnamed
from ...runtime.context import Context
from ...runtime.errors import UsageError, did_you_mean
from .asks import check_who
from .life import Life
from .program_states import load_state, save_state, state_of, update_state
from .streams import MAX_DEMAND, AnswerStream, AsyncAnswerStream, Opening
from .views import CALL_TIMEOUT

MODULE_TIMEOUT: Final = 30.0
_ANSWER_TIME: Final = 1.0
"""Seconds beyond the module's own deadline in which its word about a missed one reaches the caller."""
_CALL: Final = ("user", "trace_id", "fail_fast", "max_demand")
_MODEL: Final = tuple(field.name for field in fields(PredictOptions))


@dataclass(frozen=True, slots=True)
class CallOptions:
    """How a module is called.

    Attributes:
        user: on whose behalf; travels with every message and event of the call.
        trace_id: a trace begun elsewhere, to join.
        fail_fast: refuse at once if the module is restarting, instead of waiting for it.
        max_demand: pieces of a stream that are asked for and not read yet.
        predict: options of :class:`~dspex.actors.modules.messages.PredictOptions`, for these calls only. Its
            ``timeout`` is the deadline of the whole call; the module's own holds if it is not given.
    """

    user: str | None = None
    trace_id: str | None = None
    fail_fast: bool = False
    max_demand: int = MAX_DEMAND
    predict: PredictOptions = DEFAULT_OPTIONS

    def changed(self, changes: Mapping[str, Any]) -> CallOptions:
        """The same with some options changed, those of the model request among them.

        Raises:
            UsageError: an option is unknown.
            ConfigError: the timeout is no number of seconds in (0, 3600], or ``max_demand`` no whole number from 1.
            LMInvalidRequest: an option of the model request is out of range.
        """
        known = (*_CALL, *_MODEL)
        for name in changes:
            if name not in known:
                raise UsageError(f"expected one of {', '.join(known)}, got {name!r}{did_you_mean(name, known)}")
        own = {name: value for name, value in changes.items() if name in _CALL}
        asked = {name: value for name, value in changes.items() if name in _MODEL}
        check_who(own.get("user"), own.get("trace_id"))
        if "max_demand" in own:
            check_max_demand(own["max_demand"])
        return replace(self, **own, predict=replace(self.predict, **asked))

    def call(self, name: str, inputs: Mapping[str, Any], life: Life) -> tuple[Predict, dict[str, Any]]:
        """The message of one call with a trace of its own, and how it is sent."""
        return Predict(inputs, self.predict), self._how(name, life)

    def opening(self, name: str, inputs: Mapping[str, Any], life: Life) -> Opening:
        """How a stream with these options is begun."""
        message = PredictStream(inputs, self.predict, self.max_demand)
        return Opening(name, message, self._how(name, life), self.max_demand)

    def _how(self, name: str, life: Life) -> dict[str, Any]:
        context = Context.root(life.engine.ids, user=self.user, trace_id=self.trace_id)
        timeout = self.predict.timeout
        if timeout is None:
            timeout = _own_timeout(life, name) + _ANSWER_TIME
        return {"timeout": timeout, "fail_fast": self.fail_fast, "context": context}


def _own_timeout(life: Life, name: str) -> float:
    """The module's own deadline, as it last announced it."""
    announced = _announced(life, name, "timeout")
    return announced if isinstance(announced, float) else MODULE_TIMEOUT


def _by_name(unnamed: tuple[object, ...], name: str, life: Life) -> None:
    """Refuse inputs without a name, with the names that the module last announced."""
    if unnamed:
        announced = _announced(life, name, "signature")
        refuse_unnamed(unnamed, Signature(announced).input_names if isinstance(announced, str) else (), name)


def _announced(life: Life, name: str, what: str) -> object:
    entry = life.engine.names.get(name)
    return None if entry is None else entry.metadata.get(what)


class AsyncModule:
    """A module to be awaited: ``prediction = await module(question="...")``.

    Attributes:
        id: its id.
        name: its registered name, ``module/<id>``.
    """

    def __init__(self, life: Life, id: str, options: CallOptions | None = None) -> None:
        self._life = life
        self._options = options or CallOptions()
        self.id = id
        self.name = f"module/{id}"

    @property
    def call_options(self) -> CallOptions:
        """How it is called."""
        return self._options

    def options(self, **changes: Any) -> AsyncModule:
        """The same module, called with other options (see :class:`CallOptions`).

        Raises:
            UsageError, ConfigError, LMInvalidRequest: as :meth:`CallOptions.changed`.
        """
        return AsyncModule(self._life, self.id, self._options.changed(changes))

    async def __call__(self, /, *unnamed: Never, **inputs: Any) -> Prediction:
        """Predict.

        Raises:
            SignatureError: an input is missing, unknown, of the wrong type or without a name; the model is not asked.
            LMError: the provider failed.
            ParseError: the model's answer does not fit the signature.
            CallError: there is no answer.
        """
        _by_name(unnamed, self.name, self._life)
        message, how = self._options.call(self.name, inputs, self._life)
        return await self._life.call(self.name, message, **how)  # type: ignore[no-any-return]

    def stream(self, /, *unnamed: Never, **inputs: Any) -> AsyncAnswerStream[FieldChunk, Prediction]:
        """Predict in pieces: the text of each output field as it grows, then the whole as ``stream.result``.

        Raises (when it is begun or read):
            SignatureError, LMError, ParseError, CallError: as a call does; StreamInterrupted (an LMError) if it
                breaks off after a piece was delivered.
        """
        _by_name(unnamed, self.name, self._life)
        return AsyncAnswerStream(self._life, partial(self._options.opening, self.name, inputs, self._life))

    async def status(self) -> ModuleStatus:
        """What the module says of itself."""
        return await self._life.call(self.name, ModuleInfo(), timeout=CALL_TIMEOUT)  # type: ignore[no-any-return]

    async def state(self) -> ProgramState:
        """What its predictors tell their models now."""
        return await state_of(self._life, self.id)

    async def update(
        self,
        state: ProgramState | None = None,
        *,
        instructions: str | Keep | None = KEEP,
        demos: Iterable[Mapping[str, Any]] | Keep = KEEP,
    ) -> ProgramState:
        """Change what it tells its models, for good; predictions in work end as they began.

        Args:
            state: of the predictors that it names; None leaves all as they are.
            instructions: of a module that has one predictor; None takes the default ones.
            demos: of a module that has one predictor, in the place of the old ones.

        Returns:
            The whole state.

        Raises:
            SignatureError: a demo does not fit its signature; nothing has changed.
            ConfigError: there is no predictor of a name.
        """
        return await update_state(self._life, self.id, state, instructions, demos)

    async def save(self, path: str | os.PathLike[str]) -> None:
        """Write its state to a file, as JSON; a file that is there is replaced as a whole.

        Raises:
            OSError: it cannot be written.
        """
        await save_state(self._life, self.id, path)

    async def load(self, path: str | os.PathLike[str]) -> ProgramState:
        """Give it the state that :meth:`save` wrote.

        Raises:
            OSError: the file cannot be read.
            ConfigError: it holds no state, or one of another program.
            SignatureError: a demo does not fit.
        """
        return await load_state(self._life, self.id, path)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.name}>"


class Module:
    """A module to be called: ``prediction = module(question="...")``. Safe from many threads at once.

    Attributes:
        id: its id.
        name: its registered name, ``module/<id>``.
    """

    def __init__(self, life: Life, id: str, options: CallOptions | None = None) -> None:
        self._life = life
        self._options = options or CallOptions()
        self.id = id
        self.name = f"module/{id}"

    @property
    def call_options(self) -> CallOptions:
        """How it is called."""
        return self._options

    def options(self, **changes: Any) -> Module:
        """The same module, called with other options; see :meth:`AsyncModule.options`."""
        return Module(self._life, self.id, self._options.changed(changes))

    def __call__(self, /, *unnamed: Never, **inputs: Any) -> Prediction:
        """Predict; raises as :meth:`AsyncModule.__call__`."""
        _by_name(unnamed, self.name, self._life)
        message, how = self._options.call(self.name, inputs, self._life)
        return self._life.call_blocking(self.name, message, **how)  # type: ignore[no-any-return]

    def stream(self, /, *unnamed: Never, **inputs: Any) -> AnswerStream[FieldChunk, Prediction]:
        """Predict in pieces; see :meth:`AsyncModule.stream`."""
        _by_name(unnamed, self.name, self._life)
        return AnswerStream(self._life, partial(self._options.opening, self.name, inputs, self._life))

    def status(self) -> ModuleStatus:
        """What the module says of itself."""
        return self._life.call_blocking(self.name, ModuleInfo(), timeout=CALL_TIMEOUT)  # type: ignore[no-any-return]

    def state(self) -> ProgramState:
        """What its predictors tell their models now."""
        return self._life.run(state_of(self._life, self.id))

    def update(
        self,
        state: ProgramState | None = None,
        *,
        instructions: str | Keep | None = KEEP,
        demos: Iterable[Mapping[str, Any]] | Keep = KEEP,
    ) -> ProgramState:
        """Change what it tells its models, for good; see :meth:`AsyncModule.update`."""
        return self._life.run(update_state(self._life, self.id, state, instructions, demos))

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write its state to a file, as JSON; see :meth:`AsyncModule.save`."""
        self._life.run(save_state(self._life, self.id, path))

    def load(self, path: str | os.PathLike[str]) -> ProgramState:
        """Give it the state that :meth:`save` wrote; see :meth:`AsyncModule.load`."""
        return self._life.run(load_state(self._life, self.id, path))

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.name}>"
