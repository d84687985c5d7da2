"""The gateway actor, ``gateway/http``: it owns the server and follows the configuration of providers.

Requests are tasks of the server, on the engine's loop: a stuck request holds up nobody. The socket is closed with the
actor, whatever its end.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

from ...actors.configuration.messages import START_PATIENCE, ConfigChanged, GetSetting, SubscribeSettings
from ...actors.configuration.settings import AiSettings, GatewaySettings
from ...actors.registry.actor import announce
from ...runtime.errors import ActorDied
from ...runtime.gen_server import Continue, GenServer, NoReply, Stop, call, info
from ...runtime.messages import Reply, TaskDone, TaskFailed
from ...runtime.reasons import Reason
from ..app import names
from .desk import Desk
from .door import Door
from .exposure import check_gateway
from .messages import Drain, GatewayReport, GatewayStatus

if TYPE_CHECKING:
    from .listener import Listener

_AI: Final = ("ai",)
LAST_WORDS: Final = 1.0
"""Seconds in which requests that are broken off tell their clients."""


class GatewayActor(GenServer):
    """Serves OpenAI's protocol.

    Args:
        settings: where, and for whom.
        door: the port that an earlier one was given, if any was.

    Raises:
        ConfigError: it would listen beyond this machine without a token; or what it needs is not installed.
    """

    trap_exit = True

    async def init(self, settings: GatewaySettings, door: Door | None = None) -> Continue:
        """Read which providers there are, and be told when they change."""
        check_gateway(settings)
        self._door = Door() if door is None else door
        await self.call(names.CONFIG, SubscribeSettings(self.myAddress, _AI), timeout=START_PATIENCE)
        ai: AiSettings = await self.call(names.CONFIG, GetSetting(_AI), timeout=START_PATIENCE)
        self._desk = Desk(self.system, self._door.at(settings), ai)
        self._listener: Listener | None = None
        return Continue()

    async def handle_continue(self, value: object) -> None:
        """Listen. Behind the start: a port that is taken must not end the application; it is tried again."""
        listener = self._listener = self.own(await self.run_blocking(_prepared, self._desk))
        self._door.port = listener.open()
        self.start_task(listener.serve())
        announce(self, {"type": "gateway", "url": listener.url})

    @property
    def _url(self) -> str:
        assert self._listener is not None
        return self._listener.url

    @call
    def status(self, msg: GatewayStatus) -> GatewayReport:
        """How it is."""
        desk = self._desk
        return GatewayReport(self._url, desk.in_work, desk.requests, desk.refused, desk.draining)

    def format_status(self) -> Mapping[str, Any]:
        """What the console shows."""
        desk = self._desk
        counts = {"in work": desk.in_work, "requests": desk.requests, "refused": desk.refused}
        providers = [*desk.ai.providers, *desk.ai.routes]
        return {"url": self._url, "providers": providers, **counts, "draining": desk.draining}

    @call
    def drain(self, msg: Drain) -> NoReply:
        """Take no more, and answer when nothing is in work."""
        self._desk.draining = True
        return self.serve(self._desk.until_idle())

    @info
    def settings_changed(self, msg: ConfigChanged) -> None:
        """Read the providers again."""
        self.request(names.CONFIG, GetSetting(_AI), timeout=None)

    @info
    def settings_read(self, msg: Reply) -> None:
        """Go on with the new ones."""
        if isinstance(msg.error, ActorDied):
            self.request(names.CONFIG, GetSetting(_AI), timeout=None)
        elif msg.error is not None:
            raise msg.error
        else:
            self._desk.ai = msg.value

    @info
    def served(self, msg: TaskDone | TaskFailed) -> Stop:
        """The server has ended; nobody told it to."""
        return Stop(msg.reason if isinstance(msg, TaskFailed) else "server_ended")

    async def terminate(self, reason: Reason) -> None:
        """Tell the clients that wait."""
        if self._listener is not None:
            await self._listener.finish(LAST_WORDS)


def _prepared(desk: Desk) -> Listener:
    from .listener import Listener  # noqa: PLC0415

    return Listener(desk)
