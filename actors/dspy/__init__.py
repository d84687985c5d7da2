"""DSPy through our actors: an engine for its models, an actor that hosts its modules. Needs the extra ``dspy``."""

from __future__ import annotations

from .engine import ActorEngine, AsyncActorEngine, actor_lm, check_lm

