"""dspex supervises language-model programs as Erlang/OTP supervises processes.

::

    import dspex

    with dspex.start() as app:
        app.configure_provider("local", kind="openai", base_url="http://127.0.0.1:8080/v1", default_model="some-model")
        qa = app.start_module("qa", "question -> answer", provider="local")
        print(qa(question="Who wrote Hamlet?").answer)

``dspex.errors`` has every error that is raised, all of them below ``dspex.Error``. What is exported here is loaded when
it is first used.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any, Final

from .runtime.version import __version__

if TYPE_CHECKING:
    from .actors.configuration.provider_settings import Budget, RateLimit
    from .actors.evaluation.report import EvaluationReport
    from .actors.evaluation.scoring import MetricResult, Score
    from .actors.evaluation.work import EvaluationProgress
    from .actors.examples import Example
    from .actors.lm.values import Message
    from .actors.modules.history import History
    from .actors.modules.prediction import Prediction
    from .actors.modules.program import ChainOfThought, Module, Predict
    from .actors.modules.program_state import ProgramState
    from .actors.registry.actor import announce
    from .actors.runs.budget import RunBudget
    from .actors.runs.messages import RunResult, RunStatus
    from .actors.scorers.llm_judge import LMJudge
    from .actors.scorers.texts import F1, Contains, ExactMatch
    from .actors.signatures.class_form import InputField, OutputField
    from .actors.signatures.signature import Signature
    from .runtime import errors
    from .runtime.child_spec import ChildSpec
    from .runtime.context import Context
    from .runtime.errors import Error
    from .runtime.gen_server import (
        Continue,
        Exit,
        Fail,
        GenServer,
        Ignore,
        Info,
        NoReply,
        Stop,
        call,
        cast,
        info,
    )
    from .runtime.messages import Down, ExitSignal, Reply, TaskDone, TaskFailed
    from .runtime.registry import Registry
    from .runtime.restart_context import RestartContext
    from .runtime.scope import current_context
    from .runtime.stages import Consumer, Producer, ProducerConsumer, stream
    from .runtime.system_base import LocalSystemBase
    from .supervisors.app.awaitable import AsyncApp
    from .supervisors.app.blocking import App
    from .supervisors.app.runs.handles import AsyncRun, Run
    from .supervisors.app.start import astart, start
    from .supervisors.dynamic_supervisor import DynamicSupervisor
    from .supervisors.partition_supervisor import PartitionSupervisor
    from .supervisors.supervisor import Supervisor
    from .supervisors.task_supervisor import TaskSupervisor

_HOME: Final = {
    ".actors.evaluation.work": ("EvaluationProgress",),
    ".actors.evaluation.report": ("EvaluationReport",),
    ".actors.examples": ("Example",),
    ".actors.modules.history": ("History",),
    ".actors.lm.values": ("Message",),
    ".actors.modules.prediction": ("Prediction",),
    ".actors.modules.program": ("ChainOfThought", "Module", "Predict"),
    ".actors.modules.program_state": ("ProgramState",),
    ".actors.registry.actor": ("announce",),
    ".actors.runs.budget": ("RunBudget",),
    ".actors.runs.messages": ("RunResult", "RunStatus"),
    ".actors.scorers.llm_judge": ("LMJudge",),
    ".actors.scorers.texts": ("F1", "Contains", "ExactMatch"),
    ".actors.evaluation.scoring": ("MetricResult", "Score"),
    ".actors.configuration.provider_settings": ("Budget", "RateLimit"),
    ".actors.signatures.signature": ("Signature",),
    ".actors.signatures.class_form": ("InputField", "OutputField"),
    ".runtime.child_spec": ("ChildSpec",),
    ".runtime.context": ("Context",),
    ".runtime.errors": ("Error",),
    ".runtime.gen_server": (
        "Continue",
        "Exit",
        "Fail",
        "GenServer",
        "Ignore",
        "Info",
        "NoReply",
        "Stop",
        "call",
        "cast",
        "info",
    ),
    ".runtime.messages": ("Down", "ExitSignal", "Reply", "TaskDone", "TaskFailed"),
    ".runtime.registry": ("Registry",),
    ".runtime.restart_context": ("RestartContext",),
    ".runtime.scope": ("current_context",),
    ".runtime.stages": ("Consumer", "Producer", "ProducerConsumer", "stream"),
    ".runtime.system_base": ("LocalSystemBase",),
    ".supervisors.app.awaitable": ("AsyncApp",),
    ".supervisors.app.blocking": ("App",),
    ".supervisors.app.runs.handles": ("AsyncRun", "Run"),
    ".supervisors.app.start": ("astart", "start"),
    ".supervisors.dynamic_supervisor": ("DynamicSupervisor",),
    ".supervisors.partition_supervisor": ("PartitionSupervisor",),
    ".supervisors.supervisor": ("Supervisor",),
    ".supervisors.task_supervisor": ("TaskSupervisor",),
}
_MODULE_OF: Final = {name: module for module, names in _HOME.items() for name in names}

__all__ = (
    "F1",
    "App",
    "AsyncApp",
    "AsyncRun",
    "Budget",
    "ChainOfThought",
    "ChildSpec",
    "Consumer",
    "Contains",
    "Context",
    "Continue",
    "Down",
    "DynamicSupervisor",
    "Error",
    "EvaluationProgress",
    "EvaluationReport",
    "ExactMatch",
    "Example",
    "Exit",
    "ExitSignal",
    "Fail",
    "GenServer",
    "History",
    "Ignore",
    "Info",
    "InputField",
    "LMJudge",
    "LocalSystemBase",
    "Message",
    "MetricResult",
    "Module",
    "NoReply",
    "OutputField",
    "PartitionSupervisor",
    "Predict",
    "Prediction",
    "Producer",
    "ProducerConsumer",
    "ProgramState",
    "RateLimit",
    "Registry",
    "Reply",
    "RestartContext",
    "Run",
    "RunBudget",
    "RunResult",
    "RunStatus",
    "Score",
    "Signature",
    "Stop",
    "Supervisor",
    "TaskDone",
    "TaskFailed",
    "TaskSupervisor",
    "__version__",
    "announce",
    "astart",
    "call",
    "cast",
    "current_context",
    "errors",
    "info",
    "start",
    "stream",
)


def __getattr__(name: str) -> Any:
    module = _MODULE_OF.get(name)
    if name == "errors":
        value: Any = importlib.import_module(".runtime.errors", __name__)
    elif module is None:
        raise AttributeError(f"module 'dspex' has no attribute {name!r}")
    else:
        value = getattr(importlib.import_module(module, __name__), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
