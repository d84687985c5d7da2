"""What every provider speaks: requests, answers and what they cost, in one shape for all wire formats.

Plain frozen values: they pickle, compare and print, and they hold no credentials. A field that the user did
not set stays ``None`` and is never sent (newer models refuse sampling parameters they do not know).
"""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Iterable, Mapping
from dataclasses import KW_ONLY, dataclass, field
from decimal import Decimal
from typing import Any, Final, Literal, TypeAlias, cast, get_args

from ...runtime.errors import LMInvalidRequest, did_you_mean

Role: TypeAlias = Literal["system", "developer", "user", "assistant", "tool"]
Content: TypeAlias = str | tuple[Mapping[str, Any], ...] | None
"""Text, or parts such as ``{"type": "text", "text": "..."}``, or nothing (an assistant that only calls tools)."""
UsageSource: TypeAlias = Literal["provider", "estimated", "unknown"]

ROLES: Final[tuple[str, ...]] = get_args(Role)

# One request is one completion, answered whole; the wire format owns these keys.
_OWNED_KEYS: Final = frozenset({"model", "messages", "n", "stream", "stream_options", "max_completion_tokens"})


@dataclass(frozen=True, slots=True)
class ToolCall:
    """A tool that the model asks for.

    Args:
        id: by which its result refers to it.
        name: of the tool.
        arguments: the JSON text as the model wrote it.
        signature: the provider's mark of the thoughts behind it; some (Gemini) want it back with the conversation.

    Raises:
        LMInvalidRequest: one of them is no text.
    """

    id: str
    name: str
    arguments: str
    signature: str | None = None

    def __post_init__(self) -> None:
        if not isinstance(cast("object", self.signature), str | None):
            raise _invalid("tool_calls.signature", "text or None", self.signature)
        for name in ("id", "name", "arguments"):
            if not isinstance(value := getattr(self, name), str):
                raise _invalid(f"tool_calls.{name}", "text", value)


@dataclass(frozen=True, slots=True)
class Message:
    """One turn of a conversation.

    Args:
        role: who speaks; one of :data:`ROLES`.
        content: text, parts, or None.
        tool_calls: what an assistant asked for.
        tool_call_id: which call a ``tool`` message answers.
        name: the speaker's name, if the provider should see it.

    Raises:
        LMInvalidRequest: the role is unknown, or another argument has the wrong type.
    """

    role: Role
    content: Content = field(default=None, hash=False)
    tool_calls: tuple[ToolCall, ...] = ()
    tool_call_id: str | None = None
    name: str | None = None

    def __post_init__(self) -> None:
        if self.role not in ROLES:
            hint = did_you_mean(str(self.role), ROLES)
            raise _invalid("role", f"one of {', '.join(ROLES)}", self.role, hint)
        self._check_content()
        for field_name in ("tool_call_id", "name"):
            if (value := getattr(self, field_name)) is not None and not isinstance(value, str):
                raise _invalid(field_name, "text or None", value)
        if self.tool_calls == ():
            return
        object.__setattr__(self, "tool_calls", tuple(self.tool_calls))
        for index, tool_call in enumerate(self.tool_calls):
            if type(tool_call) is not ToolCall:
                raise _invalid(f"tool_calls[{index}]", "a ToolCall", tool_call)

    def _check_content(self) -> None:
        content = cast("object", self.content)
        if isinstance(content, str):
            return
        if isinstance(content, list | tuple):
            parts = plain_json(list(cast("Iterable[object]", content)), "content")
            for index, part in enumerate(parts):
                if not isinstance(part, dict):
                    raise _invalid(f"content[{index}]", "a part, as a mapping", part)
            object.__setattr__(self, "content", tuple(parts))
        elif content is not None:
            raise _invalid("content", "text, parts or None", content)


@dataclass(frozen=True, slots=True)
class LMRequest:
    """What to ask a model. Every field but ``messages`` may be left out, and is then not sent.

    Args:
        messages: the conversation, at least one message.
        model: which model; None takes the provider's default.
        temperature, top_p, seed: sampling, sent only if set.
        max_tokens: bound on the answer's tokens; the provider picks the key's name on the wire.
        stop: texts that end the answer.
        response_format: structured output, in OpenAI's form.
        tools, tool_choice: tools on offer, in OpenAI's form.
        extra: further body keys, sent as they are.

    Raises:
        LMInvalidRequest: a value is out of range or not JSON, with the field, what was expected and what came.
    """

    messages: tuple[Message, ...]
    _: KW_ONLY
    model: str | None = None
    temperature: float | None = None
    top_p: float | None = None
    max_tokens: int | None = None
    stop: tuple[str, ...] | None = None
    seed: int | None = None
    response_format: Mapping[str, Any] | None = field(default=None, hash=False)
    tools: tuple[Mapping[str, Any], ...] | None = field(default=None, hash=False)
    tool_choice: str | Mapping[str, Any] | None = field(default=None, hash=False)
    extra: Mapping[str, Any] = field(default_factory=dict[str, Any], hash=False)
    _prompt: str = field(default="", init=False, repr=False, compare=False)

    @property
    def prompt(self) -> str:
        """:func:`prompt_hash` of the messages, taken once: the log, the cache and a run's journal need it."""
        if not self._prompt:
            object.__setattr__(self, "_prompt", prompt_hash(self.messages))
        return self._prompt

    def __post_init__(self) -> None:
        self._check_messages()
        if self.model is not None:
            if not isinstance(cast("object", self.model), str):
                raise _invalid("model", "text or None", self.model)
            if not self.model.isprintable():
                raise _invalid("model", "printable text", self.model)  # it is written into events
        self._check_numbers()
        self._check_stop()
        # A copy: what is sent cannot change under the provider's hands.
        for name in ("response_format", "tool_choice", "extra"):
            if (value := getattr(self, name)) is not None:
                object.__setattr__(self, name, plain_json(value, name))
        if self.tools is not None:
            object.__setattr__(self, "tools", tuple(plain_json(list(self.tools), "tools")))
        if not isinstance(cast("object", self.extra), dict):
            raise _invalid("extra", "a mapping", self.extra)
        for key in self.extra:
            if key in _OWNED_KEYS or key in self.__dataclass_fields__:
                raise _invalid(f"extra.{key}", "a key that LMRequest does not set itself", self.extra[key])

    def _check_messages(self) -> None:
        messages = cast("object", self.messages)
        if isinstance(messages, str) or not isinstance(messages, Iterable):
            raise _invalid("messages", "a sequence of Message", messages)
        turns = tuple(self.messages)
        object.__setattr__(self, "messages", turns)
        if not turns:
            raise _invalid("messages", "at least one Message", ())
        for index, turn in enumerate(turns):
            if type(turn) is not Message:
                raise _invalid(f"messages[{index}]", "a Message", turn)

    def _check_numbers(self) -> None:
        for name in ("temperature", "top_p"):
            value: object = getattr(self, name)
            if value is None:
                continue
            if not isinstance(value, int | float) or isinstance(value, bool) or not 0 <= value <= sys.float_info.max:
                raise _invalid(name, "a finite number >= 0", value)
        for name, least in (("max_tokens", 1), ("seed", -(2**63))):
            value = getattr(self, name)
            if value is None:
                continue
            if not isinstance(value, int) or isinstance(value, bool) or not least <= value < 2**63:
                raise _invalid(name, f"a whole number{' >= 1' if least == 1 else ''} of at most 64 bits", value)

    def _check_stop(self) -> None:
        stop: object = self.stop
        if stop is None:
            return
        texts = _members(stop)
        if texts is None or not all(type(text) is str for text in texts):
            raise _invalid("stop", "text or a sequence of texts", stop)
        object.__setattr__(self, "stop", texts)


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens of one request. ``None`` is *unknown*, never zero.

    Attributes:
        input_tokens: tokens of the prompt, cached ones included.
        output_tokens: tokens of the answer.
        total_tokens: both.
        cached_tokens: input tokens that the provider read from its cache.
        cache_write_tokens: input tokens that it wrote into its cache.
        reasoning_tokens: output tokens of thoughts, part of ``output_tokens``.
        source: who counted: the ``provider``, we (``estimated``), or nobody (``unknown``).
    """

    input_tokens: int | None = None
    output_tokens: int | None = None
    total_tokens: int | None = None
    cached_tokens: int | None = None
    source: UsageSource = "unknown"
    cache_write_tokens: int | None = None
    reasoning_tokens: int | None = None


UNKNOWN_USAGE: Final = Usage()


@dataclass(frozen=True, slots=True)
class Attempt:
    """One try on the wire.

    Attributes:
        number: 1 is the first.
        status: the HTTP status, or None if no answer came.
        seconds: how long it took.
        request_id: the provider's id for it, if it gave one.
        error_code: ``code`` of the error it ended with, or None for success.
        waited: seconds before it: a pause after a failure, and the wait for room.
        provider: id of the provider that was tried.
    """

    number: int
    status: int | None
    seconds: float
    request_id: str | None = None
    error_code: str | None = None
    waited: float = 0.0
    provider: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class LMResponse:
    """A model's answer.

    Attributes:
        text: the answer's text; empty if the model only called tools or refused.
        model: the model that answered, as the provider names it.
        finish_reason: ``stop``, ``length``, ``tool_calls``, ``content_filter``..., or None if it was not said.
        usage: tokens.
        request_id: the provider's id for the request (``x-request-id``), or None.
        response_id: the provider's id for the answer, or None.
        refusal: the model's words of refusal, or None.
        reasoning: what the model thought aloud, where the provider shows it, or None.
        tool_calls: the tools that it asks for.
        provider: id of the provider actor that answered.
        attempts: each try on the wire, in order.
        cost: in US dollars; None if the price or the usage is unknown.
        cache_hit: the answer came from our cache: nothing was sent, usage and cost are zero.
        time_to_first_chunk: seconds until a stream's first chunk, or None.
        correlation_id: the trace in which its events are found, or None.
    """

    text: str
    model: str
    finish_reason: str | None = None
    usage: Usage = UNKNOWN_USAGE
    request_id: str | None = None
    response_id: str | None = None
    refusal: str | None = None
    reasoning: str | None = None
    tool_calls: tuple[ToolCall, ...] = ()
    provider: str = ""
    attempts: tuple[Attempt, ...] = ()
    cost: Decimal | None = None
    cache_hit: bool = False
    time_to_first_chunk: float | None = None
    correlation_id: str | None = None


_CANONICAL: Final = json.JSONEncoder(sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False)


def canonical_json(value: object) -> str:
    """The one JSON text of a value: sorted keys, no spaces, ASCII only.

    Raises:
        TypeError, ValueError: the value is not JSON (a set, NaN, a cycle).
    """
    return _CANONICAL.encode(value)


def plain_json(value: Any, where: str) -> Any:
    """A deep copy of a JSON value, made of dicts, lists and scalars only.

    Raises:
        LMInvalidRequest: it is not JSON.
    """
    if value is None or isinstance(value, str):
        return value
    if value == {}:
        return {}
    try:
        return json.loads(canonical_json(value))
    except (TypeError, ValueError, RecursionError) as error:
        raise _invalid(where, "a JSON value", value, f" ({error})") from error


def message_dict(message: Message) -> dict[str, Any]:
    """A message as a JSON object in OpenAI's form, unset fields left out."""
    out: dict[str, Any] = {"role": message.role}
    content = message.content
    out["content"] = list(content) if isinstance(content, tuple) else content
    if message.name is not None:
        out["name"] = message.name
    if message.tool_call_id is not None:
        out["tool_call_id"] = message.tool_call_id
    if message.tool_calls:
        out["tool_calls"] = [
            {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": call.arguments}}
            for call in message.tool_calls
        ]
    return out


def prompt_hash(messages: Iterable[Message]) -> str:
    """SHA-256 of the messages' canonical JSON, 64 hex digits: the same prompt has the same hash everywhere."""
    text = canonical_json([message_dict(message) for message in messages])
    return hashlib.sha256(text.encode("ascii")).hexdigest()


def estimate_tokens(messages: Iterable[Message]) -> int:
    """Tokens of a prompt, estimated: a quarter of its characters (roles, text, tool calls), rounded up.

    Within a few per cent on English text; the provider's own count replaces it once the answer is there.
    """
    return -(-sum([_characters(message) for message in messages]) // 4)


def _members(value: object) -> tuple[object, ...] | None:
    if isinstance(value, str):
        return (value,)
    return tuple(cast("Iterable[object]", value)) if isinstance(value, Iterable) else None


def _characters(message: Message) -> int:
    total = len(message.role) + len(message.name or "")
    for call in message.tool_calls:
        total += len(call.name) + len(call.arguments)
    content = message.content
    if isinstance(content, str):
        return total + len(content)
    # Only text counts: an image's base64 characters say nothing about its tokens.
    return total + sum(len(str(part.get("text", ""))) for part in content or ())


def _invalid(where: str, expected: str, got: object, more: str = "") -> LMInvalidRequest:
    try:
        shown = repr(got)
    except ValueError:  # a number of more digits than Python prints
        shown = f"one {type(got).__name__}, too long to print"
    shown = shown if len(shown) <= 80 else shown[:77] + "..."
    return LMInvalidRequest(f"expected {expected}, got {shown}, at {where}{more}", field=where, expected=expected)
