"""For tests of the gateway: an application that serves it, and providers that stream."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import openai

import dspex
from dspex.supervisors.gateway.messages import GatewayReport, GatewayStatus
from kit.application import application
from kit.http_server import Exchange, HttpServer, Script

TOKEN = "gateway-token-123"


@dataclass(frozen=True)
class Serving:
    """A gateway that runs.

    Attributes:
        app: the application.
        server: the provider behind it.
        token: what clients must send.
    """

    app: dspex.App
    server: HttpServer
    token: str = TOKEN

    @property
    def report(self) -> GatewayReport:
        """How the gateway is, once it listens."""
        report: GatewayReport = self.app.call("gateway/http", GatewayStatus())
        return report

    def idle(self) -> GatewayReport:
        """How it is once nothing is in work any more, or after ten seconds."""
        end = time.monotonic() + 10
        while (report := self.report).in_work and time.monotonic() < end:
            pass
        return report

    @property
    def url(self) -> str:
        """Where it is."""
        return self.report.url

    @property
    def headers(self) -> dict[str, str]:
        """What clients send."""
        return {"authorization": f"Bearer {self.token}"}

    def client(self, **options: Any) -> openai.OpenAI:
        """The official client."""
        return openai.OpenAI(**{"base_url": f"{self.url}/v1", "api_key": self.token, "max_retries": 0, **options})


@contextmanager
def gateway(
    script: Script | None = None, *, settings: dict[str, Any] | None = None, **options: Any
) -> Iterator[Serving]:
    """An application with a gateway over the provider ``local``, which follows the script."""
    table = {"enabled": True, "port": 0, "token": TOKEN, **(settings or {})}
    config = {"gateway": table, **options.pop("config", {})}
    with application(script, config=config, **options) as (app, server):
        yield Serving(app, server)


def piece(text: str = "", *, finish: str | None = None, **delta: Any) -> bytes:
    """One event of a provider's stream."""
    content = {"content": text} if text else {}
    choice = {"index": 0, "delta": {**content, **delta}, "finish_reason": finish}
    chunk = {"id": "chatcmpl-1", "object": "chat.completion.chunk", "model": "test-model", "choices": [choice]}
    return f"data: {json.dumps(chunk)}\n\n".encode()


USAGE = b'data: {"choices": [], "usage": {"prompt_tokens": 11, "completion_tokens": 3, "total_tokens": 14}}\n\n'
DONE = b"data: [DONE]\n\n"


def streaming(*texts: str) -> Script:
    """A provider that streams these texts, then the usage."""

    def script(exchange: Exchange) -> None:
        exchange.head()
        for text in texts:
            exchange.chunk(piece(text))
        exchange.chunk(piece(finish="stop") + USAGE + DONE)
        exchange.chunk(b"")

    return script


MESSAGES: list[Any] = [{"role": "user", "content": "Who wrote Hamlet?"}]
