"""The simulated model says the same through prompts and through HTTP as it does to the bench."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping, MutableMapping
from typing import Any

import pytest

from dspex.actors.adapters.chat import ChatAdapter
from dspex.actors.lm import message_dict
from dspex.actors.prediction import Prediction
from dspex.actors.settings_providers import ProviderSettings
from dspex.actors.testing.simulated_lm import (
    CLUE,
    KEYWORD,
    PROPOSALS,
    SIGNATURE,
    SimulatedProvider,
    SimulatedServer,
    classify,
    dataset,
    judge,
    propose,
    reply,
    skill,
    topic,
    truth,
)
from dspex.actors.transport import HttpRequest

TEXTS = [each["text"] for each in dataset(300)]
DEMOS = tuple(
    {"text": text, "label": truth(text)} for text in (next(t for t in TEXTS if topic(t) == n) for n in range(3))
)
PROMPTS = [(None, ()), (PROPOSALS[2], ()), (None, DEMOS[:2]), (PROPOSALS[2], DEMOS)]


def body_of(text: str, instructions: str | None, demos: tuple[Mapping[str, Any], ...]) -> dict[str, Any]:
    """The request that a module with the chat adapter makes."""
    signature = SIGNATURE.with_instructions(instructions or SIGNATURE.instructions)
    messages = ChatAdapter().format(signature, {"text": text}, demos)
    return {"model": "m", "messages": [message_dict(message) for message in messages]}


@pytest.mark.parametrize(("instructions", "demos"), PROMPTS)
def test_it_is_right_as_often_as_the_skill_says(instructions: str | None, demos: tuple[Mapping[str, Any], ...]) -> None:
    """Within what 300 texts can show."""
    right = sum(classify(text, instructions, demos) == truth(text) for text in TEXTS)
    assert abs(right / len(TEXTS) - skill(instructions, demos) / 100) < 0.06


@pytest.mark.parametrize(("instructions", "demos"), PROMPTS)
def test_a_prompt_is_understood(instructions: str | None, demos: tuple[Mapping[str, Any], ...]) -> None:
    """Instructions and worked examples are read out of the chat adapter's messages."""
    for text in TEXTS[:40]:
        answer = ChatAdapter().parse(SIGNATURE, reply(body_of(text, instructions, demos)))
        assert answer == {"label": classify(text, instructions, demos)}


def test_only_the_planted_best_is_always_right() -> None:
    """The word and all topics: 100; a wrong example costs."""
    assert [skill(*prompt) for prompt in PROMPTS] == [40, 64, 64, 100]
    assert skill(None, [{"text": "t", "label": "?"}]) == 34


def test_a_clue_gives_the_word_away() -> None:
    """Reflection on feedback finds the instructions at once; other prompts get one of a few."""
    example = next(each for each in dataset(50) if classify(each["text"], None, ()) != each["label"])
    score, feedback = judge(example, Prediction({"label": classify(example["text"], None, ())}))
    assert score == 0.0
    assert KEYWORD in propose(feedback)
    assert judge(example, Prediction({"label": example["label"]})) == (1.0, "")
    assert len({propose(f"prompt {number}") for number in range(40)}) == len(PROPOSALS)
    assert CLUE in feedback


def test_it_stands_in_for_the_network_of_a_provider() -> None:
    """As a scripted provider does."""
    provider = SimulatedProvider()
    transport = provider.transport(ProviderSettings(kind="openai", default_model="m"))
    body = body_of(TEXTS[0], None, ())
    request = HttpRequest("http://simulated/v1/chat/completions", {}, json.dumps(body).encode())
    answer = json.loads(asyncio.run(transport.send(request, timeout=5.0)).body)
    content = answer["choices"][0]["message"]["content"]
    assert ChatAdapter().parse(SIGNATURE, content) == {"label": classify(TEXTS[0], None, ())}
    assert provider.requests == [body]


def test_it_is_an_asgi_application() -> None:
    """A request that comes in pieces gets one completion, and is counted."""
    server, sent = SimulatedServer(), list[MutableMapping[str, Any]]()
    content = json.dumps(body_of(TEXTS[1], PROPOSALS[2], DEMOS)).encode()
    pieces: list[Mapping[str, Any]] = [
        {"type": "http.request", "body": content[:50], "more_body": True},
        {"type": "http.request", "body": content[50:]},
    ]

    async def receive() -> Mapping[str, Any]:
        return pieces.pop(0)

    async def send(message: MutableMapping[str, Any]) -> None:
        sent.append(message)

    asyncio.run(server({"type": "http", "path": "/v1/chat/completions"}, receive, send))
    answer = json.loads(sent[1]["body"])
    assert sent[0]["status"] == 200
    assert ChatAdapter().parse(SIGNATURE, answer["choices"][0]["message"]["content"]) == {"label": truth(TEXTS[1])}
    assert server.calls == 1
