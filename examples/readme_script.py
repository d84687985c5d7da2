"""The scripts of the README, against a server that it starts itself: plain, awaited, and streamed.

python examples/readme_script.py
"""

import asyncio
import re
from pathlib import Path

from local_server import provider_settings

import dspex

README = Path(__file__).parent.parent / "README.md"
PLACEHOLDER = 'kind="openai", base_url="http://127.0.0.1:8080/v1", default_model="some-model"'


def main() -> None:
    script, awaited, streamed = re.findall(r"```python\n(.*?)```", README.read_text("utf-8"), re.DOTALL)[:3]
    with provider_settings() as (who, settings):
        print(who)
        arguments = ", ".join(f"{name}={value!r}" for name, value in settings.items())
        run = compile(script.replace(PLACEHOLDER, arguments), "README.md", "exec")
        exec(run, {"__name__": "readme"})  # noqa: S102 - the README's own script
        body = "\n".join("    " + line for line in awaited.replace(PLACEHOLDER, arguments).splitlines())
        scope: dict[str, object] = {}
        exec(f"import dspex\nasync def awaited():\n{body}\n", scope)  # noqa: S102 - the same
        asyncio.run(scope["awaited"]())  # type: ignore[operator]
        run = compile(streamed.replace(PLACEHOLDER, arguments), "README.md", "exec")
        exec(run, {"__name__": "readme", "dspex": dspex})  # noqa: S102 - the same


if __name__ == "__main__":
    main()
