"""The registry knows who is who: look up, select by what actors announce of themselves, wait for a name.

python examples/registry.py
"""

from dataclasses import dataclass

import dspex
from dspex import ChildSpec, GenServer, announce, call


@dataclass(frozen=True)
class Render:
    text: str


class Worker(GenServer):
    """Announces which language it speaks."""

    def init(self, language: str) -> None:
        self.language = language
        announce(self, {"type": "renderer", "language": language})

    @call
    def render(self, msg: Render) -> str:
        return f"[{self.language}] {msg.text}"


def main() -> None:
    with dspex.start(config={"events": {"in_memory": True}}) as app:
        for language in ("en", "de", "fr"):
            app.start_child(ChildSpec(language, Worker, (language,), name=f"renderer/{language}"))
        row = app.registry.wait_for("renderer/de")
        print(f"{row.name}: {row.state}, incarnation {row.incarnation}, {dict(row.metadata)}")
        for row in app.registry.select(kind="renderer", where=[("language", "in", ["en", "fr"])]):
            print("selected:", row.name, "->", app.call(row.name, Render("hello")))
        app.kill("renderer/fr")
        row = app.registry.wait_for("renderer/fr")
        print(f"after a kill: {row.name} is {row.state} again, incarnation {row.incarnation}")
        print("its metadata was kept:", dict(row.metadata))


if __name__ == "__main__":
    main()
