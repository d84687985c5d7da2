"""A simulated language model for tests of optimizers: deterministic, and with a best program that is known.

*It is a simulation, not a model.* It sorts short texts into ``up`` and ``down``, and how often it is right depends on
the prompt in a known way. Each text has a topic and a difficulty from 0 to 99, both from its hash; it is answered right
if and only if its difficulty is below the prompt's skill::

    skill = 40                          the prompt as it is
          + 24 if the instructions hold the word ``tide``
          + 12 for each of the three topics of which the worked examples show a right one
          - 6 for each wrong one

So the best program is planted: the word, and a right example of each topic. It answers everything right, and nothing
else does. Asked to write instructions, it gives one of a few, by the prompt's hash; only one of those has the word,
but it always gives that one if the prompt holds :data:`CLUE`, as the feedback of :func:`judge` does.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Awaitable, Callable, Mapping, MutableMapping, Sequence
from typing import Any, Final

from ..examples import Example
from ..json_values import json_list, json_object, json_text
from ..prediction import Prediction
from ..signature import Signature
from ..transport import HttpRequest
from .scripted_provider import Rule, ScriptedProvider, marked

SIGNATURE: Final = Signature("text -> label", "Say whether the text means up or down.")
LABELS: Final = ("up", "down")
TOPICS: Final = 3
KEYWORD: Final = "tide"
CLUE: Final = "think of the sea"
BASE_SKILL: Final = 40
KEYWORD_SKILL: Final = 24
TOPIC_SKILL: Final = 12
WRONG_SKILL: Final = -6
PROPOSALS: Final = (
    "Say up or down, nothing else.",
    "Read the text twice, then say up or down.",
    "Decide whether it is the rising tide or the falling one, and say up or down.",
    "You are a careful reader. Say up or down.",
)
_SECTION: Final = re.compile(r"^\[\[ ## (\w+) ## \]\]$", re.MULTILINE)


def dataset(count: int, first: int = 0) -> list[Example]:
    """Examples of the task, with their true labels: the numbers from ``first`` on."""
    texts = [f"text {number}" for number in range(first, first + count)]
    return [Example(text=text, label=truth(text)).with_inputs("text") for text in texts]


def truth(text: str) -> str:
    """The true label of a text."""
    return LABELS[_number("label", text) % 2]


def topic(text: str) -> int:
    """What a text is about: 0, 1 or 2."""
    return _number("topic", text) % TOPICS


def skill(instructions: str | None, demos: Sequence[Mapping[str, Any]]) -> int:
    """How many of a hundred texts are answered right with this prompt; 100 is the planted best."""
    right = {topic(demo["text"]) for demo in demos if demo.get("label") == truth(demo["text"])}
    wrong: int = sum(demo.get("label") != truth(demo["text"]) for demo in demos)
    keyword = KEYWORD in (instructions or "")
    return BASE_SKILL + keyword * KEYWORD_SKILL + len(right) * TOPIC_SKILL + wrong * WRONG_SKILL


def classify(text: str, instructions: str | None, demos: Sequence[Mapping[str, Any]]) -> str:
    """What the simulated model says to a text."""
    label = truth(text)
    if _number("difficulty", text) % 100 < skill(instructions, demos):
        return label
    return LABELS[1 - LABELS.index(label)]


def propose(prompt: str) -> str:
    """The instructions that the simulated model writes when asked to."""
    number = 2 if CLUE in prompt else _number("proposal", prompt) % len(PROPOSALS)
    return f"Here they are:\n```\n{PROPOSALS[number]}\n```"


def judge(example: Example, prediction: Prediction) -> tuple[float, str]:
    """The metric: whether the label is the true one; of a wrong one the feedback holds the clue."""
    right = prediction["label"] == example["label"]
    return (1.0, "") if right else (0.0, f"The label is {example['label']}: {CLUE}.")


class SimulatedProvider(ScriptedProvider):
    """The simulated model in place of the network below a provider actor, for modules with the chat adapter.

    It answers a prompt of :data:`SIGNATURE` with a label, and every other with instructions.
    """

    def _find(self, request: HttpRequest) -> tuple[Rule, Mapping[str, Any]]:
        body = json_object(json.loads(request.body))
        self.requests.append(body)
        return Rule(reply(body)), body


def reply(body: Mapping[str, Any]) -> str:
    """The text that answers an OpenAI chat completions request."""
    messages = [json_object(message) for message in json_list(body.get("messages"))]
    texts = [(json_text(message.get("role")), json_text(message.get("content"))) for message in messages]
    asked = _sections(texts[-1][1]).get("text")
    if asked is None:
        return propose("\n".join(text for _, text in texts))
    instructions = "\n".join(text for role, text in texts if role == "system")
    questions = [_sections(text) for role, text in texts[:-1] if role == "user"]
    answers = [_sections(text) for role, text in texts[:-1] if role == "assistant"]
    demos = [question | answer for question, answer in zip(questions, answers, strict=True)]
    return marked({"label": classify(asked, instructions, demos)})


class SimulatedServer:
    """The simulated model as an ASGI application that speaks OpenAI's chat completions, unstreamed.

    Attributes:
        calls: how many it answered.
    """

    def __init__(self) -> None:
        self.calls = 0

    async def __call__(
        self,
        scope: Mapping[str, Any],
        receive: Callable[[], Awaitable[Mapping[str, Any]]],
        send: Callable[[MutableMapping[str, Any]], Awaitable[None]],
    ) -> None:
        """Answer one request, whatever its path."""
        if scope["type"] != "http":
            return
        content, more = b"", True
        while more:
            message = await receive()
            content += message.get("body", b"")
            more = message.get("more_body", False)
        self.calls += 1
        answer = completion(json_object(json.loads(content)), self.calls)
        headers = [(b"content-type", b"application/json")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": json.dumps(answer).encode()})


def completion(body: Mapping[str, Any], number: int = 1) -> dict[str, Any]:
    """The whole chat completion that answers a request."""
    message = {"role": "assistant", "content": reply(body)}
    return {
        "id": f"simulated-{number}",
        "object": "chat.completion",
        "model": json_text(body.get("model")) or "simulated",
        "choices": [{"index": 0, "message": message, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 15},
    }


def _sections(text: str) -> dict[str, str]:
    """The marked sections of a message."""
    parts = _SECTION.split(text)
    return {name: body.split("\n\n")[0].strip() for name, body in zip(parts[1::2], parts[2::2], strict=True)}


def _number(kind: str, text: str) -> int:
    return int.from_bytes(hashlib.sha256(f"{kind}:{text}".encode()).digest()[:4])
