"""Loading: defaults, then a TOML file, then the environment, then arguments; later wins, key by key.

A small loader over ``tomllib`` and the models rather than pydantic-settings, for its errors: each problem names
the source that caused it, misspelt variables are refused instead of passed over, and a variable's text is read by
the type of its key (a model named ``4`` stays a text). Variables are ``DSPEX_`` and the path joined by two
underscores: ``DSPEX_AI__CACHING__ENABLED=false``, ``DSPEX_AI__PROVIDERS__LOCAL__TIMEOUT=20s``; an empty one counts
as not set. Values are texts or TOML.
"""

from __future__ import annotations

import os
import pathlib
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from ...runtime.errors import ConfigError, did_you_mean
from ...runtime.secret import SecretRef
from .paths import Path, Tree, dotted, merged, parse_path, plain
from .problems import Problem, is_secret, validated
from .schema import ANY, TableOf, keys, node_at
from .settings import Settings
from .types import Kind, is_table

PREFIX: Final = "DSPEX_"
FILE_VARIABLE: Final = "DSPEX_CONFIG"
"""Names the file when the caller names none."""

_SEPARATOR: Final = "__"
_FLAGS: Final = {
    "true": True,
    "1": True,
    "yes": True,
    "on": True,
    "false": False,
    "0": False,
    "no": False,
    "off": False,
}


@dataclass(frozen=True, slots=True)
class Layer:
    """What one source says."""

    source: str
    tree: Mapping[str, Any]


def load_settings(
    path: str | os.PathLike[str] | None = None,
    config: Mapping[str, Any] | None = None,
    environ: Mapping[str, str] | None = None,
) -> Settings:
    """Load the configuration.

    Args:
        path: a TOML file; by default the one that ``DSPEX_CONFIG`` names, or none.
        config: settings as nested mappings, as from keyword arguments; they win over all else.
        environ: the environment; the process's by default.

    Raises:
        ConfigError: the file cannot be read, or a setting is unknown, missing or wrong
            (facts: path, expected, got, source, problems).
    """
    variables = os.environ if environ is None else environ
    layers: list[Layer] = []
    chosen = path if path is not None else variables.get(FILE_VARIABLE) or None
    if chosen is not None:
        layers.append(_file_layer(pathlib.Path(chosen)))
    arguments = [] if config is None else [Layer("arguments", plain(config))]
    # Variables may name a provider that only the arguments know: both are looked at for its spelling.
    layers.extend(_environment_layers(variables, [*layers, *arguments]))
    return _settle([*layers, *arguments])


def check_config(
    path: str | os.PathLike[str] | None = None, environ: Mapping[str, str] | None = None
) -> tuple[Problem, ...]:
    """Say everything that is wrong with a configuration file, and what will be missing when it runs.

    Args:
        path: the TOML file; by default as of :func:`load_settings`.
        environ: the environment that the application will have; the process's by default.

    Returns:
        Problems; none with severity ``error`` means that the application starts.
    """
    variables = os.environ if environ is None else environ
    try:
        settings = load_settings(path, environ=variables)
    except ConfigError as error:
        facts = error.facts
        return facts.get("problems") or (
            Problem(facts.get("path", ""), facts["expected"], facts["got"], facts.get("source", str(path))),
        )
    return tuple(_warnings(settings, variables))


def _settle(layers: Sequence[Layer]) -> Settings:
    tree: dict[str, Any] = {}
    for layer in layers:
        tree = merged(tree, layer.tree)

    def origin(at: Path) -> str:
        # The source that says most about the path; of equals the later one, for it won.
        return max(reversed(layers), key=lambda layer: _depth(layer.tree, at), default=Layer("", {})).source

    return validated(tree, origin)


def _depth(tree: object, path: Path) -> int:
    for depth, name in enumerate(path):
        if not is_table(tree) or name not in tree:
            return depth
        tree = tree[name]
    return len(path)


def _file_layer(path: pathlib.Path) -> Layer:
    source = f"file {path}"
    try:
        return Layer(source, plain(tomllib.loads(path.read_text(encoding="utf-8-sig"))))
    except OSError as error:
        raise _unreadable("a readable TOML file", error.strerror or type(error).__name__, source) from None
    except UnicodeDecodeError:
        raise _unreadable("a TOML file in UTF-8", "other bytes", source) from None
    except tomllib.TOMLDecodeError as error:
        raise _unreadable("valid TOML", str(error), source) from None


def _unreadable(expected: str, got: str, source: str) -> ConfigError:
    return ConfigError(
        f"expected {expected}, got {got}, at {source}", path="", expected=expected, got=got, source=source
    )


def _environment_layers(variables: Mapping[str, str], known: Sequence[Layer]) -> Iterator[Layer]:
    flat = {
        _SEPARATOR.join(key.path).upper().replace(_SEPARATOR, "_"): key.path for key in keys() if ANY not in key.path
    }
    for variable in sorted(variables):
        text = variables[variable]
        if not variable.startswith(PREFIX) or not text:
            continue
        rest, source = variable.removeprefix(PREFIX), f"environment variable {variable}"
        if _SEPARATOR in rest:
            try:
                path = _spelling(rest, known)
                yield Layer(source, _nested(path, _value(path, text)))
            except ConfigError as error:
                facts = {**error.facts, "source": source}
                raise ConfigError(f"{error.message} ({source})", **facts) from None
        elif rest in flat:
            # Other DSPEX_ variables belong to somebody else; this one was meant for us.
            right = PREFIX + _SEPARATOR.join(flat[rest]).upper()
            expected, at = "two underscores between the parts", dotted(flat[rest])
            message = f"expected {expected}, got one, at {at} ({source}); did you mean {right!r}?"
            raise ConfigError(message, path=at, expected=expected, got="one", source=source)


def _spelling(rest: str, known: Sequence[Layer]) -> Path:
    """Turn a variable's upper case into a path; names that a file or the arguments use keep their spelling."""
    path: Path = ()
    for part in rest.split(_SEPARATOR):
        name = part.lower()
        node = node_at(path)
        if isinstance(node, TableOf):
            name = next((used for used in _names(known, path) if used.lower().replace("-", "_") == name), name)
        path = (*path, name)
    return parse_path(path)


def _names(layers: Sequence[Layer], path: Path) -> Iterator[str]:
    for layer in layers:
        here: object = layer.tree
        for name in path:
            here = here.get(name) if is_table(here) else None
        if is_table(here):
            yield from here


def _value(path: Path, text: str) -> object:
    if is_secret(path) and not text.lstrip().startswith("{"):
        return text
    match node_at(path):
        case Kind("boolean"):
            return _FLAGS.get(text.lower(), text)
        case Kind(text=True):
            return text
        case _:
            return _toml_value(text)


def _toml_value(text: str) -> object:
    try:
        document = tomllib.loads(f"value = {text}")
    except tomllib.TOMLDecodeError:
        return text
    return plain(document["value"]) if len(document) == 1 else text


def _nested(path: Path, value: object) -> Tree:
    *above, last = path
    tree = {last: value}
    for name in reversed(above):
        tree = {name: tree}
    return tree


def _warnings(settings: Settings, variables: Mapping[str, str]) -> Iterator[Problem]:
    for name, provider in settings.ai.providers.items():
        key = provider.api_key
        if isinstance(key, SecretRef) and not variables.get(key.system, "").strip():
            expected = f"environment variable {key.system} to be set"
            yield Problem(f"ai.providers.{name}.api_key", expected, "nothing", severity="warning")
    yield from _missing_providers(settings)


def _missing_providers(settings: Settings) -> Iterator[Problem]:
    """Modules and routes that ask somebody who is not there, or themselves."""
    from ..providers.route_choice import circle  # noqa: PLC0415 - with the failure table, only where it is used

    providers, routes = (*settings.ai.providers, *settings.ai.routes), settings.ai.routes
    named = [(f"modules.{name}.provider", module.provider) for name, module in settings.modules.items()]
    for name, route in routes.items():
        named += [(f"ai.routes.{name}.targets", target.provider) for target in route.targets]
        way = circle(name, routes)
        if way is not None:
            expected, got = "targets that do not lead back to the route", " -> ".join(way)
            yield Problem(f"ai.routes.{name}.targets", expected, got, severity="warning")
    for path, provider in named:
        if provider not in providers:
            expected = f"one of the configured providers ({', '.join(providers) or 'none'})"
            hint = did_you_mean(provider, providers)
            yield Problem(path, expected, repr(provider), hint=hint, severity="warning")
