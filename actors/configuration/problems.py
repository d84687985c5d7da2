"""What is wrong with a configuration, in words: where, what was expected, what came, and who said so.

Values at secret paths and under unknown names (a misspelt ``api_key``) are never shown.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Final, Literal, TypeAlias

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from ...runtime.errors import ConfigError, did_you_mean
from .paths import Path, dotted
from .provider_settings import BASE_URLS
from .schema import names_in, node_at
from .settings import Settings
from .types import Kind, SettingsModel

Origin: TypeAlias = Callable[[Path], str]
"""Tells which source (file, variable, arguments) set a path; an empty text if nobody needs to know."""

_EXPECTED: Final[Mapping[str, str]] = {
    "model_type": "a table",
    "mapping_type": "a table",
    "dict_type": "a table",
    "tuple_type": "a list",
    "string_type": "a text",
    "string_too_short": "a text that is not empty",
    "string_pattern_mismatch": "a name of letters, digits, - and _, at most 100 long",
    "int_type": "an integer",
    "float_type": "a number",
    "bool_type": "true or false",
}
_LOOKS_SECRET: Final = re.compile(r"(?i)^\s*(bearer\s|basic\s|sk-|pk-|aiza|gh[a-z]_|xox|eyj)|://[^/\s]*@|://\S*[?#]")


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is wrong.

    Attributes:
        path: the dotted path of the setting, or empty if it is about the whole.
        expected: what would be right.
        got: what came; never a secret.
        source: who said so: a file, an environment variable, the arguments.
        hint: what to do about it, or empty.
        severity: an ``error`` refuses the configuration; a ``warning`` will hurt later.
    """

    path: str
    expected: str
    got: str
    source: str = ""
    hint: str = ""
    severity: Literal["error", "warning"] = "error"

    def __str__(self) -> str:
        where = f", at {self.path}" if self.path else ""
        source = f" ({self.source})" if self.source else ""
        return f"expected {self.expected}, got {self.got}{where}{source}{self.hint}"


def refusal(problems: Sequence[Problem]) -> ConfigError:
    """Make one error of all problems; its facts are those of the first, and ``problems``."""
    first = problems[0]
    text = (
        str(first) if len(problems) == 1 else "\n".join((f"{len(problems)} settings are wrong:", *map(str, problems)))
    )
    return ConfigError(
        text, path=first.path, expected=first.expected, got=first.got, source=first.source, problems=tuple(problems)
    )


def validated(tree: Mapping[str, Any], origin: Origin = lambda _: "") -> Settings:
    """Validate a tree.

    Args:
        tree: plain nested mappings.
        origin: names the source of a path, for the errors.

    Raises:
        ConfigError: with every problem found (facts: path, expected, got, source, problems).
    """
    try:
        return Settings.model_validate(tree)
    except ValidationError as error:
        problems = [_problem(detail, origin) for detail in error.errors(include_url=False)]
    # Outside the handler: pydantic's error holds the values, and must not hang on ours as its context.
    raise refusal(problems)


def by_hand(model: type[SettingsModel], error: ValidationError) -> ConfigError:
    """Say what is wrong with a section that somebody made by hand.

    Args:
        model: the section; paths begin in it.
        error: what pydantic found.
    """
    source = model.__name__
    return refusal([_problem(detail, lambda _: source, model) for detail in error.errors(include_url=False)])


def _problem(detail: ErrorDetails, origin: Origin, root: type[SettingsModel] = Settings) -> Problem:
    kind, place = detail["type"], [str(part) for part in detail["loc"]]
    about_name = place[-1:] == ["[key]"]
    path = tuple(place[:-1] if about_name else place)
    if kind == "extra_forbidden":
        return _unknown(path, origin, root)
    if kind == "missing":
        return Problem(dotted(path), _needed(path), "nothing", origin(path))
    expected = _EXPECTED.get(kind) or detail["msg"].removeprefix("Input should be ").removeprefix("a valid ")
    got = repr(path[-1][:60]) if about_name else shown(detail["input"], path, root)
    options = re.findall(r"'([^']+)'", expected) if kind == "literal_error" else []
    given = detail["input"]
    hint = did_you_mean(given, options) if isinstance(given, str) else ""
    return Problem(dotted(path), expected, got, origin(path), hint)


def _unknown(path: Path, origin: Origin, root: type[SettingsModel]) -> Problem:
    section, above = node_at(path[:-1], root), node_at(path[:-2], root)
    known = names_in(section) or (above.entries if isinstance(above, Kind) else ())
    expected = (
        f"a key of {dotted(path[:-1])}"
        if path[:-1]
        else "a section"
        if root is Settings
        else f"a key of {root.__name__}"
    )
    inside = [f"{each}.{path[-1]}" for each in known if path[-1] in names_in(node_at((*path[:-1], each), root))]
    hint = did_you_mean(path[-1], known) or did_you_mean(path[-1], inside) or f"; there are {', '.join(known)}"
    return Problem(dotted(path), expected, f"unknown {path[-1][:60]!r}", origin(path), hint)


def _needed(path: Path) -> str:
    if path[-1] == "kind":
        return f"a kind ({', '.join(BASE_URLS)}), as the provider's name is none"
    return f"a value for {path[-1]!r}"


def shown(value: object, path: Path, root: type[SettingsModel] = Settings) -> str:
    """Describe a value for an error: short, and without secrets.

    Args:
        value: what came.
        path: where it stands; decides whether it may be shown at all.
        root: the section in which the path begins.
    """
    match value:
        case Mapping():
            return "a table"
        case list() | tuple():
            return "a list"
        case bool():
            return str(value).lower()
        case None:
            return "none"
        case str() | int() | float() | Decimal() if is_secret(path, root):
            return "a hidden value"
        case str():
            if _LOOKS_SECRET.search(value):
                return "a hidden text"
            return repr(value if len(value) <= 60 else value[:57] + "...")
        case int() | float():
            return repr(value)
        case Decimal():
            return str(value)
        case _:
            return type(value).__name__


def is_secret(path: Path, root: type[SettingsModel] = Settings) -> bool:
    """Whether what stands at ``path`` is a secret; the path begins in the section ``root``."""
    # A header's own path is below a leaf, where no node is: look at what stands above it too.
    nodes = (node_at(path, root), node_at(path[:-1], root))
    return any(isinstance(node, Kind) and "secret" in node.name for node in nodes)
