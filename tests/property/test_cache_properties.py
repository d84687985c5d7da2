"""The pure halves of the cache against models: what memory keeps, and who leads."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from dspex.actors.cache.flights import Flights
from dspex.actors.cache.key import cache_key
from dspex.actors.cache.memory import AnswerMemory
from dspex.actors.lm.codec import decode_response, encode_response
from dspex.actors.lm.values import LMRequest, LMResponse, Message, ToolCall

KEYS = st.sampled_from("abcd")
MEMORY_STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("put"), KEYS, st.integers(0, 9)),
        st.tuples(st.just("get"), KEYS, st.just(0)),
        st.tuples(st.just("pass"), st.just(""), st.integers(1, 5)),
        st.tuples(st.just("resize"), st.just(""), st.integers(0, 4)),
        st.tuples(st.just("shorten"), st.just(""), st.integers(0, 5)),
    ),
    max_size=40,
)


@given(MEMORY_STEPS)
def test_memory_keeps_the_last_used_until_they_are_too_old(steps: list[tuple[str, str, int]]) -> None:
    """As a plain list in the order of use would, cut at its front."""
    memory, capacity, now = AnswerMemory(3), 3, 0
    model: list[tuple[str, str, int]] = []  # (key, value, until), least recently used first
    evicted = 0
    for number, (what, key, amount) in enumerate(steps):
        if what == "put":
            model = [entry for entry in model if entry[0] != key] + [(key, str(number), now + amount)]
            memory.put(key, str(number), now + amount)
        elif what == "get":
            found = next((entry for entry in model if entry[0] == key), None)
            model = [entry for entry in model if entry[0] != key]
            fresh = found is not None and now < found[2]
            if found is not None and fresh:
                model.append(found)
            assert memory.get(key, now) == (found[1] if found is not None and fresh else None)
        elif what == "pass":
            now += amount
        elif what == "resize":
            capacity = amount
            memory.resize(amount)
        else:
            model = [(name, value, min(until, now + amount)) for name, value, until in model]
            memory.shorten(now + amount)
        beyond = max(0, len(model) - capacity)
        evicted, model = evicted + beyond, model[beyond:]
        assert len(memory) == len(model) <= capacity
        assert memory.evicted == evicted


FLIGHT_STEPS = st.lists(
    st.tuples(st.sampled_from(["ask", "ask", "ask", "store", "fail", "leave", "die"]), KEYS, st.integers(0, 5)),
    max_size=60,
)


@given(FLIGHT_STEPS)
def test_one_leads_and_nobody_who_lives_is_forgotten(steps: list[tuple[str, str, int]]) -> None:
    """Each who asks leads, is answered, leaves or dies; while one leads on a key nobody else does."""
    alive: set[str] = set()
    flights = Flights[str](alive.__contains__)
    leading: dict[str, str] = {}
    waiting: dict[str, list[str]] = {key: [] for key in "abcd"}
    for number, (what, key, pick) in enumerate(steps):
        who = f"{number}"
        if what == "ask":
            alive.add(who)
            if flights.get(key) is None:
                assert key not in leading
                flights.lead(key, who, who)
                leading[key] = who
            else:
                flights.wait(key, who, who)
                waiting[key].append(who)
        elif what == "store":
            flight = flights.land(key)
            assert (flight.leader[0] if flight.leader else None) == leading.pop(key, None)
            assert list(flight.waiting) == waiting[key]
            waiting[key] = []
        elif what == "fail" and key in leading:
            alive.discard(leading.pop(key))
            heir = flights.promote(key)
            assert heir == (waiting[key][0] if waiting[key] else None)
            if heir is not None:
                leading[key] = waiting[key].pop(0)
        elif what in ("leave", "die") and waiting[key]:
            gone = waiting[key].pop(pick % len(waiting[key]))
            if what == "leave":
                assert flights.leave(key, gone) == gone
            alive.discard(gone)
        assert flights.leading == len(leading)
        assert flights.waiting == sum(map(len, waiting.values()))
        assert (flights.get(key) is None) == (key not in leading)


TEXTS = st.text(st.characters(), max_size=20)


@settings(max_examples=50)
@given(TEXTS, st.none() | TEXTS, st.lists(st.builds(ToolCall, TEXTS, TEXTS, TEXTS), max_size=3))
def test_every_answer_comes_back(text: str, reasoning: str | None, tools: list[ToolCall]) -> None:
    """Whatever a model wrote, the same is read back."""
    found = decode_response(
        encode_response(LMResponse(text=text, model="m", reasoning=reasoning, tool_calls=tuple(tools)))
    )
    assert (found.text, found.reasoning, found.tool_calls) == (text, reasoning, tuple(tools))


@settings(max_examples=50)
@given(st.lists(st.tuples(st.sampled_from(["user", "assistant"]), TEXTS), min_size=1, max_size=3), st.data())
def test_only_equal_conversations_have_equal_keys(turns: list[tuple[str, str]], data: st.DataObject) -> None:
    """Text moved from one turn to another, or from one role to another, is another request."""
    others = st.lists(st.tuples(st.sampled_from(["user", "assistant"]), TEXTS), min_size=1, max_size=3)
    other = data.draw(st.just(list(turns)) | others)

    def key(conversation: list[tuple[str, str]]) -> str:
        messages = tuple(Message(role, text) for role, text in conversation)  # type: ignore[arg-type]
        return cache_key(LMRequest(messages), provider="p", kind="openai", model="m")

    assert (key(turns) == key(other)) == (turns == other)
