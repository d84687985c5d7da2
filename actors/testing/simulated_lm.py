"""A simulated language model for tests of optimizers: deterministic, and with a best program that is known.

*It is a simulation, not a model.* It sorts short texts into ``up`` and ``down``, and how often it is right depends on
the prompt in a known way. Each text has a topic and a difficulty from 0 to 99, both from its hash; it is answered right
if and only if its difficulty is below the prompt's skill::

    skill = 40                          the prompt as it is
          + 24 if the instructions hold the word ``tide``
          + 12 for each of the three topics of which the worked examples show a right one
          - 6 for each wrong one

So the best program is planted: the word, and a right example of each topic. It answers everything right, and nothing
else does. Asked to write instructions, it gives one of a few, by the prompt's hash, and none that stands in the prompt;
only one of those has the word, but it always gives that one if the prompt holds :data:`CLUE`, as the feedback of
:func:`judge` does. Asked for anything else, such as a description of the data, it says a sentence that helps nobody.

It reads prompts of our chat adapter and DSPy's, and those of DSPy's JSON adapter: all name the fields they want after
``Respond with``. So optimizers of both can be set side by side.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Awaitable, Callable, Mapping, MutableMapping, Sequence
from typing import Any, Final

from ..examples import Example
from ..http.transport import HttpRequest
from ..json_values import json_list, json_object, json_text
from ..modules.prediction import Prediction
from ..signatures.signature import Signature
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
REMARK: Final = "Short texts, each of which has one of two labels."
_SECTION: Final = re.compile(r"^\[\[ ## (\w+) ## \]\]$", re.MULTILINE)
_WANTED: Final = re.compile(r"`(?:\[\[ ## )?(\w+)(?: ## \]\])?`")
_CHARACTERS_A_TOKEN: Final = 4


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
    new = [each for each in PROPOSALS if each not in prompt] or PROPOSALS
    found = [each for each in new if KEYWORD in each] if CLUE in prompt else []
    return (found or new)[_number("proposal", prompt) % len(found or new)]


def write(prompt: str) -> str:
    """What the simulated model says to a prompt of plain text: instructions if it is to put them between backticks."""
    return f"Here they are:\n```\n{propose(prompt)}\n```" if "(```)" in prompt else REMARK


def judge(example: Example, prediction: Prediction) -> tuple[float, str]:
    """The metric: whether the label is the true one; of a wrong one the feedback holds the clue."""
    right = prediction["label"] == example["label"]
    return (1.0, "") if right else (0.0, f"The label is {example['label']}: {CLUE}.")


class SimulatedProvider(ScriptedProvider):
    """The simulated model in place of the network below a provider actor, for modules with the chat adapter."""

    def _find(self, request: HttpRequest) -> tuple[Rule, Mapping[str, Any]]:
        body = json_object(json.loads(request.body))
        self.requests.append(body)
        return Rule(reply(body)), body


def reply(body: Mapping[str, Any]) -> str:
    """The text that answers an OpenAI chat completions request."""
    messages = _messages(body)
    *shown, (_, question) = messages
    request = question.rpartition("Respond with ")[2] if "Respond with " in question else ""
    prompt = "\n".join(text for _, text in messages)
    wanted = [name for name in _WANTED.findall(request) if name != "completed"]
    if not wanted:
        return write(prompt)
    fields = {name: propose(prompt) if "instruction" in name else REMARK for name in wanted}
    if "label" in wanted:
        instructions = "\n".join(text for role, text in shown if role == "system")
        fields["label"] = classify(_sections(question)["text"], instructions, _demos(shown))
    return json.dumps(fields) if "JSON" in request else marked(fields)


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
            if message["type"] == "http.disconnect":
                return
            content += message.get("body", b"")
            more = message.get("more_body", False)
        self.calls += 1
        answer = completion(json_object(json.loads(content)), self.calls)
        headers = [(b"content-type", b"application/json")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": json.dumps(answer).encode()})


def completion(body: Mapping[str, Any], number: int = 1) -> dict[str, Any]:
    """The whole chat completion that answers a request."""
    content = reply(body)
    message = {"role": "assistant", "content": content}
    asked, said = _tokens("".join(text for _, text in _messages(body))), _tokens(content)
    return {
        "id": f"simulated-{number}",
        "object": "chat.completion",
        "model": json_text(body.get("model")) or "simulated",
        "choices": [{"index": 0, "message": message, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": asked, "completion_tokens": said, "total_tokens": asked + said},
    }


def _messages(body: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Role and text of each message."""
    messages = [json_object(message) for message in json_list(body.get("messages"))]
    return [(json_text(message.get("role")), json_text(message.get("content"))) for message in messages]


def _demos(messages: Sequence[tuple[str, str]]) -> list[dict[str, str]]:
    """The worked examples: a question and its answer each."""
    questions = [_sections(text) for role, text in messages if role == "user"]
    answers = [_sections(text) for role, text in messages if role == "assistant"]
    return [question | answer for question, answer in zip(questions, answers, strict=True)]


def _tokens(text: str) -> int:
    """About as many as a real model would count in English."""
    return len(text) // _CHARACTERS_A_TOKEN + 1


def _sections(text: str) -> dict[str, str]:
    """The marked sections of a message."""
    parts = _SECTION.split(text)
    return {name: body.split("\n\n")[0].strip() for name, body in zip(parts[1::2], parts[2::2], strict=True)}


def _number(kind: str, text: str) -> int:
    return int.from_bytes(hashlib.sha256(f"{kind}:{text}".encode()).digest()[:4])
