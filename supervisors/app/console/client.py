"""The other end of the console: finds running applications and asks them."""

from __future__ import annotations

import json
import socket
from collections.abc import Mapping
from typing import Any, Final

from ....runtime.errors import ApplicationDown, NoProcess, RemoteError, UsageError, did_you_mean
from .sockets import Address, running

ANSWER_LIMIT: Final = 10.0
"""Seconds that an application gets to answer; it takes at most about three if one actor holds it up."""
_ERRORS: Final = {kind.code: kind for kind in (NoProcess, UsageError, ApplicationDown)}


def find(which: str | None = None) -> Address | None:
    """The application that is meant, or None if none runs and none was asked for.

    Args:
        which: its name or its process; without it the only one that runs.

    Raises:
        ApplicationDown: it does not run.
        UsageError: several are meant.
    """
    there = running()
    meant = [each for each in there if which is None or which in (each.app, str(each.pid))]
    if len(meant) > 1:
        shown = ", ".join(f"{each.app} ({each.pid})" for each in meant)
        raise UsageError(f"expected one application, got {len(meant)}: {shown}; say which with --app NAME or --app PID")
    if meant:
        return meant[0]
    if which is None:
        return None
    hint = did_you_mean(which, (each.app for each in there))
    raise ApplicationDown(f"no application {which!r} with a console runs{hint}", reason="not running")


def ask(address: Address, op: str, name: str | None = None) -> Any:
    """Ask an application; ``op`` and ``name`` as of :meth:`.Observer.answer`.

    Raises:
        ApplicationDown: it does not answer.
        NoProcess: nobody ever had the name.
        UsageError: the request is malformed.
        RemoteError: the look failed.
    """
    request = {"op": op} if name is None else {"op": op, "name": name}
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
            connection.settimeout(ANSWER_LIMIT)
            connection.connect(str(address.path))
            connection.sendall(json.dumps(request).encode() + b"\n")
            with connection.makefile("rb") as lines:
                line = lines.readline()
        answer: Mapping[str, Any] = json.loads(line)
    except (OSError, ValueError) as error:
        raise ApplicationDown(
            f"{address.app} ({address.pid}) does not answer: {error}", reason=type(error).__name__
        ) from error
    if "ok" in answer:
        return answer["ok"]
    told = answer["error"]
    kind = _ERRORS.get(told["code"], RemoteError)
    raise kind(told["text"])


def with_rates(before: Mapping[str, Any] | None, now: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The rows of two ``stats`` as one, with ``rate``: messages a second between them; 0 without a first one.

    A new incarnation counts from nothing.
    """
    old = {} if before is None else {row["address"]: row["handled"] for row in before["rows"]}
    seconds = 0.0 if before is None else now["at"] - before["at"]
    rows: list[dict[str, Any]] = []
    for row in now["rows"]:
        done = row["handled"] - old.get(row["address"], 0)
        rows.append({**row, "rate": done / seconds if seconds > 0 else 0.0})
    return rows
