"""What a module actor is asked, and what it answers; the same for every kind of module."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import KW_ONLY, dataclass, field, fields, replace
from enum import Enum
from typing import Any, Final, Literal, Self, TypeAlias

from thespian.actors import ActorAddress

from ...runtime.errors import ConfigError, did_you_mean
from ...runtime.messages import Opens
from ..lm.values import LMRequest, Message
from ..providers.messages import Leave
from ..runs.scope import RunScope
from ..signatures.signature import Signature
from .program_state import ProgramState

Health: TypeAlias = Literal["ready", "misconfigured"]
MAX_TIMEOUT: Final = 3600.0
_PROBE: Final = (Message("user", ""),)


@dataclass(frozen=True, slots=True, kw_only=True)
class PredictOptions:
    """How to ask the model; what is None is left to the module, and then to the provider.

    Args:
        model: which model.
        temperature, top_p, seed: sampling; sent only if set.
        max_tokens: bound on the answer's tokens; sent only if set.
        stop: texts that end the answer.
        timeout: seconds the whole prediction may take, waiting for its turn included.
        cache: whether answers from the cache will do, and may be kept there; if nobody says, they will.
        rollout: calls that are alike but for this text have answers of their own in the cache.

    Raises:
        ConfigError: the timeout is no number of seconds in (0, 3600], ``cache`` no flag, or ``rollout`` no text.
        LMInvalidRequest: another option is out of range.
    """

    model: str | None = None
    temperature: float | None = None
    top_p: float | None = None
    max_tokens: int | None = None
    stop: tuple[str, ...] | None = None
    seed: int | None = None
    timeout: float | None = None
    cache: bool | None = None
    rollout: str | None = None

    def __post_init__(self) -> None:
        if self.timeout is not None:
            check_timeout(self.timeout)
        _check_kind("cache", self.cache, bool, "True, False or None")
        _check_kind("rollout", self.rollout, str, "text or None")
        # The request knows what it takes; ask it now rather than at the first call.
        object.__setattr__(self, "stop", self.request(_PROBE).stop)

    @classmethod
    def of(cls, options: Self | Mapping[str, Any] | None) -> Self:
        """Options from a mapping.

        Raises:
            ConfigError: a key is unknown.
        """
        if isinstance(options, cls):
            return options
        if not isinstance(options, Mapping | None):
            got = type(options).__name__
            raise ConfigError(f"expected a mapping of options, got {got}", expected="a mapping", got=got)
        known = [each.name for each in fields(cls)]
        for key in options or {}:
            if key not in known:
                hint = did_you_mean(str(key), known)
                raise ConfigError(f"expected the options {', '.join(known)}, got {key!r}{hint}", path=key, got=key)
        return cls(**(options or {}))

    def over(self, defaults: Self) -> Self:
        """These options, and the defaults where they are silent."""
        given = {each.name: value for each in fields(self) if (value := getattr(self, each.name)) is not None}
        return replace(defaults, **given) if given else defaults

    def request(self, messages: tuple[Message, ...], response_format: Mapping[str, Any] | None = None) -> LMRequest:
        """The request that sends ``messages`` with these options."""
        return LMRequest(
            messages=messages,
            model=self.model,
            temperature=self.temperature,
            top_p=self.top_p,
            max_tokens=self.max_tokens,
            stop=self.stop,
            seed=self.seed,
            response_format=response_format,
        )


def _check_kind(path: str, value: object, kind: type[Any], expected: str) -> None:
    if value is not None and not isinstance(value, kind):
        got = type(value).__name__
        raise ConfigError(f"expected {expected}, got {got}, at {path}", path=path, expected=expected, got=got)


def check_timeout(seconds: object) -> float:
    """A timeout, checked.

    Raises:
        ConfigError: it is no number of seconds in (0, 3600].
    """
    number = seconds if isinstance(seconds, int | float) and not isinstance(seconds, bool) else math.nan
    if 0 < number <= MAX_TIMEOUT:
        return float(number)
    expected = f"seconds above 0, at most {MAX_TIMEOUT:g}"
    hint = "; seconds, not ms?" if number > MAX_TIMEOUT else ""
    raise ConfigError(
        f"expected {expected}, got {seconds!r}, at timeout{hint}", path="timeout", expected=expected, got=seconds
    )


def check_max_demand(pieces: object) -> None:
    """A ``max_demand`` of a stream, checked.

    Raises:
        ConfigError: it is no whole number from 1.
    """
    if not isinstance(pieces, int) or isinstance(pieces, bool) or pieces < 1:
        expected = "a whole number of pieces from 1"
        message = f"expected {expected}, got {pieces!r}, at max_demand"
        raise ConfigError(message, path="max_demand", expected=expected, got=pieces)


DEFAULT_OPTIONS: Final = PredictOptions()


@dataclass(frozen=True, slots=True)
class Predict:
    """Answers a :class:`~.modules.prediction.Prediction`.

    Fails with SignatureError (bad inputs; no model was asked), ParseError (the answer does not fit), an LMError,
    Overloaded, or another CallError (the provider is gone or late). Give up on the call and it ends, down to the
    model request.

    Args:
        inputs: a value for each input field.
        options: for this call only; a mapping is taken too.
        state: answer as if the predictors had this state; the module itself stays as it is.
        run: the run that the call is made for: its model calls are answered from that run's journal, or kept there.
        trace: whether ``Prediction.info.calls`` is wanted.

    Raises:
        ConfigError, LMInvalidRequest: an option is unknown or out of range.
    """

    inputs: Mapping[str, Any]
    options: PredictOptions | Mapping[str, Any] = DEFAULT_OPTIONS
    _: KW_ONLY
    state: ProgramState | None = None
    run: RunScope | None = None
    trace: bool = False

    def __post_init__(self) -> None:
        object.__setattr__(self, "options", PredictOptions.of(self.options))


@dataclass(frozen=True, slots=True)
class PredictStream(Predict, Opens):
    """As :class:`Predict`, in pieces; answers a :class:`PredictionOpened` once the model's first piece is there.

    An answer that does not fit is not repaired: its pieces were given away already.
    The options' time-out is that of the beginning; afterwards the provider's limits of a stream hold. The prediction
    ends when its last consumer leaves, at once if its caller gives up before it has the answer.

    Args:
        max_demand: pieces of the answer that are asked of the provider's stream at once.

    Raises:
        ConfigError, LMInvalidRequest: an option is unknown or out of range, or ``max_demand`` is.
    """

    max_demand: int = 64

    def __post_init__(self) -> None:
        Predict.__post_init__(self)
        check_max_demand(self.max_demand)

    def farewell(self) -> Leave:
        """See :class:`~dspex.runtime.messages.Opens`."""
        return Leave()


@dataclass(frozen=True, slots=True)
class PredictionOpened:
    """A prediction that may be subscribed to.

    Attributes:
        address: the producer of its :class:`~.modules.field_chunks.FieldChunk` and one ``PredictionEnd``.
    """

    address: ActorAddress


def worker_name(module: str, worker: int | None = None) -> str:
    """The registered name of a module, or of one of its workers, which are numbered from 1."""
    return f"module/{module}" if worker is None else f"module/{module}/{worker}"


def streams_name(module: str, worker: int | None = None) -> str:
    """The registered name of the supervisor of its streamed predictions."""
    return f"streams/{worker_name(module, worker)}"


class Keep(Enum):
    """Says that a part of a module stays as it is."""

    KEEP = "keep"


KEEP: Final = Keep.KEEP


@dataclass(frozen=True, slots=True, kw_only=True)
class UpdateModule:
    """Changes what a module tells its model, from the next prediction on; answers a :class:`ModuleStatus`.

    All or nothing. It lasts as long as the actor: a restart begins with the declared settings again. Fails with
    SignatureError if a demo does not fit the signature, with ConfigError if there is no predictor of a name, or if the
    first two are given and the module has several predictors.

    Args:
        instructions: new instructions; None takes the default ones.
        demos: new worked examples, in the place of the old ones.
        state: what the predictors that it names are to tell.

    Raises:
        ConfigError: the demos are none, or the state is no :class:`~.modules.program_state.ProgramState`.
    """

    instructions: str | Keep | None = KEEP
    demos: Iterable[Mapping[str, Any]] | Keep = KEEP
    state: ProgramState | None = None

    def __post_init__(self) -> None:
        # The iterable is used up here, not in the actor.
        if not isinstance(self.demos, Keep):
            _check_kind("demos", self.demos, Iterable, "worked examples")
            object.__setattr__(self, "demos", tuple(self.demos))
        _check_kind("state", self.state, ProgramState, "a ProgramState")


@dataclass(frozen=True, slots=True)
class GetState:
    """Answers the :class:`~.modules.program_state.ProgramState` that a module has now."""


@dataclass(frozen=True, slots=True)
class ModuleInfo:
    """Answers a :class:`ModuleStatus`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ModuleStatus:
    """What a module is and how it is; counts are of this incarnation of the actor.

    Attributes:
        module: its id.
        kind: ``predict``, ``chain_of_thought``, ``best_of_n``, ``refine``, ``react`` or ``program``.
        signature: the canonical text.
        predictors: its predictors by name, with the signatures that they were declared with.
        instructions: what the model is told, or None for the default, or if there are several predictors.
        demos: how many worked examples it shows, in all predictors.
        provider: id of the provider it asks.
        adapter: name of the adapter.
        options: the module's own options.
        max_concurrency: predictions in work at once, of all workers.
        max_queue: predictions that may wait for their turn, of all workers.
        status: ``ready``, or ``misconfigured`` if its settings were changed to what cannot work.
        running: predictions in work.
        waiting: predictions that wait for their turn.
        streams: streamed predictions that have begun and go on; part of ``running``.
        executions: predictions that ended, in whatever way.
        failures: those that gave no answer.
        last_error: code of the last failure, or None.
        uptime: seconds since the actor was started.
        workers: how many actors serve its predictions.
        ready: how many of them run now and answered; the other figures are sums over these.
    """

    module: str
    kind: str
    signature: str
    predictors: Mapping[str, Signature] = field(default_factory=dict[str, Signature])
    instructions: str | None
    demos: int
    provider: str
    adapter: str
    options: PredictOptions
    max_concurrency: int
    max_queue: int
    status: Health
    running: int
    waiting: int
    streams: int
    executions: int
    failures: int
    last_error: str | None
    uptime: float
    workers: int = 1
    ready: int = 1
