"""For tests of single requests: a real provider actor between doubles that write down what they are asked and told."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from dspex.actors.budgets.messages import CancelReservation, Reserve, Reserved, SettleBudget
from dspex.actors.configuration.actor import ConfigurationActor
from dspex.actors.configuration.settings import Settings
from dspex.actors.lm.values import LMRequest, LMResponse, Message
from dspex.actors.protection.messages import Admission, Admit, Settle
from dspex.actors.providers.actor import ProviderActor
from dspex.actors.providers.messages import Complete, OpenStream, StreamOpened
from dspex.actors.testing.scripted_provider import Rule, ScriptedProvider
from dspex.runtime.errors import LMError
from dspex.runtime.gen_server import Fail, GenServer, NoReply, call, cast
from dspex.runtime.testing import VirtualSystem
from dspex.supervisors.dynamic_supervisor import DynamicSupervisor
from kit.providers import Notebook

Verdict = Callable[[Any], Any]
"""What a double answers to a question: None is yes, an error is no, a number is how many seconds it takes."""


@dataclass
class Book:
    """What the doubles were asked and told, and what they answer.

    Attributes:
        asked: all ``Admit`` and ``Reserve``, in order.
        settled: all ``Settle``.
        paid: all ``SettleBudget`` and ``CancelReservation``.
        admit, reserve: what is answered.
    """

    asked: list[Any] = field(default_factory=list[Any])
    settled: list[Settle] = field(default_factory=list[Settle])
    paid: list[Any] = field(default_factory=list[Any])
    admit: Verdict = lambda message: None
    reserve: Verdict = lambda message: None

    @property
    def admissions(self) -> list[Admit]:
        """The questions to the protection."""
        return [message for message in self.asked if isinstance(message, Admit)]

    @property
    def reservations(self) -> list[Reserve]:
        """The questions to the budgets."""
        return [message for message in self.asked if isinstance(message, Reserve)]

    @property
    def ends(self) -> list[str | None]:
        """How the admissions ended, in order."""
        return [message.failure for message in self.settled]

    def balanced(self, refused: int = 0) -> None:
        """Each admission was settled exactly once, each reservation settled or cancelled exactly once."""
        settled = [message.id for message in self.settled]
        assert len(settled) == len(set(settled))
        assert set(settled) <= {message.id for message in self.admissions}
        assert len(settled) == len(self.admissions) - refused
        paid = [message.id for message in self.paid]
        assert len(paid) == len(set(paid))
        assert set(paid) <= {message.id for message in self.reservations}


class _Double(GenServer):
    def init(self, book: Book) -> None:
        self.book = book

    def answer(self, message: Any, verdict: Any, yes: Any) -> Any:
        self.book.asked.append(message)
        if isinstance(verdict, LMError):
            return Fail(verdict)
        if verdict is None:
            return yes
        return self.serve(self._later(verdict, yes))

    async def _later(self, seconds: float, yes: Any) -> Any:
        await asyncio.sleep(seconds)
        return yes


class Protection(_Double):
    """Stands in for ``protection/p``."""

    @call
    def admit(self, msg: Admit) -> Admission | NoReply | Fail:
        verdict = self.book.admit(msg)
        waited = verdict if isinstance(verdict, float) else 0.0
        return self.answer(msg, verdict, Admission(msg.id, waited))  # type: ignore[no-any-return]

    @cast
    def settle(self, msg: Settle) -> None:
        self.book.settled.append(msg)


class Budgets(_Double):
    """Stands in for ``core/budgets``."""

    @call
    def reserve(self, msg: Reserve) -> Reserved | NoReply | Fail:
        return self.answer(msg, self.book.reserve(msg), Reserved(msg.id))  # type: ignore[no-any-return]

    @cast
    def settle(self, msg: SettleBudget | CancelReservation) -> None:
        self.book.paid.append(msg)


class Post:
    """A provider ``p`` with a script for its network, between doubles.

    Attributes:
        book: what the doubles know.
        script: what the network does.
        events: all events.
    """

    def __init__(self, system: VirtualSystem, *, caching: bool = False, transport: Any = None, **settings: Any) -> None:
        self.system = system
        self.book = Book()
        self.script = ScriptedProvider()
        self.events: list[Any] = []
        notes: list[Mapping[str, Any]] = []
        provider = {"kind": "openai", "base_url": "http://127.0.0.1:9/v1", "default_model": "m", **settings}
        ai = {"providers": {"p": provider}, "caching": {"enabled": caching}}
        ai["monitoring"] = {"detailed_event_logging": True}
        for name in ("core/events", "core/registry"):
            system.spawn(Notebook, self.events, notes, name=name)
        system.spawn(ConfigurationActor, Settings.model_validate({"ai": ai}), name="core/config")
        system.spawn(Budgets, self.book, name="core/budgets")
        system.spawn(Protection, self.book, name="protection/p")
        system.spawn(ProviderActor, "p", transport=transport or self.script.transport, name="provider/p")
        system.spawn(DynamicSupervisor, name="streams/p")
        self.events.clear()

    def rules(self, *rules: Any) -> None:
        """What the network answers, one after the other; the last one for ever."""
        made = [rule if isinstance(rule, Rule) else Rule(rule) for rule in rules]
        for rule in made[:-1]:
            rule.times = 1
        self.script.add(*made)

    @property
    def sent(self) -> int:
        """Requests on the wire."""
        return len(self.script.requests)

    async def asking(self, text: str = "Hi", *, timeout: float | None = 600.0, **how: Any) -> LMResponse:
        """Ask for a whole answer; fields of ``Ask`` in ``how``, the others are the request's."""
        message = Complete(*_request(text, how), **how)
        return await self.system.engine.call_async("provider/p", message, timeout)  # type: ignore[no-any-return]

    def ask(self, text: str = "Hi", **how: Any) -> LMResponse:
        """The same, waited for; then everything has been told."""
        try:
            return self.system.run(self.asking(text, **how))
        finally:
            self.system.settle()

    async def opening(self, text: str = "Hi", *, timeout: float | None = 600.0, **how: Any) -> StreamOpened:
        """Open a stream."""
        message = OpenStream(*_request(text, how), **how)
        return await self.system.engine.call_async("provider/p", message, timeout)  # type: ignore[no-any-return]

    def of(self, type: str) -> list[Any]:
        """The events of a type."""
        return [event for event in self.events if event.type == type]


def _request(text: str, how: dict[str, Any]) -> tuple[LMRequest]:
    own = {name: how.pop(name) for name in list(how) if name not in ("accounts", "on_limit", "cache", "rollout")}
    return (LMRequest((Message("user", text),), **own),)


@contextmanager
def post(seed: int = 1, **settings: Any) -> Iterator[Post]:
    """A provider between doubles, in virtual time."""
    with VirtualSystem(seed=seed) as system:
        yield Post(system, **settings)
