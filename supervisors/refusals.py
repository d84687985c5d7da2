"""The typed errors of refused management calls, with OTP's words in ``reason`` (OTP 1.8)."""

from __future__ import annotations

from collections.abc import Hashable, Iterable
from typing import cast

from thespian.actors import ActorAddress

from ..runtime.child_spec import ChildSpec
from ..runtime.errors import AlreadyStarted, StartError, SupervisorError, did_you_mean
from ..runtime.reasons import Reason, describe


def not_found(supervisor: str, child: object, known: Iterable[ChildSpec] = ()) -> SupervisorError:
    """No such child.

    Args:
        supervisor: who refuses.
        child: who was looked for.
        known: the children that it has, if it knows them by id.
    """
    specs, hint = tuple(known), ""
    if isinstance(child, str):
        named = [f", which is the name of the child {spec.id!r}" for spec in specs if spec.name == child]
        hint = named[0] if named else did_you_mean(child, [spec.id for spec in specs if isinstance(spec.id, str)])
    return _refused(supervisor, "not_found", f"expected one of its children, got {child!r}{hint}", child)


def is_running(supervisor: str, id: Hashable) -> SupervisorError:
    """The child runs; only one that does not can be restarted or deleted."""
    return _refused(supervisor, "running", f"child {id!r} is running", id)


def is_restarting(supervisor: str, id: Hashable) -> SupervisorError:
    """The child is being restarted."""
    return _refused(supervisor, "restarting", f"child {id!r} is being restarted", id)


def already_present(supervisor: str, id: Hashable) -> SupervisorError:
    """The id is known, though not running."""
    return _refused(supervisor, "already_present", f"child {id!r} is known already; restart or delete it", id)


def too_many(supervisor: str, limit: int) -> SupervisorError:
    """A dynamic supervisor has all the children it may have."""
    return _refused(supervisor, "max_children", f"it has {limit} children, which is its limit", None)


def by_id(supervisor: str, id: Hashable) -> SupervisorError:
    """A simple_one_for_one supervisor knows its children by address."""
    return _refused(supervisor, "simple_one_for_one", f"expected the address of a child, got {id!r}", id)


def already_started(supervisor: str, id: Hashable, address: ActorAddress | None) -> AlreadyStarted:
    """A child with this id, or an actor with this name, runs."""
    return AlreadyStarted(
        f"{supervisor}: {id!r} is running already, as {address!r}",
        supervisor=supervisor,
        reason=("already_started", address),
        address=address,
    )


def start_failed(supervisor: str, spec: ChildSpec, reason: Reason, *, wrap: bool = False) -> StartError:
    """A child did not start; static start_child wraps the reason with the spec (OTP SUP-70)."""
    match reason:
        case ("already_started", holder):
            return already_started(supervisor, spec.name or spec.id, cast("ActorAddress", holder))
        case _:
            pass
    return StartError(
        f"{supervisor}: child {spec.id!r} did not start: {describe(reason)}",
        supervisor=supervisor,
        child=spec.id,
        reason=(reason, spec) if wrap else reason,
    )


def _refused(supervisor: str, word: str, text: str, child: object) -> SupervisorError:
    return SupervisorError(f"{supervisor}: {text}", supervisor=supervisor, reason=word, child=child)
