"""The canonical order of a trace, where OTP itself defines none (see ``README.md`` beside the data)."""

from __future__ import annotations

from typing import Any

from .world import Json, Noted, NotedReport, Process

Killed = list[tuple[Process, list[Process]]]


def canonical_events(events: list[Noted], killed: Killed) -> list[Json]:
    """Rule 1: neighbouring stops of one parallel stop are sorted. Rule 2: ends below a killed supervisor."""
    rest = list(events)
    first: list[Json] = []
    for supervisor, below in killed:
        first += _take(rest, [supervisor])
        first += sorted(_take(rest, below), key=lambda event: (event[0] == "sup_stop", event))
    return first + _sort_parallel_stops(rest)


def _take(events: list[Noted], processes: list[Process]) -> list[Json]:
    """Remove the ends of these processes from the events, and return them."""
    wanted = [each for each in events if each.event[0] in ("stop", "sup_stop") and each.process in processes]
    for each in wanted:
        events.remove(each)
    return [each.event for each in wanted]


def _sort_parallel_stops(events: list[Noted]) -> list[Json]:
    ordered: list[Json] = []
    run: list[Json] = []
    run_of: Any = None
    for each in events:
        key = _stopped_by(each)
        if key is None or key != run_of:
            ordered += sorted(run)
            run, run_of = [], key
        if key is None:
            ordered.append(each.event)
        else:
            run.append(each.event)
    return ordered + sorted(run)


def _stopped_by(noted: Noted) -> Any:
    process = noted.process
    if noted.event[0] != "stop" or process is None:
        return None
    return process.stopped_with


def canonical_reports(reports: list[NotedReport], killed: Killed) -> list[Json]:
    """Reports made below a killed supervisor come first, sorted."""
    below = {process.address for _, processes in killed for process in processes}
    first = sorted((each.report for each in reports if each.supervisor in below), key=str)
    return first + [each.report for each in reports if each.supervisor not in below]
