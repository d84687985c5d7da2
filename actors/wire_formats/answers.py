"""Reading what a provider answers, whole or event by event: JSON, or a typed error that shows no word of it."""

from __future__ import annotations

import json
from typing import Any, Final

from pydantic_core import from_json

from ...runtime.errors import LMError
from ..http.transport import HttpResponse
from ..json_values import json_text
from ..lm.failures import error_from_body, error_object, lm_error
from ..scrub import described

# An event of a stream stands in an answer that began as a success.
IN_STREAM: Final = HttpResponse(200)


def answer_json(response: HttpResponse, secrets: tuple[str, ...]) -> Any:
    """The JSON of a whole answer.

    Raises:
        LMProtocolError: it is something else.
    """
    kind = response.content_type
    if kind and "json" not in kind:
        raise malformed("a JSON answer", described(response.body, kind, secrets), response)
    return _parse(response.body, response)


def event_json(data: str) -> Any:
    """The JSON of one event of a stream.

    Raises:
        LMProtocolError: it is something else.
    """
    return _parse(data, IN_STREAM)


def malformed(expected: str, got: str, response: HttpResponse = IN_STREAM) -> LMError:
    """The error for an answer that is not what the protocol promises. ``got`` must be scrubbed already."""
    facts = {"status": response.status, "request_id": response.request_id}
    return lm_error("protocol", f"expected {expected}, got {got}, in the provider's answer", **facts)


def told_error(body: dict[str, Any], secrets: tuple[str, ...], response: HttpResponse = IN_STREAM) -> LMError:
    """The error for an answer, or an event, that tells of one although the status is a success."""
    return error_from_body(error_object(body), response, secrets=secrets)


def compact_json(value: object) -> str:
    """The JSON text of a value out of an answer.

    Raises:
        LMProtocolError: it is nested too deep to be written.
    """
    try:
        return json_text(json.dumps(value, ensure_ascii=False, separators=(",", ":")))
    except RecursionError:
        raise malformed("JSON of sensible depth", "nesting too deep") from None


def _parse(text: str | bytes, response: HttpResponse) -> Any:
    try:
        return from_json(text)
    except ValueError:
        pass  # nested deep, of half a surrogate pair, in UTF-16...: the slower reader knows more, or what is wrong
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        why = "nesting too deep" if isinstance(error, RecursionError) else type(error).__name__
    raise malformed("JSON", f"what is none ({why}): {described(text)}", response)
