"""Every call ends: with a reply, or with a typed error that says which target, which deadline, and why.

python examples/deadline.py
"""

import asyncio
from dataclasses import dataclass

import dspex
from dspex import ChildSpec, GenServer, call
from dspex.runtime.errors import CallTimeout, NoProcess


@dataclass(frozen=True)
class Wait:
    seconds: float


@dataclass(frozen=True)
class Ask:
    seconds: float


class Sleeper(GenServer):
    """Takes its time."""

    @call
    async def wait(self, msg: Wait) -> str:
        await asyncio.sleep(msg.seconds)
        return f"slept {msg.seconds} s"


class Middle(GenServer):
    """Asks the sleeper; it would wait a minute, but inherits what is left of its own caller's deadline."""

    @call
    async def ask(self, msg: Ask) -> str:
        return str(await self.call("demo/sleeper", Wait(msg.seconds), timeout=60.0))


def main() -> None:
    with dspex.start(config={"events": {"in_memory": True}}) as app:
        app.start_child(ChildSpec("sleeper", Sleeper, name="demo/sleeper"))
        app.start_child(ChildSpec("middle", Middle, name="demo/middle"))
        print("in time: ", app.call("demo/middle", Ask(0.05), timeout=1.0))
        try:
            app.call("demo/middle", Ask(30.0), timeout=0.2)
        except CallTimeout as error:
            print("too late:", error)
        try:
            app.call("demo/nobody", Ask(1.0))
        except NoProcess as error:
            print("nobody:  ", error)


if __name__ == "__main__":
    main()
