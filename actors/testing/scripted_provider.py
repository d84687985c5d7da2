"""A scripted language-model provider: no model and no network, only the answers a test wrote down.

It stands in for the network below a real provider actor, so requests are encoded, answers decoded and failures
classified as always::

    script = ScriptedProvider(
        Rule("Shakespeare", when="Hamlet"),
        Rule(server_error(), times=1),
        Rule({"answer": "I do not know"}),
    )
    ChildSpec("p", ProviderActor, ("p",), {"settings": settings, "transport": script.transport}, name="provider/p")

A request with ``"stream": true`` gets the same answer in pieces, as OpenAI's chat completions send them. How a stream
is cut, slow, breaks off or stays silent stands in its rule, and with a virtual clock happens at the same moments
each time::

    Rule("Hello there", pieces=4, pause=1.0)
    Rule(Cut(text="Hello there", after_pieces=1))
    Rule(Hang(text="Hello there", after_pieces=1))
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Coroutine, Generator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Final, TypeAlias, TypeVar
from unittest import mock

from ...runtime.errors import LMError
from ..configuration.provider_settings import ProviderSettings
from ..http.transport import HttpRequest, HttpResponse
from ..json_values import json_list, json_object, json_text
from ..lm.failures import lm_error
from ..providers import actor as provider
from .scripted_stream import EVENT_STREAM, Cut, Hang, Pieces, ScriptedEvents, ScriptedStream, cut_text, one_piece

T = TypeVar("T")
_JSON: Final = {"content-type": "application/json"}


Answer: TypeAlias = str | Mapping[str, Any] | HttpResponse | LMError | Cut | Hang
"""Text; fields of a signature; a whole HTTP answer; an error of the network; a cut; a hang."""


@dataclass(slots=True)
class Rule:
    """What is answered to which request.

    Args:
        answer: the answer. A mapping becomes marked sections, as a module's signature wants them.
        when: text that stands in the last message, or what tells by the request's JSON body; None: always.
        delay: seconds until the answer, or in a stream its head.
        times: how often the rule holds; None: for ever.
        pieces: how a stream cuts the text: characters a piece, the pieces themselves, a function; None: words.
        pause: seconds between two pieces of a stream.
    """

    answer: Answer
    when: str | Callable[[Mapping[str, Any]], bool] | None = None
    delay: float = 0.0
    times: int | None = None
    pieces: Pieces = None
    pause: float = 0.0
    used: int = field(default=0, init=False)

    def fits(self, body: Mapping[str, Any]) -> bool:
        """Whether it holds for this request."""
        if self.times is not None and self.used >= self.times:
            return False
        if isinstance(self.when, str):
            return self.when in _last_text(body)
        return self.when is None or self.when(body)


class ScriptedProvider:
    """The script: the first rule that fits answers; without one the test fails with what was asked.

    Args:
        *rules: in order.
        usage: tokens every answer reports, as (input, output).

    Attributes:
        requests: the JSON bodies of all requests, in order.
        cancelled: how many requests were given up by their callers while they waited, or before a stream's end.
    """

    def __init__(self, *rules: Rule, usage: tuple[int, int] = (10, 5)) -> None:
        self._rules = list(rules)
        self._usage = usage
        self.requests: list[Mapping[str, Any]] = []
        self.cancelled = 0

    def add(self, *rules: Rule) -> None:
        """Further rules, before the others."""
        self._rules[:0] = rules

    def transport(self, settings: ProviderSettings) -> ScriptedTransport:
        """What a provider actor takes as its ``transport``."""
        return ScriptedTransport(self)

    @contextmanager
    def instead_of_http(self) -> Generator[None, None, None]:
        """Provider actors that start in here talk to this script, those of a whole application too."""
        with mock.patch.object(provider, "http_transport", self.transport):
            yield

    async def answer(self, request: HttpRequest) -> HttpResponse:
        """Answer one request by the rules, whole."""
        rule, body = self._find(request)
        await asyncio.sleep(rule.delay)
        return await self._give(rule.answer, body)

    async def stream(self, request: HttpRequest) -> ScriptedStream:
        """Answer one request by the rules, in pieces if it asks for that."""
        rule, body = self._find(request)
        await asyncio.sleep(rule.delay)
        match rule.answer:
            case HttpResponse() | LMError() | Hang(after_pieces=0):
                text = None
            case Cut(text=text) | Hang(text=text) | str(text):
                pass
            case fields:
                text = marked(fields)
        if text is None or body.get("stream") is not True:
            whole = await self._give(rule.answer, body)
            head = HttpResponse(whole.status, whole.headers)
            return ScriptedStream(head, one_piece(whole.body), self._given_up)
        events = ScriptedEvents(
            id=self._id,
            model=_model(body),
            body=body,
            pieces=cut_text(text, rule.pieces),
            usage=self._usage,
            pause=rule.pause,
            end=rule.answer if isinstance(rule.answer, Cut | Hang) else None,
        )
        return ScriptedStream(HttpResponse(200, EVENT_STREAM), events.play(), self._given_up)

    @property
    def _id(self) -> str:
        return f"scripted-{len(self.requests)}"

    def _given_up(self) -> None:
        self.cancelled += 1

    def _find(self, request: HttpRequest) -> tuple[Rule, Mapping[str, Any]]:
        body = json_object(json.loads(request.body))
        self.requests.append(body)
        rule = next((rule for rule in self._rules if rule.fits(body)), None)
        if rule is None:
            raise lm_error("invalid", f"the script has no rule for {_last_text(body)!r}")
        rule.used += 1
        return rule, body

    async def _give(self, answer: Answer, body: Mapping[str, Any]) -> HttpResponse:
        match answer:
            case HttpResponse():
                return answer
            case LMError():
                raise type(answer)(answer.message, **answer.facts)  # the provider writes into what it gets
            case Cut(after):
                await asyncio.sleep(after)
                raise lm_error("protocol", "the answer was cut off")
            case Hang():
                await asyncio.Event().wait()
                raise lm_error("timeout", "woken without an answer")
            case str():
                return self._completion(answer, body)
            case _:
                return self._completion(marked(answer), body)

    def _completion(self, text: str, body: Mapping[str, Any]) -> HttpResponse:
        into, out = self._usage
        completion = {
            "id": self._id,
            "object": "chat.completion",
            "model": _model(body),
            "choices": [{"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": "stop"}],
            "usage": {"prompt_tokens": into, "completion_tokens": out, "total_tokens": into + out},
        }
        return HttpResponse(200, _JSON, json.dumps(completion).encode())


class ScriptedTransport:
    """The network of one provider actor, played from a script."""

    def __init__(self, script: ScriptedProvider) -> None:
        self._script = script

    async def send(self, request: HttpRequest, *, timeout: float) -> HttpResponse:
        """Answer as the script says, within ``timeout`` seconds."""
        return await self._within(timeout, self._script.answer(request))

    async def open(self, request: HttpRequest, *, timeout: float) -> ScriptedStream:
        """Begin to answer as the script says, within ``timeout`` seconds."""
        return await self._within(timeout, self._script.stream(request))

    async def aclose(self) -> None:
        """There is nothing to close."""

    async def _within(self, timeout: float, answer: Coroutine[Any, Any, T]) -> T:
        try:
            async with asyncio.timeout(timeout):
                return await answer
        except TimeoutError as error:
            if isinstance(error, LMError):
                raise
            raise lm_error("timeout", f"no answer within {timeout:g} s", timeout=timeout) from None
        except asyncio.CancelledError:
            self._script.cancelled += 1
            raise


def failure(status: int, message: str = "scripted failure", **headers: str) -> HttpResponse:
    """An HTTP error in OpenAI's form; header names with ``_`` for ``-``."""
    names = {name.replace("_", "-"): value for name, value in headers.items()}
    return HttpResponse(status, {**_JSON, **names}, json.dumps({"error": {"message": message}}).encode())


def rate_limited(retry_after: float = 1.0) -> HttpResponse:
    """429, with the seconds to wait."""
    return failure(429, "slow down", retry_after=f"{retry_after:g}")


def server_error(status: int = 500) -> HttpResponse:
    """5xx."""
    return failure(status)


def refused() -> LMError:
    """Nobody listens."""
    return lm_error("connection", "connection refused")


def marked(fields: Mapping[str, Any]) -> str:
    """Output fields as the chat adapter's marked sections."""
    texts = {name: value if isinstance(value, str) else json.dumps(value) for name, value in fields.items()}
    sections = [f"[[ ## {name} ## ]]\n{text}" for name, text in texts.items()]
    return "\n\n".join([*sections, "[[ ## completed ## ]]"])


def _model(body: Mapping[str, Any]) -> str:
    return json_text(body.get("model")) or "scripted"


def _last_text(body: Mapping[str, Any]) -> str:
    messages = json_list(body.get("messages"))
    return json_text(json_object(messages[-1]).get("content")) if messages else ""


__all__ = (
    "Answer",
    "Cut",
    "Hang",
    "Rule",
    "ScriptedProvider",
    "ScriptedTransport",
    "failure",
    "marked",
    "rate_limited",
    "refused",
    "server_error",
)
