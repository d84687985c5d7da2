"""A supervisor restarts a crashing actor; who calls it by name hardly notices.

python examples/supervisor.py
"""

from dataclasses import dataclass

import dspex
from dspex import ChildSpec, GenServer, call


@dataclass(frozen=True)
class Divide:
    by: int


class Divider(GenServer):
    """Divides 100; has a bug."""

    def init(self) -> None:
        self.served = 0

    @call
    def divide(self, msg: Divide) -> float:
        self.served += 1
        return 100 / msg.by  # the bug: nobody checked for zero


def main() -> None:
    with dspex.start(config={"events": {"in_memory": True}}) as app:
        app.start_child(ChildSpec("divider", Divider, name="math/divider"))
        print("100 / 4 =", app.call("math/divider", Divide(4)))
        try:
            app.call("math/divider", Divide(0))
        except dspex.Error as error:
            print("the caller is told:", error)
        print("100 / 5 =", app.call("math/divider", Divide(5)), "(a fresh actor answers)")
        entry = app.entry("math/divider")
        assert entry is not None
        print(f"{entry.name}: {entry.state}, restarts {entry.restarts}")
        print(app.tree())


if __name__ == "__main__":
    main()
