"""Reads the fields of a request, which are in OpenAI's form, for protocols that write them otherwise.

What such a protocol cannot express is refused with the field's name, never left out in silence.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal, TypeAlias

from ...runtime.errors import LMError, did_you_mean
from ..configuration.provider_settings import ProviderSettings
from ..json_values import json_object
from ..lm.failures import lm_error
from ..lm.values import LMRequest, ToolCall
from ..providers.credentials import Credentials

ANSWER_TOOL: Final = "dspex_answer"
"""The tool whose input is the answer, where structured output is asked for as a forced tool call."""

# Made once: json.dumps makes a new one for each body that is not written as it would be by default.
_ENCODER: Final = json.JSONEncoder(separators=(",", ":"), allow_nan=False)

SchemaMode: TypeAlias = Literal["json_schema", "json_object", "tool"]


@dataclass(frozen=True, slots=True)
class FunctionTool:
    """A tool on offer. ``parameters`` is the JSON schema of its arguments, None if it takes none."""

    name: str
    description: str | None = None
    parameters: Mapping[str, Any] | None = None
    strict: bool = False


@dataclass(frozen=True, slots=True)
class ToolChoice:
    """Whether tools are to be called; ``named``: the tool ``name`` is."""

    mode: Literal["auto", "none", "required", "named"]
    name: str = ""


@dataclass(frozen=True, slots=True)
class OutputFormat:
    """Structured output: how it is asked for, and the JSON schema; None is any JSON object."""

    mode: SchemaMode
    schema: Mapping[str, Any] | None = None


def refusal(where: str, expected: str, got: object, more: str = "") -> LMError:
    """The error for a part of a request that cannot be sent."""
    shown = repr(got)
    shown = shown if len(shown) <= 80 else shown[:77] + "..."
    return lm_error("invalid", f"expected {expected}, got {shown}, at {where}{more}", field=where, expected=expected)


def described(value: object) -> str:
    """What a value is, without quoting it: errors are logged and kept, prompts are not."""
    if isinstance(value, str):
        return f"text of {len(value)} characters"
    return "nothing" if value is None else type(value).__name__


def check_keys(found: Mapping[str, Any], where: str, known: Collection[str]) -> None:
    """Refuse keys that nobody would read.

    Raises:
        LMInvalidRequest: there is one.
    """
    for key in found:
        if key not in known:
            hint = did_you_mean(key, known)
            raise refusal(f"{where}.{key}", f"one of {', '.join(known)} in this protocol", key, hint)


def chosen_model(request: LMRequest, settings: ProviderSettings) -> str:
    """The model to ask.

    Raises:
        LMInvalidRequest: neither the request nor the settings name one.
    """
    model = request.model or settings.default_model
    if model is None:
        raise refusal("model", "a model", None, "; name one in the request or as default_model")
    return model


def check_sampling(request: LMRequest, settings: ProviderSettings) -> None:
    """Refuse temperature, top_p and seed if the settings say that the provider takes none.

    Raises:
        LMInvalidRequest: one of them is set.
    """
    for name in ("temperature", "top_p", "seed"):
        if not settings.sampling and (value := getattr(request, name)) is not None:
            raise refusal(name, "nothing, because the provider's `sampling` is off", value)


def read_tools(request: LMRequest) -> tuple[FunctionTool, ...]:
    """The tools on offer.

    Raises:
        LMInvalidRequest: one is malformed, or no function.
    """
    return tuple(_tool(tool, f"tools[{index}]") for index, tool in enumerate(request.tools or ()))


def _tool(tool: object, where: str) -> FunctionTool:
    outer = json_object(tool)
    inner = json_object(outer.get("function"))
    if outer.get("type") != "function" or not inner:
        raise refusal(where, 'a tool {"type": "function", "function": {...}}', tool)
    check_keys(outer, where, ("type", "function"))
    where = f"{where}.function"
    check_keys(inner, where, ("name", "description", "parameters", "strict"))
    name, description, parameters = inner.get("name"), inner.get("description"), inner.get("parameters")
    if not isinstance(name, str) or not name:
        raise refusal(f"{where}.name", "the tool's name", name)
    if name == ANSWER_TOOL:
        raise refusal(f"{where}.name", "another name, this one is reserved", name)
    if not isinstance(description, str | None):
        raise refusal(f"{where}.description", "text", description)
    if not isinstance(parameters, dict | None):
        raise refusal(f"{where}.parameters", "a JSON schema, as a mapping", parameters)
    if not isinstance(strict := inner.get("strict"), bool | None):
        raise refusal(f"{where}.strict", "true or false", strict)
    return FunctionTool(name, description, json_object(inner["parameters"]) if parameters else None, bool(strict))


def read_tool_choice(request: LMRequest, tools: tuple[FunctionTool, ...]) -> ToolChoice | None:
    """Whether tools are to be called; None if the request does not say, or offers none.

    Raises:
        LMInvalidRequest: it is malformed, or asks for a tool that is not on offer.
    """
    found = request.tool_choice
    if found is None:
        return None
    if found in ("auto", "none"):
        return ToolChoice("auto" if found == "auto" else "none") if tools else None
    if found == "required":
        if not tools:
            raise refusal("tool_choice", "tools on offer", found)
        return ToolChoice("required")
    outer = json_object(found)
    name = json_object(outer.get("function")).get("name")
    if outer.get("type") != "function" or not isinstance(name, str):
        expected = 'auto, none, required or {"type": "function", "function": {"name": ...}}'
        raise refusal("tool_choice", expected, found)
    names = [tool.name for tool in tools]
    if name not in names:
        raise refusal("tool_choice.function.name", "a tool on offer", name, did_you_mean(name, names))
    return ToolChoice("named", name)


def read_output_format(
    request: LMRequest, settings: ProviderSettings, tools: tuple[FunctionTool, ...], modes: tuple[SchemaMode, ...]
) -> OutputFormat | None:
    """How structured output is asked for; None if the request wants text.

    Args:
        request: the request.
        settings: ``schema_mode`` chooses the way; by default the first of ``modes``.
        tools: the tools on offer, which leave no room for a forced one.
        modes: the ways that the protocol has.

    Raises:
        LMInvalidRequest: it is malformed, or the protocol or the provider cannot do it.
    """
    found = request.response_format
    if found is None or found.get("type") == "text":
        return None
    fitting: list[SchemaMode] = [mode for mode in modes if settings.schema_mode is None or settings.schema_mode == mode]
    if not fitting:
        expected = f"none, unless schema_mode is {' or '.join(modes)} in this protocol"
        raise refusal("response_format", expected, found, f"; schema_mode is {settings.schema_mode}")
    mode = fitting[0]
    if mode == "tool" and tools:
        raise refusal("tools", "no tools beside response_format, because schema_mode is tool", [t.name for t in tools])
    return OutputFormat(mode, _schema(found))


def _schema(found: Mapping[str, Any]) -> Mapping[str, Any] | None:
    if found.get("type") == "json_object":
        check_keys(found, "response_format", ("type",))
        return None
    if found.get("type") != "json_schema":
        raise refusal("response_format.type", "text, json_object or json_schema", found.get("type"))
    check_keys(found, "response_format", ("type", "json_schema"))
    inner = json_object(found.get("json_schema"))
    # Name and description are for people, and there is no way that is less strict.
    check_keys(inner, "response_format.json_schema", ("name", "description", "schema", "strict"))
    schema = inner.get("schema")
    if not isinstance(schema, dict):
        raise refusal("response_format.json_schema.schema", "a JSON schema, as a mapping", schema)
    return json_object(inner["schema"])


def call_arguments(call: ToolCall, where: str) -> dict[str, Any]:
    """The arguments of a tool call that stands in the conversation, as the object that they are.

    Raises:
        LMInvalidRequest: they are no JSON object.
    """
    try:
        found: object = json.loads(call.arguments or "{}")
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, dict):
        raise refusal(f"{where}.arguments", "a JSON object, as text", described(call.arguments))
    return json_object(found)  # pyright: ignore[reportUnknownArgumentType]


def add_extra(body: dict[str, Any], extra: Mapping[str, Any]) -> None:
    """Put further body keys into ``body``; mappings on both sides are merged, one level deep.

    Raises:
        LMInvalidRequest: a key is set already, by a field of the request.
    """
    for key, value in extra.items():
        mine, more = json_object(body.get(key)), json_object(value)
        if key not in body:
            body[key] = value
        elif mine and more:
            for inner in (name for name in more if name in mine):
                raise refusal(
                    f"extra.{key}.{inner}", "a key that the request's fields do not set", described(more[inner])
                )
            body[key] = mine | more
        else:
            raise refusal(f"extra.{key}", "a key that the request's fields do not set", described(value))


def encoded(body: dict[str, Any]) -> bytes:
    """The bytes of a request's body."""
    return _ENCODER.encode(body).encode("ascii")


def request_headers(protocol: Mapping[str, str], credentials: Credentials, *, stream: bool) -> dict[str, str]:
    """The headers of a request: those of every one, the protocol's, and last the user's own."""
    headers = {
        "content-type": "application/json",
        "accept": "text/event-stream, application/json" if stream else "application/json",
        "user-agent": "dspex",
        **protocol,
    }
    # Some gateways want the key elsewhere.
    headers.update({name.lower(): value for name, value in credentials.headers.items()})
    return headers
