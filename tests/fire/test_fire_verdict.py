"""A third party's verdict on us: llmock injects each of its faults and judges how the client took it, warnings too."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from dspex.runtime.errors import (
    LMAuthError,
    LMContextLength,
    LMError,
    LMInvalidRequest,
    LMQuotaExceeded,
    LMRateLimited,
    StreamInterrupted,
)
from kit.fire import KINDS, MODES, ROOTS, Fire, Latest, Mode, fire
from kit.promptness import TooLate, tried_again

RECOVER = (408, 409, 500, 502, 503, 529)  # and 504, below: llmock sends it with a Retry-After of 1 s
REFUSE = {
    400: LMInvalidRequest,
    401: LMAuthError,
    402: LMQuotaExceeded,
    403: LMAuthError,
    404: LMInvalidRequest,
    413: LMInvalidRequest,
    422: LMInvalidRequest,
}
BREAKS = ("disconnect", "truncate", "malformed", "stall")

kinds = pytest.mark.parametrize("kind", KINDS)
modes = pytest.mark.parametrize("mode", MODES)


@pytest.fixture(scope="module")
def burning() -> Iterator[Fire]:
    """One application for all tests; its pauses are as long as they may be, so they grow each time."""
    with fire(rng=Latest()) as made:
        yield made


def at(burning: Fire, llmock: Any, kind: str, **settings: Any) -> str:
    """A provider at the server."""
    found = {"default_model": "gpt-4o", "retry_base_delay": 0.07, "retry_max_delay": 1.0, **settings}
    url = llmock.base_url(kind.partition("_")[0]).removesuffix(ROOTS[kind])
    return burning.provider(url, kind, **found)


def attempts(llmock: Any) -> int:
    """Requests on the wire."""
    return len(llmock.requests)


def resilient(llmock: Any) -> None:
    """Its verdict is without a warning. A first pause that seems as long as the second may be a busy machine's."""
    if {finding.code for finding in llmock.verdict().findings} == {"no_backoff"}:
        raise TooLate(llmock.verdict().render())
    llmock.assert_resilient(strict=True)


@pytest.mark.parametrize(
    ("kind", "status"),
    [(kind, status) for kind in ("openai", "anthropic") for status in RECOVER]
    + [(kind, 503) for kind in ("openai_responses", "gemini")],
)
@modes
@tried_again
def test_a_failure_that_passes(burning: Fire, llmock: Any, kind: str, mode: Mode, status: int) -> None:
    """Two failures and then an answer: tried again, not before the server's time, and later each time."""
    llmock.reset()
    id = at(burning, llmock, kind)
    llmock.fail(status, times=2, retry_after=0.1 if status in (503, 529) else None)
    assert burning.ask(id, mode).text
    assert attempts(llmock) == 3
    resilient(llmock)


@pytest.mark.parametrize("kind", ["openai", "anthropic"])
def test_a_gateway_that_is_too_slow(burning: Fire, llmock: Any, kind: str) -> None:
    """504 with the server's own Retry-After: kept to."""
    id = at(burning, llmock, kind)
    llmock.fail(504)
    assert burning.ask(id).text
    assert attempts(llmock) == 2
    llmock.assert_resilient(strict=True)


@kinds
@modes
@tried_again
def test_a_failure_that_stays(burning: Fire, llmock: Any, kind: str, mode: Mode) -> None:
    """An outage: three attempts, then a typed error; no storm."""
    llmock.reset()
    id = at(burning, llmock, kind)
    llmock.fail(500, times=None)
    with pytest.raises(LMError) as caught:
        burning.ask(id, mode)
    assert len(caught.value.attempts) == attempts(llmock) == 3
    resilient(llmock)


@kinds
@modes
@pytest.mark.parametrize("status", REFUSE)
def test_a_refusal(burning: Fire, llmock: Any, kind: str, mode: Mode, status: int) -> None:
    """What no other attempt can mend is not tried again."""
    id = at(burning, llmock, kind)
    llmock.fail(status)
    with pytest.raises(REFUSE[status]):
        burning.ask(id, mode)
    assert attempts(llmock) == 1
    llmock.assert_resilient(strict=True)


@kinds
@modes
def test_a_rate_limit(burning: Fire, llmock: Any, kind: str, mode: Mode) -> None:
    """429 twice: nobody comes back before Retry-After."""
    id = at(burning, llmock, kind)
    llmock.rate_limit(times=2, retry_after=0.2)
    assert burning.ask(id, mode).text
    assert attempts(llmock) == 3
    llmock.assert_resilient(strict=True)


@kinds
@modes
def test_a_prompt_that_is_too_long(burning: Fire, llmock: Any, kind: str, mode: Mode) -> None:
    """A real context window: LMContextLength, not tried again."""
    id = at(burning, llmock, kind)
    llmock.limits(context_window=50)
    with pytest.raises(LMContextLength):
        burning.ask(id, mode, "word " * 500)
    assert attempts(llmock) == 1
    llmock.assert_resilient(strict=True)


@kinds
@modes
def test_a_real_quota(burning: Fire, llmock: Any, kind: str, mode: Mode) -> None:
    """A server's own limit, whose wait is longer than the caller has: told at once, nothing sent in vain."""
    id = at(burning, llmock, kind)
    llmock.limits(rpm=2)
    for number in range(2):
        assert burning.ask(id, mode, str(number)).text
    for number in range(2, 4):
        with pytest.raises(LMRateLimited):
            burning.ask(id, mode, str(number), timeout=3.0)
    assert attempts(llmock) == 3  # the last caller was told by our own gate
    assert not [finding for finding in llmock.verdict().findings if finding.code != "gave_up"]


@kinds
@modes
def test_a_slow_answer(burning: Fire, llmock: Any, kind: str, mode: Mode) -> None:
    """Slower than an attempt may be: tried again."""
    id = at(burning, llmock, kind, attempt_timeout=0.5)
    llmock.delay(1.0)
    assert burning.ask(id, mode).text
    llmock.assert_resilient(strict=True)


@kinds
def test_a_slow_first_token(burning: Fire, llmock: Any, kind: str) -> None:
    """Later than a first chunk may be: tried again."""
    id = at(burning, llmock, kind, first_chunk_timeout=0.5)
    llmock.slow_first_token(1.0)
    assert burning.ask(id, "stream").text
    llmock.assert_resilient(strict=True)


@kinds
@pytest.mark.parametrize("fault", BREAKS)
def test_a_stream_that_breaks_before_its_first_token(burning: Fire, llmock: Any, kind: str, fault: str) -> None:
    """Nothing was delivered: tried again, and whoever reads sees one whole answer."""
    id = at(burning, llmock, kind, first_chunk_timeout=0.6)
    llmock.pace(3)
    _break(llmock, fault, 0)
    assert burning.ask(id, "stream").finish_reason == "stop"
    assert attempts(llmock) == 2
    llmock.assert_resilient(strict=True)


@kinds
@pytest.mark.parametrize("fault", BREAKS)
def test_a_stream_that_breaks_in_the_middle(burning: Fire, llmock: Any, kind: str, fault: str) -> None:
    """Something was delivered: StreamInterrupted with what came; whoever then asks anew gets all of it."""
    id = at(burning, llmock, kind, chunk_timeout=0.6)
    llmock.pace(3)
    llmock.reply("one two three four five six seven eight", times=None)
    _break(llmock, fault, 5)
    seen: list[str] = []
    with pytest.raises(StreamInterrupted) as caught:
        burning.read(id, seen)
    assert seen
    assert caught.value.facts["text"].startswith("".join(seen))
    assert attempts(llmock) == 1  # not tried again behind the reader's back
    assert burning.ask(id, "stream").text == "one two three four five six seven eight"
    llmock.assert_resilient(strict=True)


@kinds
@pytest.mark.parametrize("fault", ["malformed_arguments", "unknown_tool"])
@modes
def test_a_broken_tool_call(burning: Fire, llmock: Any, kind: str, mode: Mode, fault: str) -> None:
    """The model's own mistake is an answer, or a typed error; never a crash and never a storm."""
    id = at(burning, llmock, kind)
    llmock.tool_mode("auto").break_tool_call(fault, times=None)
    tool = {"type": "function", "function": {"name": "add", "parameters": {"type": "object", "properties": {}}}}
    (call,) = burning.ask(id, mode, tools=(tool,)).tool_calls
    assert call.name == ("add" if fault == "malformed_arguments" else call.name)
    burning.quiet(id)
    llmock.assert_resilient(strict=True)


def _break(llmock: Any, fault: str, after: int) -> None:
    match fault:
        case "disconnect":
            llmock.disconnect(after_chunks=after)
        case "truncate":
            llmock.truncate(after_chunks=after)
        case "malformed":
            llmock.corrupt(after_chunks=after)
        case _:
            llmock.stall(after_chunks=after, seconds=1.2)
