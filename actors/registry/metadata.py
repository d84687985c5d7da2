"""What an actor may announce of itself: a JSON-like mapping, bounded, without secrets. Pure."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from typing import Any, Final, NoReturn

from ...runtime.errors import RegistryError
from ...runtime.registry_terms import is_mapping, is_sequence
from ...runtime.secret import LostSecret, Secret, SecretRef

MAX_BYTES: Final = 64 * 1024
"""Metadata of one name, as JSON."""
MAX_DEPTH: Final = 32

# Keys that hold credentials wherever one meets them, and values that are credentials wherever they stand.
_SECRET_KEYS: Final = (
    "api_key",
    "apikey",
    "authorization",
    "password",
    "passwd",
    "secret",
    "access_token",
    "private_key",
)
# Not after a letter: "risk-assessment" is none.
_CREDENTIAL: Final = re.compile(r"(?<![A-Za-z])sk-[A-Za-z0-9_-]{8,}|(?i:bearer)\s+[A-Za-z0-9._~+/=-]{8,}")


def checked_metadata(metadata: object, name: str) -> dict[str, Any]:
    """A private copy of what an actor announced, with lists for tuples.

    Args:
        metadata: what was announced.
        name: whose it is, for the error.

    Raises:
        RegistryError: it is no mapping of texts to JSON values, or holds a secret; facts: key (the
            name), path, expected.
    """
    if not is_mapping(metadata):
        _refuse(name, (), "a mapping", type(metadata).__name__)
    return _checked_mapping(metadata, name, ())


def merged_metadata(old: Mapping[str, Any], new: Mapping[str, Any], name: str) -> dict[str, Any]:
    """``old`` with the keys of ``new`` put over it (the top level only), if it is not too large.

    Raises:
        RegistryError: the result is larger than :data:`MAX_BYTES`.
    """
    merged = {**old, **new}
    size = len(json.dumps(merged, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "surrogatepass"))
    if size > MAX_BYTES:
        _refuse(name, (), f"at most {MAX_BYTES} bytes of JSON", f"{size}")
    return merged


def copied(value: Any) -> Any:
    """A private copy of a checked value."""
    if isinstance(value, dict):
        return {key: copied(item) for key, item in value.items()}  # pyright: ignore[reportUnknownVariableType]
    if isinstance(value, list):
        return [copied(item) for item in value]  # pyright: ignore[reportUnknownVariableType]
    return value


def _checked_mapping(mapping: Mapping[Any, Any], name: str, path: tuple[str, ...]) -> dict[str, Any]:
    made: dict[str, Any] = {}
    for key, value in mapping.items():
        if not isinstance(key, str):
            _refuse(name, path, "texts as keys", type(key).__name__)
        plain = str.__str__(key)
        if _CREDENTIAL.search(plain):
            _refuse(name, path, "no secret", "a key that looks like a credential")
        if plain.lower().replace("-", "_").endswith(_SECRET_KEYS) and not (value is None or isinstance(value, bool)):
            _refuse(name, (*path, plain), "no secret (announce whether there is one, or its variable's name)", "one")
        made[plain] = _checked(value, name, (*path, plain))
    return made


def _checked(value: Any, name: str, path: tuple[str, ...]) -> Any:
    if len(path) > MAX_DEPTH:
        _refuse(name, path, f"at most {MAX_DEPTH} levels", "more")
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, str):
        if _CREDENTIAL.search(value):
            _refuse(name, path, "no secret", "a text that looks like a credential")
        return str.__str__(value)
    if isinstance(value, int):
        return int(value)
    if isinstance(value, float):
        if not math.isfinite(value):
            _refuse(name, path, "a finite number", repr(value))
        return float(value)
    if is_mapping(value):
        return _checked_mapping(value, name, path)
    if is_sequence(value):
        return [_checked(item, name, (*path, str(index))) for index, item in enumerate(value)]
    # The type's name only: the value may be the secret itself.
    secret = isinstance(value, (Secret, SecretRef, LostSecret)) or hasattr(value, "get_secret_value")
    return _refuse(name, path, "no secret" if secret else "a JSON value", type(value).__name__)


def _refuse(name: str, path: tuple[str, ...], expected: str, got: str) -> NoReturn:
    at = ".".join(path) or "the top"
    raise RegistryError(
        f"expected {expected}, got {got}, at {at} of the metadata of {name!r}", key=name, path=path, expected=expected
    )
