"""Actors of one's own in an application, and looking at what runs there; as coroutines."""

from __future__ import annotations

import asyncio
from collections.abc import Hashable, Mapping
from dataclasses import replace
from datetime import timedelta
from functools import partial
from typing import Any, Final

from thespian.actors import Actor, ActorAddress

from ...runtime.child_spec import ChildSpec, StartChild, as_child_spec
from ...runtime.context import Context
from ...runtime.engine import Engine
from ...runtime.errors import StartError, SupervisorError, UnknownMessage
from ...runtime.names import NameEntry, qualify
from ...runtime.outcomes import Ignored, Started
from ...runtime.reasons import KILL, Reason
from ..messages import DeleteChild, TerminateChild
from . import names
from .console.picture import TreeNode, draw, tree_of
from .failure import child_start_error
from .health import Health, health_of
from .life import Life
from .views import CALL_TIMEOUT

_FORGOTTEN: Final = ("not_found", "simple_one_for_one")
"""Why a child that was stopped cannot be deleted: a temporary one is, and no other supervisor keeps it."""


class AsyncActors:
    """What an application offers for any actor; the part of :class:`~.awaitable.AsyncApp` that knows no models.

    Args:
        life: what started the application and will stop it.
        namespace: names of one's own actors are resolved in it.
    """

    def __init__(self, life: Life, namespace: str) -> None:
        self._life = life
        self._namespace = namespace

    @property
    def engine(self) -> Engine:
        """The engine below."""
        return self._life.engine

    async def _ask(self, target: str, message: Any, timeout: float | None = CALL_TIMEOUT) -> Any:
        return await self._life.call(target, message, timeout=timeout)  # the standard parts: in no namespace

    # -- actors of one's own ---------------------------------------------------------------------

    async def start_child(
        self, spec: ChildSpec | Mapping[str, Any] | type[Actor], *, under: str = names.CHILDREN
    ) -> Started | Ignored:
        """Start an actor of one's own. Below the standard supervisor it comes back after any restart.

        Args:
            spec: a child spec, OTP's map form, or an actor class.
            under: name of the supervisor.

        Returns:
            The address and what ``init`` passed on, or that ``init`` said ignore.

        Raises:
            SpecError: the spec is malformed.
            StartError: it did not start; ``__cause__`` is the exception, if there was one.
            SupervisorError: the id is taken.
            NoProcess: there is no such supervisor.
        """
        spec = as_child_spec(spec)
        if spec.name is not None:
            spec = replace(spec, name=qualify(self._namespace, spec.name))
        try:
            return await self._ask(under, StartChild(spec), None)  # type: ignore[no-any-return]
        except StartError as error:
            raise child_start_error(error)  # noqa: B904 - it has its cause

    async def stop_child(self, child: Hashable | ActorAddress, *, under: str = names.CHILDREN) -> None:
        """Stop an actor of one's own for good: nothing starts it again, its id and its name are free.

        Args:
            child: its id; below a dynamic supervisor its address or name.
            under: name of the supervisor.

        Raises:
            SupervisorError: there is no such child.
            NoProcess: there is no such supervisor.
        """
        await self._ask(under, TerminateChild(child), None)
        try:
            await self._ask(under, DeleteChild(child), None)
        except UnknownMessage:
            pass  # a dynamic supervisor has forgotten it
        except SupervisorError as error:
            if error.reason not in _FORGOTTEN:
                raise
        if isinstance(child, str) and "/" in child:
            # Of a supervisor that is named so, the names below it: those of a module with workers, say.
            await self._life.on_engine(partial(self._life.drop_name, qualify(self._namespace, child)))

    async def call(
        self,
        target: str | ActorAddress,
        message: Any,
        *,
        timeout: float | None = CALL_TIMEOUT,
        fail_fast: bool = False,
        context: Context | None = None,
    ) -> Any:
        """Ask an actor and wait for its answer.

        Args:
            target: a name or an address.
            message: what to ask.
            timeout: seconds, None for ever.
            fail_fast: refuse at once if the name is restarting.
            context: the trace to join; a call begins its own otherwise.

        Raises:
            CallError: there is no answer, or the error the actor failed with.
        """
        return await self._life.call(
            target, message, timeout=timeout, namespace=self._namespace, fail_fast=fail_fast, context=context
        )

    def cast(self, target: str | ActorAddress, message: Any) -> None:
        """Tell an actor; nothing is awaited, what cannot be delivered is counted."""
        self.engine.cast(target, message, self._namespace)

    def tell(self, address: ActorAddress, message: Any) -> None:
        """Thespian's tell."""
        self._life.endpoint.tell(address, message)

    async def ask(self, address: ActorAddress, message: Any, timeout: timedelta | float | None = None) -> Any:
        """Thespian's ask: the next message any actor sends back, or None after ``timeout`` seconds."""
        # It blocks, so it waits in a thread: asked for many answers at once, use calls.
        return await asyncio.to_thread(self._life.endpoint.ask, address, message, timeout)

    def kill(self, target: str | ActorAddress, reason: Reason = KILL) -> None:
        """Send an exit signal, ``kill`` unless told otherwise. A name that is down just now has nobody to get it.

        Raises:
            NoProcess: nobody ever had this name.
        """
        self._life.signal(target, reason, self._namespace)

    # -- looking ---------------------------------------------------------------------------------

    def entry(self, name: str) -> NameEntry | None:
        """What the name table says of a name; needs no actor."""
        return self._life.entry(name, self._namespace)

    async def tree_data(self) -> TreeNode:
        """The supervision tree as data."""
        return await self._life.on_engine(lambda: tree_of(self.engine, self._life.root))

    async def tree(self) -> str:
        """The supervision tree as text."""
        return draw(await self.tree_data())

    async def health(self) -> Health:
        """Whether every part is up, and what is not."""
        return health_of(self.engine)
