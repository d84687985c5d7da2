"""A real third-party provider for tests: an ``llmock`` process on a free port of 127.0.0.1."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import threading
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

_RUNNING = re.compile(r"Uvicorn running on (http://127\.0\.0\.1:\d+)")


class LLMock:
    """A running server."""

    def __init__(self, root: str) -> None:
        self.root = root

    @property
    def openai_url(self) -> str:
        """Base URL of its OpenAI side."""
        return f"{self.root}/v1"

    def plan(self, *behaviors: dict[str, Any]) -> None:
        """What it does next, in llmock's words: ``{"type": "fail", "status": 429, "retry_after": 1}``."""
        if behaviors:
            self._ask("POST", "/_llmock/scenario", {"behaviors": list(behaviors)})

    def reset(self) -> None:
        """Forget plans and requests."""
        self._ask("POST", "/_llmock/reset", {})

    def requests(self) -> list[dict[str, Any]]:
        """What it was asked."""
        found = self._ask("GET", "/_llmock/requests", None)
        requests: list[dict[str, Any]] = found["requests"]
        return requests

    def _ask(self, method: str, path: str, body: Any) -> Any:
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self.root + path, data, {"content-type": "application/json"}, method=method)
        with urllib.request.urlopen(request, timeout=5) as answer:
            return json.load(answer)


@contextmanager
def llmock_server(*options: str) -> Iterator[LLMock]:
    """Start a server, wait until it listens, and stop it at the end."""
    command = [str(Path(sys.executable).with_name("llmock")), "serve", "--host", "127.0.0.1", "--port", "0"]
    process = subprocess.Popen(
        [*command, "--log-level", "info", *options],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env={**os.environ, "PYTHONUNBUFFERED": "1", "NO_COLOR": "1"},
    )
    assert process.stdout is not None
    with process.stdout as output:
        drain = threading.Thread(target=output.read, daemon=True)  # or its access log would fill the pipe
        try:
            root = _address(output)
            drain.start()
            yield LLMock(root)
        finally:
            process.terminate()
            process.wait(10)
            if drain.ident is not None:
                drain.join(5)


def _address(output: IO[str]) -> str:
    seen: list[str] = []
    for line in output:  # ends when the process does
        seen.append(line)
        if found := _RUNNING.search(line):
            return found[1]
    raise AssertionError(f"llmock did not start: {''.join(seen)}")
