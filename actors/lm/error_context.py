"""What an error of a model request is about: whose model, which prompt, how far it came.

It is a fact of the error, so it crosses actors, threads and processes with it, and it holds hashes and numbers only:
neither prompt nor answer, nor anything secret::

    except dspex.LMError as error:
        error.ai_context.provider, error.ai_context.prompt_hash, error.ai_context.attempts
"""

from __future__ import annotations

import hashlib
from dataclasses import asdict, dataclass, replace
from decimal import Decimal
from typing import Literal, TypeAlias, TypeVar

from ...runtime.errors import Error
from .values import LMRequest, LMResponse, canonical_json, estimate_tokens

PromptType: TypeAlias = Literal["chat", "completion", "tool", "structured"]
E = TypeVar("E", bound=Error)


@dataclass(frozen=True, slots=True, kw_only=True)
class AIContext:
    """The circumstances of a model request.

    Attributes:
        provider: id of the provider.
        model: which model was asked, or None if nothing said it.
        prompt_hash: SHA-256 of the messages, 64 hex digits; the same as in the events.
        prompt_tokens: tokens of the prompt, estimated.
        prompt_type: ``tool`` if tools are on offer or answered, ``structured`` if the answer's form is prescribed,
            ``completion`` for a single text of the user, else ``chat``.
        estimated_cost: in US dollars, before it was sent; None if the price is unknown.
        attempts: tries on the wire.
        correlation_id: the trace in which its events are found.
        response_hash: SHA-256 of what was answered, if anything was.
        response_tokens: tokens of that answer, or None if nobody counted.
        total_tokens: tokens of both, or None.
        finish_reason: why the answer ended, if it was said.
    """

    provider: str
    model: str | None
    prompt_hash: str
    prompt_tokens: int
    prompt_type: PromptType
    estimated_cost: Decimal | None = None
    attempts: int = 0
    correlation_id: str | None = None
    response_hash: str | None = None
    response_tokens: int | None = None
    total_tokens: int | None = None
    finish_reason: str | None = None

    def with_response(self, response: LMResponse) -> AIContext:
        """The same with what is known of an answer, which may be a part of one."""
        return replace(
            self,
            response_hash=response_hash(response),
            response_tokens=response.usage.output_tokens,
            total_tokens=response.usage.total_tokens,
            finish_reason=response.finish_reason,
        )


def new_ai_context(
    request: LMRequest,
    *,
    provider: str,
    model: str | None,
    attempts: int = 0,
    correlation_id: str | None = None,
    estimated_cost: Decimal | None = None,
) -> AIContext:
    """The circumstances of a request; see :class:`AIContext`."""
    return AIContext(
        provider=provider,
        model=model,
        prompt_hash=request.prompt,
        prompt_tokens=estimate_tokens(request.messages),
        prompt_type=detect_prompt_type(request),
        estimated_cost=estimated_cost,
        attempts=attempts,
        correlation_id=correlation_id,
    )


def with_context(error: E, context: AIContext) -> E:
    """Give an error its circumstances, to be read as ``error.ai_context``; answers the error."""
    error.facts["ai_context"] = context
    return error


def detect_prompt_type(request: LMRequest) -> PromptType:
    """What kind of prompt a request is; see :class:`AIContext`."""
    messages = request.messages
    if request.tools or any(message.role == "tool" or message.tool_calls for message in messages):
        return "tool"
    if request.response_format:
        return "structured"
    alone = len(messages) == 1 and messages[0].role == "user" and isinstance(messages[0].content, str)
    return "completion" if alone else "chat"


def response_hash(response: LMResponse) -> str:
    """SHA-256 of what a model said, 64 hex digits: its text, refusal and tool calls, and nothing else of the answer."""
    said = {
        "text": response.text,
        "refusal": response.refusal,
        "tool_calls": [asdict(each) for each in response.tool_calls],
    }
    return hashlib.sha256(canonical_json(said).encode("ascii")).hexdigest()
