"""The simulated model says the same through prompts and through HTTP as it does to the bench."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping, MutableMapping
from typing import Any

import pytest

from dspex.actors.adapters.chat import ChatAdapter
from dspex.actors.configuration.provider_settings import ProviderSettings
from dspex.actors.http.transport import HttpRequest
from dspex.actors.lm.values import message_dict
from dspex.actors.modules.prediction import Prediction
from dspex.actors.testing.simulated_lm import (
    CLUE,
    KEYWORD,
    PROPOSALS,
    REMARK,
    SIGNATURE,
    SimulatedProvider,
    SimulatedServer,
    classify,
    completion,
    dataset,
    judge,
    propose,
    reply,
    skill,
    topic,
    truth,
)

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


def dspy_body(task: str, inputs: Mapping[str, str], request: str) -> dict[str, Any]:
    """A request as DSPy's adapters make it."""
    sections = "\n\n".join(f"[[ ## {name} ## ]]\n{value}" for name, value in inputs.items())
    question = f"{sections}\n\nRespond with {request}"
    return {"model": "m", "messages": [{"role": "system", "content": task}, {"role": "user", "content": question}]}


MARKED = (
    "the corresponding output fields, starting with the field `[[ ## {} ## ]]`, and then ending with the marker for "
    "`[[ ## completed ## ]]`."
)


@pytest.mark.parametrize("instructions", [PROPOSALS[0], PROPOSALS[2]])
def test_a_prompt_of_dspy_is_understood(instructions: str) -> None:
    """The same task in DSPy's words has the same answer; its worked examples carry no request."""
    for text in TEXTS[:20]:
        body = dspy_body(instructions, {"text": text}, MARKED.format("label"))
        system, question = body["messages"]
        shown = [
            message
            for demo in DEMOS
            for message in (
                {"role": "user", "content": f"[[ ## text ## ]]\n{demo['text']}"},
                {"role": "assistant", "content": f"[[ ## label ## ]]\n{demo['label']}\n\n[[ ## completed ## ]]\n"},
            )
        ]
        answer = reply(body | {"messages": [system, *shown, question]})
        assert ChatAdapter().parse(SIGNATURE, answer) == {"label": classify(text, instructions, DEMOS)}


def test_it_proposes_in_the_form_that_dspy_asks_for() -> None:
    """Sections for MIPROv2, JSON for GEPA; of anything else, such as a description of the data, a remark."""
    proposed = reply(dspy_body("Generate.", {"basic_instruction": "Say."}, MARKED.format("proposed_instruction")))
    assert any(proposed.startswith(f"[[ ## proposed_instruction ## ]]\n{each}") for each in PROPOSALS)
    request = "a JSON object in the following order of fields: `new_instruction`."
    reflected = reply(dspy_body("Reflect.", {"examples_with_feedback": f"Feedback: {CLUE}"}, request))
    assert json.loads(reflected) == {"new_instruction": PROPOSALS[2]}
    described = reply(dspy_body("Describe.", {"examples": "text 1"}, MARKED.format("observations")))
    assert described.startswith(f"[[ ## observations ## ]]\n{REMARK}")


def test_it_proposes_nothing_that_stands_in_the_prompt() -> None:
    """Who shows what there is gets something else, as long as there is any."""
    for shown in range(1, len(PROPOSALS)):
        assert propose("\n".join(PROPOSALS[:shown])) in PROPOSALS[shown:]
    assert propose("\n".join(PROPOSALS)) in PROPOSALS


def test_tokens_grow_with_the_prompt() -> None:
    """Usage is counted from the text, so that costs can be compared."""
    short, long = (completion(body_of(TEXTS[0], None, demos))["usage"] for demos in ((), DEMOS))
    assert long["prompt_tokens"] > short["prompt_tokens"] > 20
    assert short["total_tokens"] == short["prompt_tokens"] + short["completion_tokens"]


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


def test_who_left_before_asking_is_not_answered() -> None:
    """A server tells of it in the place of the request's body."""
    server, sent = SimulatedServer(), list[Any]()

    async def left() -> dict[str, Any]:
        return {"type": "http.disconnect"}

    async def send(message: Any) -> None:
        sent.append(message)

    asyncio.run(server({"type": "http"}, left, send))
    assert (server.calls, sent) == (0, [])
