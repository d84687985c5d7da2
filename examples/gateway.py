"""The HTTP gateway: OpenAI's own client talks to an application's providers, whole, in pieces, and with an error.

python examples/gateway.py
"""

import importlib.util
import json
import secrets
from typing import Any

import httpx
from local_server import provider_settings

import dspex
from dspex.supervisors.gateway.messages import GatewayStatus

QUESTION: Any = [{"role": "user", "content": "Who wrote Hamlet?"}]


def main() -> None:
    token = secrets.token_urlsafe()
    with provider_settings() as (who, settings):
        print(who)
        config = {
            "events": {"in_memory": True},
            "gateway": {"enabled": True, "port": 0, "token": token},
            "ai": {"providers": {"main": settings}},
        }
        with dspex.start(config=config) as app:
            url = app.call("gateway/http", GatewayStatus()).url
            print(f"the gateway listens at {url}")
            if importlib.util.find_spec("openai"):
                with_openai(url, token)
            else:
                with_httpx(url, token)
            seen = app.events.query(type="lm_response").events
            print(f"the application has noted {len(seen)} answers; health: {app.health().status}")


def with_openai(url: str, token: str) -> None:
    """As a program does that only knows OpenAI."""
    import openai  # noqa: PLC0415 - if it is installed

    with openai.OpenAI(base_url=f"{url}/v1", api_key=token) as client:
        print("models:", [model.id for model in client.models.list()])
        answer = client.chat.completions.create(model="main", messages=QUESTION)
        print("whole: ", answer.choices[0].message.content)
        print("pieces:", end=" ")
        stream: Any = client.chat.completions.create(model="main", messages=QUESTION, stream=True)
        for chunk in stream:
            print(chunk.choices[0].delta.content or "", end="|")
        print()
        try:
            client.chat.completions.create(model="mian", messages=QUESTION)
        except openai.NotFoundError as error:
            print("error: ", error)


def with_httpx(url: str, token: str) -> None:
    """The same without that client."""
    with httpx.Client(base_url=f"{url}/v1", headers={"authorization": f"Bearer {token}"}, timeout=30.0) as client:
        print("models:", [model["id"] for model in client.get("/models").json()["data"]])
        answer = client.post("/chat/completions", json={"model": "main", "messages": QUESTION}).json()
        print("whole: ", answer["choices"][0]["message"]["content"])
        print("pieces:", end=" ")
        body = {"model": "main", "messages": QUESTION, "stream": True}
        with client.stream("POST", "/chat/completions", json=body) as response:
            for line in response.iter_lines():
                if line.startswith("data: {"):
                    print(json.loads(line[6:])["choices"][0]["delta"].get("content") or "", end="|")
        print()
        print("error: ", client.post("/chat/completions", json={"model": "mian", "messages": QUESTION}).text)


if __name__ == "__main__":
    main()
