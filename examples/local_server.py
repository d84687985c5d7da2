"""A stand-in for a provider: ``llmock``, a real HTTP server that speaks OpenAI's protocol, on loopback.

The examples use it when the environment names no provider. Its answers are canned; the way to them is not. With
``OPENAI_API_KEY`` (or ``DSPEX_BASE_URL`` for any compatible server) the examples talk to that.
"""

import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Generator
from contextlib import contextmanager, suppress
from typing import Any


@contextmanager
def provider_settings() -> Generator[tuple[str, dict[str, Any]], None, None]:
    """What to give ``configure_provider``, and a line that says who will answer."""
    model = os.environ.get("DSPEX_MODEL")
    if base_url := os.environ.get("DSPEX_BASE_URL"):
        key = {"api_key": {"system": "OPENAI_API_KEY"}} if "OPENAI_API_KEY" in os.environ else {}
        settings = {"kind": "openai", "base_url": base_url, "default_model": model or "default", **key}
        yield f"a real server answers: {base_url}", settings
    elif "OPENAI_API_KEY" in os.environ:
        settings = {"kind": "openai", "api_key": {"system": "OPENAI_API_KEY"}, "default_model": model or "gpt-6-mini"}
        yield "OpenAI answers (OPENAI_API_KEY is set)", settings
    else:
        with llmock() as base_url:
            settings = {"kind": "openai", "base_url": base_url, "default_model": "stand-in"}
            yield f"no provider configured: llmock, a local stand-in with canned answers, serves {base_url}", settings


@contextmanager
def llmock() -> Generator[str, None, None]:
    """Start llmock on a free port; stop it at the end."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [
        sys.executable,
        "-c",
        "from llmock.cli import app; app()",
        "serve",
        "--host",
        "127.0.0.1",
        "--port",
        str(port),
    ]
    server = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)  # noqa: S603 - all ours
    try:
        _wait_for(f"http://127.0.0.1:{port}/v1/models", server)
        yield f"http://127.0.0.1:{port}/v1"
    finally:
        server.terminate()
        server.wait(10)


def _wait_for(url: str, server: "subprocess.Popen[bytes]") -> None:
    deadline = time.monotonic() + 30
    while server.poll() is None and time.monotonic() < deadline:
        try:
            urllib.request.urlopen(url, timeout=1).close()  # noqa: S310 - our own address
            return
        except urllib.error.HTTPError:
            return  # it answers
        except OSError:
            with suppress(subprocess.TimeoutExpired):
                server.wait(0.05)
    raise RuntimeError(f"llmock did not answer at {url}")
