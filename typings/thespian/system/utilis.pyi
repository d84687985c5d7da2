from collections.abc import Callable
from typing import Any

from thespian.actors import Actor

def actualActorClass(actorClass: type[Actor] | str, source_loader: Callable[..., Any] | None = None) -> type[Actor]: ...

class withPossibleInitArgs:  # noqa: N801
    def __init__(self, **kwargs: Any) -> None: ...
    def create(self, klass: type[Actor]) -> Actor: ...
