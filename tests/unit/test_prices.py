"""What requests cost: own prices first, then the bundled list; what is not known is None."""

from __future__ import annotations

import subprocess
import sys
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest

from dspex.actors.budgets.prices import cost_of, estimate_cost, row_cost
from dspex.actors.configuration.provider_settings import Price
from dspex.actors.lm.values import Usage

MILLION = 1_000_000


def price(**rates: str) -> Price:
    """A price in dollars a million tokens."""
    return Price.model_validate({name: Decimal(rate) for name, rate in rates.items()})


def used(given: int | None = 1000, made: int | None = 100, **more: Any) -> Usage:
    """Usage as providers count it: the input includes what came from the cache."""
    return Usage(input_tokens=given, output_tokens=made, **more)


def cost(usage: Usage, model: str = "gpt-4o", kind: str = "openai", **more: Any) -> Decimal | None:
    """The cost, without own prices unless given."""
    options: dict[str, Any] = {"prices": {}, **more}
    return cost_of(usage, model=model, provider_kind=kind, **options)


OWN = {"m": price(input="2", output="8", cached_input="0.5", cache_write="2.5"), "plain": price(input="2", output="8")}


@pytest.mark.parametrize(
    ("usage", "model", "expected"),
    [
        (used(MILLION, 0), "m", "2"),
        (used(0, MILLION), "m", "8"),
        (used(MILLION, 0, cached_tokens=MILLION), "m", "0.5"),
        (used(MILLION, 0, cache_write_tokens=MILLION), "m", "2.5"),
        (used(1000, 10, cached_tokens=300, cache_write_tokens=200), "m", "0.00173"),
        (used(1000, 10, cached_tokens=300, cache_write_tokens=200), "plain", "0.00208"),
        (used(0, 0), "m", "0"),
    ],
)
def test_each_kind_of_token_has_its_rate(usage: Usage, model: str, expected: str) -> None:
    """Cached input is part of the input and priced apart; without a price of its own it costs what input costs."""
    assert cost(usage, model, prices=OWN) == Decimal(expected)


@pytest.mark.parametrize("usage", [used(None), used(1000, None), Usage(total_tokens=1100)])
def test_unknown_usage_has_no_cost(usage: Usage) -> None:
    """A count that the provider did not give is never taken for zero."""
    assert cost(usage) is None
    assert cost(usage, "m", prices=OWN) is None


@pytest.mark.parametrize("prices", [{}, OWN])
@pytest.mark.parametrize("model", ["gpt-4o", "m"])
def test_counts_that_contradict_one_another_have_no_cost(model: str, prices: dict[str, Price]) -> None:
    """More tokens from the cache than there were is no reason for a negative price."""
    assert cost(used(100, 10, cached_tokens=200), model, prices=prices) is None


@pytest.mark.parametrize(
    ("model", "found"),
    [
        ("gpt-4o", "exact"),
        ("gpt-4o-2024-08-06", "edition"),
        ("claude-3-5-sonnet-20241022", "sonnet"),
        ("claude-3-5-sonnet-latest", "sonnet"),
        ("claude-3-5-sonnet@20241022", "sonnet"),
        ("models/gemini-x-001", "gemini"),
        ("gemini-x-preview-09-2025", None),
        ("gpt-4o-mini", None),
        ("gpt-4", None),
    ],
)
def test_own_prices_are_found_by_name_then_without_the_edition(model: str, found: str | None) -> None:
    """The exact name wins over the name without date or number; another model's name never fits."""
    rates = {"exact": "1", "edition": "2", "sonnet": "3", "gemini": "4"}
    prices = {
        "gpt-4o": price(input=rates["exact"], output="0"),
        "gpt-4o-2024-08-06": price(input=rates["edition"], output="0"),
        "claude-3-5-sonnet": price(input=rates["sonnet"], output="0"),
        "gemini-x": price(input=rates["gemini"], output="0"),
    }
    expected = None if found is None else Decimal(rates[found])
    assert cost(used(MILLION, 0), model, prices=prices, base_url="http://127.0.0.1:1/v1") == expected


def test_an_own_price_may_stand_under_the_name_that_was_asked_for() -> None:
    """A server that answers with a file's name is priced by the name the user knows."""
    usage = used(MILLION, 0)
    local = "http://127.0.0.1:1/v1"
    assert cost(usage, "/models/x.gguf", prices=OWN, base_url=local, asked="m") == 2
    assert cost(usage, "/models/x.gguf", prices=OWN, base_url=local, asked="other") is None
    # The list is asked for what answered only: it may have been another model.
    assert cost(usage, "no-such-model", asked="gpt-4o") is None


def test_own_prices_go_before_the_list() -> None:
    """Whoever has a contract pays by that."""
    assert cost(used(MILLION, 0), "gpt-4o", prices={"gpt-4o": price(input="0.01", output="0")}) == Decimal("0.01")


@pytest.mark.parametrize(
    ("kind", "model"),
    [
        ("openai", "gpt-4o"),
        ("openai", "gpt-4o-2024-08-06"),
        ("openai_responses", "gpt-4o"),
        ("anthropic", "claude-3-5-sonnet-20241022"),
        ("gemini", "gemini-2.5-flash"),
        ("gemini", "models/gemini-2.5-flash"),
    ],
)
def test_the_list_knows_each_kinds_own_models(kind: str, model: str) -> None:
    """Names as providers give them are found, editions too; output is dearer than input, cached input cheaper."""
    given, made, cached = (
        cost(usage, model, kind) for usage in (used(1000, 0), used(0, 1000), used(1000, 0, cached_tokens=1000))
    )
    assert given is not None
    assert made is not None
    assert cached is not None
    assert made > given > cached > 0


def test_writing_into_the_cache_costs_more_than_input() -> None:
    """Anthropic's writes have a rate of their own."""
    plain = cost(used(1000, 0), "claude-3-5-sonnet-20241022", "anthropic")
    written = cost(used(1000, 0, cache_write_tokens=1000), "claude-3-5-sonnet-20241022", "anthropic")
    assert plain is not None
    assert written is not None
    assert written > plain


@pytest.mark.parametrize(
    ("model", "kind", "base_url"),
    [
        ("no-such-model", "openai", None),
        ("gpt-4o", "anthropic", None),
        ("", "openai", None),
        ("gpt-4o", "openai", "http://127.0.0.1:8080/v1"),
        ("gpt-4o", "openai", "http://localhost:8080/v1"),
        ("gpt-4o", "openai", "https://gateway.example.org/v1"),
        ("gpt-4o", "openai", "https://api.openai.com.example.org/v1"),
        ("gpt-4o", "openai", "https://example.org/api.openai.com/v1"),
        ("gpt-4o", "openai", "https://api.groq.com/openai/v1"),
        ("text-embedding-3-small", "openai", None),
    ],
)
def test_what_is_not_known_costs_none(model: str, kind: str, base_url: str | None) -> None:
    """No model, another's model, or a server that the list does not know (this machine's): nobody knows the cost."""
    assert cost(used(), model, kind, base_url=base_url) is None


def test_the_address_decides_whose_prices_hold() -> None:
    """Another company's server that speaks OpenAI's protocol has its own list."""
    assert cost(used(), "gpt-4o", base_url="https://api.openai.com/v1") == cost(used(), "gpt-4o")
    assert cost(used(), "deepseek-chat", base_url="https://api.deepseek.com") is not None
    assert cost(used(), "deepseek-chat") is None


def test_an_estimate_is_an_upper_bound() -> None:
    """It is no less than the cost with any part of the input cached; without a price there is none."""
    model, kind = "claude-3-5-sonnet-20241022", "anthropic"
    estimated = estimate_cost(1000, 100, model=model, provider_kind=kind, prices={})
    assert estimated is not None
    for more in ({}, {"cached_tokens": 1000}, {"cache_write_tokens": 1000}, {"cached_tokens": 400}):
        actual = cost(used(**more), model, kind)
        assert actual is not None
        assert actual <= estimated
    assert estimate_cost(1000, 100, model="no-such-model", provider_kind="openai", prices={}) is None
    assert estimate_cost(MILLION, MILLION, model="plain", provider_kind="openai", prices=OWN) == 10


OFFLINE = """
import socket, sys
import dspex.actors.budgets.prices as prices
assert "genai_prices" not in sys.modules, "loaded before it was needed"
def refused(*args, **kwargs):
    raise AssertionError("the network was used")
for name in ("connect", "connect_ex", "sendto"):
    setattr(socket.socket, name, refused)
socket.getaddrinfo = socket.create_connection = refused
import threading
prices.load_price_list()
from dspex.actors.lm.values import Usage
cost = prices.cost_of(Usage(input_tokens=1, output_tokens=1), model="gpt-4o", provider_kind="openai", prices={})
assert cost > 0
assert threading.active_count() == 1, "something updates in the background"
print("fine")
"""


def test_the_list_is_loaded_when_needed_and_never_fetched() -> None:
    """Importing the module loads no list; loading and asking it opens no connection and leaves no thread."""
    done = subprocess.run([sys.executable, "-c", OFFLINE], capture_output=True, text=True, timeout=50, check=False)
    assert (done.stdout, done.returncode) == ("fine\n", 0), done.stderr


def test_every_row_of_the_list_costs_what_the_list_itself_says() -> None:
    """Our short way through the list's simple rows gives the same amount as the list's own arithmetic."""
    from genai_prices import Usage as Counts
    from genai_prices.data_snapshot import get_snapshot

    compared = 0
    now = datetime.now(tz=UTC)
    for provider in get_snapshot().providers:
        for model in provider.models:
            for given, made, cached, written in ((1000, 100, None, None), (1000, 100, 300, 200), (300_000, 7, 0, 0)):
                counts = Counts(
                    input_tokens=given, output_tokens=made, cache_read_tokens=cached, cache_write_tokens=written
                )
                usage = Usage(given, made, given + made, cached, cache_write_tokens=written)
                found = row_cost(usage, provider, model, now)
                if found is not None:
                    compared += 1
                    assert found == model.calc_price(counts, provider, genai_request_timestamp=now).total_price
    assert compared > 1000
