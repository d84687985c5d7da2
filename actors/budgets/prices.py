"""What requests cost, in US dollars: the user's own prices first, then a price list that needs no network.

The price list is that of ``genai-prices``, as it came with the package: nothing is ever fetched. Whose prices hold
is decided by the server's address, not by the protocol: a server that speaks OpenAI's protocol at an address the
list does not know (this machine, a proxy) costs what the user's prices say, and otherwise nobody knows what.

What is not known is ``None``, never zero.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC, datetime
from decimal import Decimal
from functools import lru_cache
from typing import TYPE_CHECKING, Final

from ..configuration.provider_settings import BASE_URLS, Price
from ..lm.values import Usage

if TYPE_CHECKING:
    from genai_prices.types import ModelInfo, ModelPrice, PriceCalculation, Provider

_MILLION: Final = Decimal(1_000_000)
# gpt-4o-2024-08-06, claude-3-5-sonnet-20241022, x@20241022, gpt-4-0613, flash-preview-09-2025, flash-001, x-latest
_EDITION: Final = re.compile(r"[-@](?:20\d\d-\d\d-\d\d|20\d{6}|\d\d-20\d\d|\d{4}|00\d|latest)$")


def load_price_list() -> None:
    """Load the price list, so that no request has to wait for it. Blocks (some tenths of a second)."""
    cost_of(Usage(input_tokens=1, output_tokens=1), model="gpt-4o", provider_kind="openai", prices={})


def cost_of(
    usage: Usage,
    *,
    model: str,
    provider_kind: str,
    prices: Mapping[str, Price],
    base_url: str | None = None,
    asked: str | None = None,
) -> Decimal | None:
    """What a request cost, in US dollars, or None if its price or its usage is unknown.

    A price of the user's own is found by the model's exact name, or by that name without the date or number of its
    edition (``gpt-4o`` for ``gpt-4o-2024-08-06``). Where the provider does not say how much of the input it read
    from its cache, all of it costs the full price.

    Args:
        usage: its tokens; the input counts cached tokens too.
        model: as the provider names it.
        provider_kind: the protocol; with no ``base_url``, whose server it is.
        prices: the user's own, by model.
        base_url: the server's address; by default that of the kind.
        asked: the model as the user named it, if that differs; only the user's own prices are looked up by it.
    """
    if usage.input_tokens is None or usage.output_tokens is None:
        return None
    price = _own_price(model, prices) or _own_price(asked or "", prices)
    if price is not None:
        return _priced(usage.input_tokens, usage.output_tokens, usage, price)
    return _listed(usage, model.removeprefix("models/"), base_url or BASE_URLS.get(provider_kind, ""))


def estimate_cost(
    input_tokens: int,
    output_tokens: int,
    *,
    model: str,
    provider_kind: str,
    prices: Mapping[str, Price],
    base_url: str | None = None,
) -> Decimal | None:
    """What a request will cost at most, in US dollars, or None if the price is unknown; for a reservation.

    Args:
        input_tokens: of the prompt, estimated; none of them are taken to be cached, all of them to be written to
            the cache where that is dearer.
        output_tokens: the most that the answer may have.
        model: which is asked.
        provider_kind: as of :func:`cost_of`.
        prices: the user's own, by model.
        base_url: the server's address; by default that of the kind.
    """
    if not prices and _row(model.removeprefix("models/"), base_url or BASE_URLS.get(provider_kind, "")) is None:
        return None
    costs = [
        cost_of(
            Usage(input_tokens=input_tokens, output_tokens=output_tokens, cache_write_tokens=written),
            model=model,
            provider_kind=provider_kind,
            prices=prices,
            base_url=base_url,
        )
        for written in (0, input_tokens)
    ]
    return max((cost for cost in costs if cost is not None), default=None)


def _own_price(model: str, prices: Mapping[str, Price]) -> Price | None:
    if not prices:
        return None
    name = model.removeprefix("models/")
    for candidate in (model, name, _EDITION.sub("", name)):
        if candidate in prices:
            return prices[candidate]
    return None


def _priced(given: int, made: int, usage: Usage, price: Price) -> Decimal | None:
    cached, written = usage.cached_tokens or 0, usage.cache_write_tokens or 0
    plain = given - cached - written
    if plain < 0:
        return None  # the counts contradict one another
    cached_price = price.input if price.cached_input is None else price.cached_input
    write_price = price.input if price.cache_write is None else price.cache_write
    return (plain * price.input + cached * cached_price + written * write_price + made * price.output) / _MILLION


def _listed(usage: Usage, model: str, url: str) -> Decimal | None:
    found = _row(model, url)
    return None if found is None else row_cost(usage, *found, datetime.now(tz=UTC))


def row_cost(usage: Usage, provider: Provider, model: ModelInfo, now: datetime) -> Decimal | None:
    """What a request costs by one row of the list, or None if the row has no price for something.

    Args:
        usage: its tokens; input and output are known.
        provider: whose row.
        model: the row.
        now: the time of the request: some prices change by date or by the hour.
    """
    prices = model.get_prices(now)
    flat: dict[str, Decimal] = {rate: price for rate, price in vars(prices).items() if isinstance(price, Decimal)}
    cached, written = usage.cached_tokens or 0, usage.cache_write_tokens or 0
    plain = (usage.input_tokens or 0) - cached - written
    # Nearly all rows are so simple, and the list's own arithmetic takes ten times as long.
    if plain < 0 or "input_mtok" not in flat or "output_mtok" not in flat or not _is_simple(prices):
        return _calculated(usage, provider, model, now)
    given = flat["input_mtok"]
    total = plain * given + cached * flat.get("cache_read_mtok", given) + written * flat.get("cache_write_mtok", given)
    return (total + (usage.output_tokens or 0) * flat["output_mtok"]) / _MILLION


@lru_cache(maxsize=1024)
def _row(model: str, url: str) -> tuple[Provider, ModelInfo] | None:
    """Where the list has a model of the server at an address; None if it does not know it."""
    # Its import costs as much as all the rest.
    from genai_prices.data_snapshot import get_snapshot  # noqa: PLC0415

    try:
        provider, found = get_snapshot().find_provider_model(model, None, None, url)
    except (LookupError, ValueError):
        return None
    return (provider, found) if _is_theirs(url, provider) else None


def _is_simple(prices: ModelPrice) -> bool:
    """Whether all there is are rates of tokens: no tiers, nothing for each request."""
    return all(
        price is None or (isinstance(price, Decimal) and name.endswith("_mtok")) for name, price in vars(prices).items()
    )


def _calculated(usage: Usage, provider: Provider, model: ModelInfo, now: datetime) -> Decimal | None:
    from genai_prices import Usage as Counts  # noqa: PLC0415

    counts = Counts(
        input_tokens=usage.input_tokens,
        output_tokens=usage.output_tokens,
        cache_read_tokens=usage.cached_tokens,
        cache_write_tokens=usage.cache_write_tokens,
    )
    try:
        found = model.calc_price(counts, provider, genai_request_timestamp=now)
    except (LookupError, ValueError):  # no price for something; the counts contradict one another
        return None
    return found.total_price if _is_complete(usage, found) else None


def _is_theirs(url: str, provider: Provider) -> bool:
    # The list compares beginnings: https://api.openai.com.example.org is somebody else's.
    match = re.match(provider.api_pattern, url)
    return match is not None and (match[0][-1:] in (".", "/") or url[match.end() : match.end() + 1] in ("", "/", ":"))


def _is_complete(usage: Usage, found: PriceCalculation) -> bool:
    # A row without a price for what was used would make it look free.
    price = found.model_price
    return not (usage.input_tokens and price.input_mtok is None) and not (
        usage.output_tokens and price.output_mtok is None
    )
