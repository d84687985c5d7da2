"""Tells which tool call a piece of one belongs to, whether the server numbers them or not."""

from __future__ import annotations

from typing import Any

from ..json_values import json_count, json_list, json_object, json_text
from ..lm.stream_collector import Collector
from .answers import compact_json


class ToolFragments:
    """The tool calls of one streamed chat completion.

    Pieces carry an ``index``. Some servers leave it out, and some send whole calls that all have the index 0: then a
    new id, or a name where one is known already, begins the next call.
    """

    def __init__(self) -> None:
        self._ids: list[str] = []  # of each call
        self._named: list[bool] = []
        self._by_index: dict[int, int] = {}  # the server's number: ours

    def add(self, fragment: dict[str, Any], into: Collector) -> None:
        """Add one piece to its call."""
        function = json_object(fragment.get("function"))
        id, name = json_text(fragment.get("id")), json_text(function.get("name"))
        number = self._number(json_count(fragment.get("index")), id, name)
        into.add_tool_call(number, id=id, name=name, arguments=arguments_text(function.get("arguments")))

    def _number(self, index: int | None, id: str, name: str) -> int:
        if index is None:
            number = self._ids.index(id) if id and id in self._ids else len(self._ids) - 1
        else:
            number = self._by_index.get(index, -1)
        if number < 0 or self._begins(number, id, name, numbered=index is not None):
            number = len(self._ids)
            self._ids.append("")
            self._named.append(False)
        if index is not None:
            self._by_index[index] = number
        self._ids[number] = self._ids[number] or id
        self._named[number] = self._named[number] or bool(name)
        return number

    def _begins(self, number: int, id: str, name: str, *, numbered: bool) -> bool:
        """Whether the piece begins another call than the one that its place in the stream says."""
        if not name:
            return False  # even with another id: some servers make one up for each piece
        known = self._ids[number]
        if id and known:
            return id != known
        return self._named[number] and not numbered


def arguments_text(arguments: object) -> str:
    """The JSON text of a call's arguments; some servers send an object instead."""
    if isinstance(arguments, str):
        return arguments
    found = json_object(arguments) or json_list(arguments)
    return compact_json(found) if found or isinstance(arguments, dict) else ""
