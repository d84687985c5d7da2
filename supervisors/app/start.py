"""``dspex.start`` and ``dspex.astart``: from settings to a running application."""

from __future__ import annotations

import asyncio
import inspect
import os
from collections.abc import Generator, Iterable, Mapping
from types import TracebackType
from typing import Any, Final, cast

from ...actors.configuration.load import load_settings
from ...actors.configuration.settings import Settings
from ...runtime.engine import Engine
from ...runtime.errors import UsageError, did_you_mean
from ...runtime.host import LoopChoice
from ...runtime.watchdog import LOOK_EVERY
from ..specs import AnySpec
from .awaitable import AsyncApp
from .blocking import App
from .life import Life
from .tree.children import KeptSpecs
from .tree.standard import Plan

StrPath = str | os.PathLike[str]
_OWN_OPTIONS: Final = ("path", "config", "children")


def start(
    path: StrPath | None = None,
    *,
    config: Mapping[str, Any] | None = None,
    children: Iterable[AnySpec] = (),
    **engine: Any,
) -> App:
    """Start an application: the engine in a thread of its own, and the standard tree on it.

    Args:
        path: a TOML file with settings; by default the one ``DSPEX_CONFIG`` names, or none.
        config: settings as nested mappings; they win over file and environment.
        children: specs of actors of one's own, below the supervisor for users' children.
        **engine: options of :class:`~dspex.runtime.engine.Engine`.

    Returns:
        The application; use it with ``with``, or call ``stop``.

    Raises:
        ConfigError: a setting is unknown or wrong.
        SpecError: a child's spec is malformed.
        UsageError: an option is unknown.
        StartError: a part did not start; nothing is left running. The text names the part and the cause.
    """
    life = _prepare(_settings(path, config), children, "own", engine)
    try:
        life.run(life.start())
    except BaseException:  # fault boundary: whatever went wrong, nothing is left running; it is raised again
        life.engine.stop()
        raise
    return App(life)


class Starting:
    """An application that is about to start: ``await`` it, or ``async with`` it."""

    def __init__(self, settings: Settings, children: KeptSpecs, loop: LoopChoice, engine: dict[str, Any]) -> None:
        self._settings = settings
        self._children = children
        self._loop: LoopChoice = loop
        self._engine = engine
        self._app: AsyncApp | None = None

    def __await__(self) -> Generator[Any, None, AsyncApp]:
        return self._start().__await__()

    async def _start(self) -> AsyncApp:
        life = _prepare(self._settings, self._children, self._loop, self._engine)
        try:
            if life.engine.outside.on_thread():
                await life.start()
            else:
                await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(life.start(), life.engine.loop))
        except BaseException:  # fault boundary: whatever went wrong, nothing is left running; it is raised again
            await life.engine.astop()
            raise
        return AsyncApp(life)

    async def __aenter__(self) -> AsyncApp:
        self._app = await self._start()
        return self._app

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._app is not None:
            await self._app.stop()


def astart(
    path: StrPath | None = None,
    *,
    config: Mapping[str, Any] | None = None,
    children: Iterable[AnySpec] = (),
    loop: LoopChoice = "current",
    **engine: Any,
) -> Starting:
    """Start an application from a coroutine: ``async with dspex.astart() as app``, or ``app = await dspex.astart()``.

    Args:
        path: as of :func:`start`.
        config: as of :func:`start`.
        children: as of :func:`start`.
        loop: ``"current"`` runs the actors on this very loop; ``"own"`` in a thread, where code of
            yours that blocks this loop does not hold them up.
        **engine: options of :class:`~dspex.runtime.engine.Engine`.

    Raises:
        ConfigError, SpecError, UsageError: as of :func:`start`, at once.
        StartError: as of :func:`start`, when awaited.
    """
    _check_options(engine)
    return Starting(_settings(path, config), KeptSpecs.of(children), loop, engine)


def _settings(path: StrPath | None, config: Mapping[str, Any] | None) -> Settings:
    if isinstance(cast("object", path), Mapping):
        raise UsageError("expected the path of a TOML file, got a mapping; give settings as config={...}")
    given = cast("object", config)
    if given is not None and not isinstance(given, Mapping):
        raise UsageError(
            f"expected settings as a mapping, got {type(given).__name__}, at config; a file goes in as path"
        )
    return load_settings(path, config)


def _prepare(
    settings: Settings, children: Iterable[AnySpec] | KeptSpecs, loop: LoopChoice, options: Mapping[str, Any]
) -> Life:
    _check_options(options)
    kept = children if isinstance(children, KeptSpecs) else KeptSpecs.of(children)
    # On time of its own, as in tests, a timer that goes on for ever would hide that nothing is left to do.
    watch = None if "clock" in options else LOOK_EVERY
    chosen: dict[str, Any] = {"name": settings.app.name, "watch": watch, **options}
    return Life(Engine(loop=loop, **chosen), Plan(settings, kept))


def _check_options(options: Mapping[str, Any]) -> None:
    known = (*_OWN_OPTIONS, *(name for name in inspect.signature(Engine).parameters if name != "loop"))
    for name in options:
        if name not in known:
            raise UsageError(f"expected one of the options {', '.join(known)}, got {name!r}{did_you_mean(name, known)}")
