"""What did it cost, by provider, model and module? From the event log, from telemetry and from the budgets.

python examples/cost_report.py
"""

from collections import defaultdict
from collections.abc import Iterable
from decimal import Decimal
from typing import Any

from scripted_server import ScriptedServer

import dspex
from dspex.actors.events.kinds import LmResponse
from dspex.actors.events.query import EventPage
from dspex.runtime.errors import LMBudgetExceeded

# US dollars for a million tokens. Prices of one's own go before those of the price list, which knows the public ones.
PRICES = {"small": {"input": 1, "output": 4}, "large": {"input": "12.5", "output": 50, "cached_input": "1.25"}}


def answer(request: dict[str, Any]) -> str:
    """One word in a direct answer, more where a module asks."""
    return "[[ ## answer ## ]]\nto be or not to be" if "[[ ##" in str(request["messages"]) else "yes"


def main() -> None:
    config = {"events": {"in_memory": True}, "app": {"console": False}}
    with ScriptedServer(answer) as server, dspex.start(config=config) as app:
        where = {"kind": "openai", "base_url": server.url}
        app.configure_provider("priced", **where, default_model="small", prices=PRICES)
        app.configure_provider("unknown", **where, default_model="nobody-knows-its-price")
        qa = app.start_module("qa", "question -> answer", provider="priced")
        judge = app.start_module("judge", "claim -> answer", provider="priced", model="large", budget={"requests": 2})
        for question in ("What is the question?", "Whose is it?", "What is the question?"):
            info = qa(question=question).info
            print(f"{question:22} {info.usage.total_tokens:3} tokens, ${info.cost}, from the cache: {info.cache_hit}")
        try:
            for claim in ("it is short", "it is long", "it is one too many"):
                judge(claim=claim)
        except LMBudgetExceeded as error:
            print("refused, nothing was sent:", error)
        print("no price, no number:", app.lm.complete("unknown", "Is it free?").cost)
        report(app)


def report(app: dspex.App) -> None:
    print("-- from the event log, which outlives the process if it is a file")
    sums: defaultdict[tuple[str, str], list[Decimal | None]] = defaultdict(list)
    for event in responses(app):
        module = next((account for account in event.accounts if account.startswith("module/")), "no module")
        for key in (("provider", event.provider), ("model", event.model or "?"), ("module", module)):
            sums[key].append(event.cost)
    for (kind, name), costs in sorted(sums.items()):
        known = [cost for cost in costs if cost is not None]
        unknown = len(costs) - len(known)
        print(
            f"  {kind:8} {name:23} {len(costs)} requests ${sum(known):.6f}" + (f" + {unknown} unknown" * bool(unknown))
        )
    print("-- from telemetry, since the start")
    for series in app.telemetry.snapshot().select("dspex_lm_cost_usd_total"):
        print("  ", dict(series.labels), series.value)
    print("-- from the budgets")
    for account in app.budgets.status():
        spent, left = account.spent, "no limit" if account.requests_left is None else account.requests_left
        print(f"  {account.account:17} {spent.requests} requests, {spent.tokens} tokens, ${spent.money}; left: {left}")


def responses(app: dspex.App) -> Iterable[LmResponse]:
    """All of them, page by page."""
    page: EventPage = app.events.query(type="lm_response")
    while True:
        yield from (event for event in page.events if isinstance(event, LmResponse))
        if not page.more:
            return
        page = app.events.query(type="lm_response", cursor=page.cursor)


if __name__ == "__main__":
    main()
