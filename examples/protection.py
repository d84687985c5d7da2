"""What stands between your program and a provider: limits, a circuit breaker, and a route to another provider.

python examples/protection.py
"""

import threading
from typing import Any

from scripted_server import Answer, Refusal, ScriptedServer

import dspex
from dspex.actors.events.kinds import ProtectionChanged
from dspex.runtime.errors import LMCircuitOpen, LMRateLimited, LMServerError

HEALTHY = threading.Event()


def main_server(request: dict[str, Any]) -> Answer:
    return "the main provider answers" if HEALTHY.is_set() else Refusal(500, "internal error")


def spare_server(request: dict[str, Any]) -> Answer:
    return "the spare one answers"


def main() -> None:
    HEALTHY.set()
    # Each request is to be sent: no answers from the cache.
    config = {"events": {"in_memory": True}, "app": {"console": False}, "ai": {"caching": {"enabled": False}}}
    with (
        ScriptedServer(main_server) as first,
        ScriptedServer(spare_server) as second,
        dspex.start(config=config) as app,
    ):
        app.configure_provider("main", kind="openai", base_url=first.url, default_model="m", retry_attempts=1)
        app.configure_provider("spare", kind="openai", base_url=second.url, default_model="m")
        app.configure_route("any", "main", "spare")
        limits(app)
        breaker(app, first)
        fallback(app)
        recovery(app)
        print("all of it is in the event log:")
        for event in app.events.query(type="protection_changed", order="oldest").events:
            assert isinstance(event, ProtectionChanged)
            print(f"  {event.provider}: {event.gate} is {event.state} because of {event.reason}")


def limits(app: dspex.App) -> None:
    print("-- two requests a second, as the limits say, and a third one that will not wait")
    app.protection.configure("main", rate_limit={"window": 1.0, "limit": 2})
    for number in (1, 2):
        print(f"  {number}: {app.lm.complete('main', 'Hello?').text}")
    try:
        app.lm.complete("main", "Hello?", on_limit="fail")
    except LMRateLimited as error:
        print(f"  3: refused by ourselves ({error.limit}), nothing was sent; room in {error.retry_after:.2f} s")
    waited = app.lm.complete("main", "Hello?").attempts[0].waited
    print(f"  3 again, but it waits: {waited:.2f} s")
    for bucket in app.protection.status("main").buckets:
        print(f"  {bucket.limit} of {bucket.scope}: {bucket.used} of {bucket.of} used")
    app.protection.configure("main", rate_limit=None)


def breaker(app: dspex.App, server: ScriptedServer) -> None:
    print("-- the provider breaks down: after three failures in a row nothing is sent any more")
    app.protection.configure("main", failure_threshold=3, recovery_time=0.5)
    HEALTHY.clear()
    before = server.requests
    for number in range(1, 6):
        try:
            app.lm.complete("main", "Hello?")
        except LMServerError as error:
            print(f"  {number}: HTTP {error.status}")
        except LMCircuitOpen as error:
            print(f"  {number}: {error}")
    print(f"  {server.requests - before} of 5 requests reached the server")
    report = app.protection.status("main")
    print(f"  breaker {report.breaker.state}, refused so far: {dict(report.refused)}")


def fallback(app: dspex.App) -> None:
    print("-- who asks the route hardly notices")
    answer = app.lm.complete("any", "Hello?")
    print(f"  {answer.provider}: {answer.text}")


def recovery(app: dspex.App) -> None:
    print("-- the provider is well again: when its time is over, one probe finds out and closes the breaker")
    HEALTHY.set()
    threading.Event().wait(app.protection.status("main").breaker.next_probe)
    print(f"  {app.lm.complete('main', 'Hello?').text}; breaker {app.protection.status('main').breaker.state}")


if __name__ == "__main__":
    main()
