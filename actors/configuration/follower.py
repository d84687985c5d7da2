"""What the actors share that are configured by ``core/config``: read at the start, and again after each change."""

from __future__ import annotations

from ...runtime.errors import ActorDied
from ...runtime.gen_server import GenServer, info
from ...runtime.messages import Reply
from .messages import NAME, START_PATIENCE, ConfigChanged, GetSettings, SubscribeSettings
from .paths import PathLike
from .settings import Settings


class SettingsFollower(GenServer):
    """An actor that goes on with new settings while it runs.

    Its requests, whose answers come as ``Reply``, are those for the settings only.
    """

    async def follow_settings(self, *paths: PathLike) -> Settings:
        """For ``init``: be told of changes at these paths from now on, and read the whole as it is.

        Raises:
            CallError: the configuration actor is not there.
        """
        for path in paths:
            await self.call(NAME, SubscribeSettings(self.myAddress, path), timeout=START_PATIENCE)
        return await self.call(NAME, GetSettings(), timeout=START_PATIENCE)  # type: ignore[no-any-return]

    async def use_settings(self, settings: Settings) -> None:
        """Go on with new settings; what is in work ends as it began."""
        raise TypeError(f"{type(self).__name__} follows settings and does not say what it does with them")

    @info
    def settings_changed(self, msg: ConfigChanged) -> None:
        """Read the settings again; work goes on meanwhile."""
        self.request(NAME, GetSettings(), timeout=None)

    @info
    async def settings_read(self, msg: Reply) -> None:
        """Go on with what was read; a configuration actor that died meanwhile is asked again."""
        if isinstance(msg.error, ActorDied):
            self.request(NAME, GetSettings(), timeout=None)
            return
        if msg.error is not None:
            raise msg.error
        await self.use_settings(msg.value)
