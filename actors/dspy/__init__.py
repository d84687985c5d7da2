"""DSPy through our actors: an engine for its models, an actor that hosts its modules. Needs the extra ``dspy``."""

from __future__ import annotations

from .engine import ActorEngine, AsyncActorEngine, actor_lm, check_lm
from .hosted import HostedModule, hosted_spec

__all__ = ("ActorEngine", "AsyncActorEngine", "HostedModule", "actor_lm", "check_lm", "hosted_spec")
