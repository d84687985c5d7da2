"""The settings models seen as a tree of keys: for did-you-mean, the environment, the paths and the table of keys."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from types import UnionType
from typing import Annotated, Any, Final, Literal, TypeAlias, Union, get_args, get_origin

from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from .settings import Settings
from .types import Kind, SettingsModel

ANY: Final = "*"
"""Stands for any name of a table in a path pattern."""

LIVE: Final[tuple[tuple[str, ...], ...]] = (
    ("ai", "providers", ANY),
    ("ai", "routes", ANY),
    ("ai", "caching", "enabled"),
    ("ai", "caching", "memory_cache_size"),
    ("ai", "caching", "ttl_seconds"),
    ("ai", "optimization"),
    ("ai", "monitoring"),
    ("dspex",),
    ("modules", ANY),
    ("events", "capture_prompts"),
)
"""What may be changed while the application runs: each pattern and everything below it."""

FIXED: Final[tuple[tuple[str, ...], ...]] = (("modules", ANY, "workers"), ("modules", ANY, "placement"))
"""What is an exception: it is what a module is started as, and holds until it is stopped."""


@dataclass(frozen=True, slots=True)
class TableOf:
    """A table whose names the user chooses; every entry has the shape ``entry``."""

    entry: type[SettingsModel]


Node: TypeAlias = type[SettingsModel] | TableOf | Kind
"""A section, a table of named sections, or a leaf."""


@dataclass(frozen=True, slots=True)
class Key:
    """One row of the table of keys. ``path`` has ``*`` where the user chooses the name."""

    path: tuple[str, ...]
    type: str
    unit: str
    default: str
    live: bool
    description: str

    def row(self) -> str:
        """The key as one line of a Markdown table."""
        cells = (f"`{'.'.join(self.path)}`", self.type, self.unit, f"`{self.default}`" if self.default else "required")
        return f"| {' | '.join((*cells, 'yes' if self.live else 'no', self.description))} |"


def child(node: Node, name: str) -> Node | None:
    """Return what stands below ``node`` under ``name``, or None if there can be nothing."""
    match node:
        case Kind():
            return None
        case TableOf(entry):
            return entry
        case _:
            field = node.model_fields.get(name)
            return None if field is None else _node(field)


def node_at(path: tuple[str, ...], root: type[SettingsModel] = Settings) -> Node | None:
    """Return what stands at ``path`` below ``root``, or None if no setting can be there."""
    node: Node | None = root
    for name in path:
        if node is None:
            return None
        node = child(node, name)
    return node


def names_in(node: Node | None) -> tuple[str, ...]:
    """The keys of a section; none for a leaf, or for a table, whose names are free."""
    return tuple(node.model_fields) if isinstance(node, type) else ()


def is_live(path: tuple[str, ...]) -> bool:
    """Whether the setting at ``path`` may be changed while the application runs."""
    return any(_covers(pattern, path) for pattern in LIVE) and not is_fixed(path)


def is_fixed(path: tuple[str, ...]) -> bool:
    """Whether the setting at ``path`` holds until what it belongs to is stopped and started."""
    return any(_covers(pattern, path) for pattern in FIXED)


@cache
def keys() -> tuple[Key, ...]:
    """Every key that can be configured, in the order of the models."""
    return tuple(_keys((), Settings))


def _covers(pattern: tuple[str, ...], path: tuple[str, ...]) -> bool:
    return len(path) >= len(pattern) and all(
        want in (ANY, got) for want, got in zip(pattern, path[: len(pattern)], strict=True)
    )


def _keys(path: tuple[str, ...], model: type[SettingsModel]) -> Iterator[Key]:
    for name, field in model.model_fields.items():
        here, node = (*path, name), _node(field)
        if isinstance(node, Kind):
            yield _key(here, field, node)
            continue
        if field.default is None:
            yield _key(here, field, Kind("table"))
        if isinstance(node, TableOf):
            yield from _keys((*here, ANY), node.entry)
        else:
            yield from _keys(here, node)


def _key(path: tuple[str, ...], field: FieldInfo, kind: Kind) -> Key:
    return Key(path, kind.name, kind.unit, _default_text(field), is_live(path), field.description or "")


def _default_text(field: FieldInfo) -> str:
    default = field.default
    if default is PydanticUndefined:
        return ""
    match default:
        case None:
            return "none"
        case bool():
            return str(default).lower()
        case "":
            return "see text"
        case str():
            return f'"{default}"'
        case tuple():
            return "[]"
        case Mapping():
            return "{}"
        case _:
            return str(default)


def _node(field: FieldInfo) -> Node:
    return _find(field.annotation, tuple(field.metadata))


def _find(annotation: Any, metadata: tuple[Any, ...]) -> Node:
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return _find(arguments[0], (*arguments[1:], *metadata))
    for mark in metadata:
        if isinstance(mark, Kind):
            return mark
    if isinstance(annotation, type) and issubclass(annotation, SettingsModel):
        return annotation
    if origin is Literal:
        return Kind(" or ".join(str(argument) for argument in arguments), text=True)
    if origin in (Union, UnionType):
        return _find(next(part for part in arguments if part is not type(None)), metadata)
    return TableOf(arguments[1])
