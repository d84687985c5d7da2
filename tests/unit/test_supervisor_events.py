"""What telemetry handlers hear of supervisors: one event for each report and for each start (OTP 1.11)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from dspex.runtime.child_spec import child_spec
from dspex.supervisors.messages import TerminateChild
from dspex.supervisors.reports import REPORT_EVENT, START_EVENT
from dspex.supervisors.supervisor import Supervisor
from kit.supervision import Ask, House, Script, Stubborn, Worker, in_house


def test_there_is_one_event_for_each_report_and_start_at_its_moment() -> None:
    """TEL-05: progress, child_terminated, start_error, shutdown and shutdown_error, each when it happens.

    A report is heard before the supervisor acts on it: the child's next incarnation is not there yet.
    """

    async def test(house: House) -> None:
        heard: list[tuple[str, Any, int]] = []

        def hear(event: Any, measurements: Mapping[str, Any], metadata: Mapping[str, Any], config: Any) -> None:
            child = metadata["child"]
            entry = house.engine.names.get("w/a")
            incarnation = 0 if entry is None else entry.incarnation
            heard.append((metadata["kind"], child if event == START_EVENT else child.id, incarnation))
            assert measurements == {"count": 1}

        house.engine.telemetry.attach_many("ear", [REPORT_EVENT, START_EVENT], hear)
        flaky = child_spec("a", Worker, name="w/a", kwargs={"script": Script(None, "boom", None)})
        stuck = child_spec("b", Stubborn, shutdown=1.0)
        sup = await house.start(Supervisor, [flaky, stuck], max_restarts=2)
        assert heard == [("progress", "a", 1), ("progress", "b", 1)]
        heard.clear()
        await house.tell_to_end("w/a")
        await house.call("w/a", Ask())  # waits for the restart, and its retry
        await house.call(sup, TerminateChild("b"))
        assert heard == [
            ("child_terminated", "a", 1),
            ("start_error", "a", 2),
            ("progress", "a", 3),
            ("shutdown_error", "b", 3),
        ]
        heard.clear()
        await house.tell_to_end("w/a")
        await house.engine.wait_down(sup, None)
        assert heard == [("child_terminated", "a", 3), ("shutdown", "a", 3)]

    in_house(test)
