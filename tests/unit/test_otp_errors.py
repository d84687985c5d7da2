"""OTP's error words that no other test spells out; the table of all is docs/otp_errors.md."""

from __future__ import annotations

from typing import Any

import pytest

from dspex.runtime.child_spec import ChildSpec, StartChild, child_spec
from dspex.runtime.errors import StartError, SupervisorError
from dspex.supervisors.backoff import Backoff
from dspex.supervisors.messages import CountChildren, DeleteChild, RestartChild, TerminateChild
from dspex.supervisors.supervisor import Supervisor
from kit.supervision import House, Script, Worker, in_house


def worker(name: str, **options: Any) -> ChildSpec:
    """A worker with a registered name ``w/<id>``."""
    return child_spec(name, Worker, name, **{"name": f"w/{name}", **options})


def test_a_child_that_is_being_restarted_is_left_alone() -> None:
    """SUP-72, SUP-73: restart_child and delete_child are refused with restarting while a restart is due."""

    async def test(house: House) -> None:
        sup = await house.start(Supervisor, [worker("a", backoff=Backoff(initial=2.0, jitter=False))])
        await house.tell_to_end("w/a")
        for message in (RestartChild("a"), DeleteChild("a")):
            with pytest.raises(SupervisorError) as caught:
                await house.call(sup, message)
            assert caught.value.reason == "restarting"
        assert (await house.call(sup, CountChildren())).specs == 1

    in_house(test)


def test_a_start_that_failed_tells_why() -> None:
    """SUP-70, SUP-72: start_child wraps the reason with the spec and keeps nothing; restart_child does not wrap."""

    async def test(house: House) -> None:
        sup = await house.start(Supervisor, [worker("a", kwargs={"script": Script(None, "boom")})])
        new = worker("b", kwargs={"script": Script("boom")})
        with pytest.raises(StartError) as caught:
            await house.call(sup, StartChild(new))
        assert caught.value.reason == ("boom", new)
        await house.call(sup, TerminateChild("a"))
        with pytest.raises(StartError) as again:
            await house.call(sup, RestartChild("a"))
        assert again.value.reason == "boom"
        assert (await house.call(sup, CountChildren())).specs == 1

    in_house(test)


def test_a_failed_boot_names_the_child() -> None:
    """SUP-04: the reason of the supervisor's start names the child that failed, and why."""

    async def test(house: House) -> None:
        bad = worker("b", kwargs={"script": Script("boom")})
        reason = await house.start_fails(Supervisor, [worker("a"), bad])
        assert reason == ("shutdown", ("failed_to_start_child", "b", "boom"))

    in_house(test)


def test_a_trip_is_reported_in_otps_words() -> None:
    """SUP-43, LOG-02: the report says reached_max_restart_intensity, the supervisor ends with shutdown."""

    async def test(house: House) -> None:
        sup = await house.start(Supervisor, [worker("a")], max_restarts=0)
        await house.tell_to_end("w/a")
        assert (await house.engine.wait_down(sup, None))[1] == "shutdown"
        assert house.kinds[-1] == ("shutdown", "a", "reached_max_restart_intensity")

    in_house(test)
