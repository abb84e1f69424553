"""What the API finds wrong with a Messages body, as far as its structure goes.

Stricter than the API where providers are: turns are not merged, so a call's results have to be in
the very next message.
"""

import re
from collections.abc import Iterator, Mapping
from itertools import pairwise
from typing import Any

TOOL_ID = re.compile(r"[a-zA-Z0-9_-]+")
SERVER_TOOL_ID = re.compile(r"srvtoolu_[a-zA-Z0-9_]+")
TOOL_NAME = re.compile(r"[a-zA-Z0-9_-]{1,64}")
UNMARKABLE = frozenset({"thinking", "redacted_thinking"})
COMBINATORS = ("oneOf", "anyOf", "allOf")
MOST_MARKS = 4


def faults(
    body: Mapping[str, Any], *, alternating: bool = False, prefill: bool = True
) -> list[str]:
    """Every fault of a body, with its place; none in one that the API takes."""
    messages = body["messages"]
    found = [*_order(messages), *_tools(body, messages), *_marks(body)]
    for index, message in enumerate(messages):
        found += [f"{index}: {fault}" for fault in _message(message, index == len(messages) - 1)]
        found += [f"{index}: {fault}" for fault in _answers(messages, index)]
    found += _ids(messages)
    found += _server_tools(messages)
    if alternating:
        roles = [message["role"] for message in messages]
        found += [f"{role} twice in a row" for role, then in pairwise(roles) if role == then]
        found += ["a system message"] * ("system" in roles)
    spoken = [message["role"] for message in messages if message["role"] != "system"]
    if not prefill and spoken and spoken[-1] == "assistant":
        found.append("ends with the assistant")
    return found


def blocks_of(value: Mapping[str, Any]) -> list[Any]:
    content = value.get("content")
    if isinstance(content, str):
        return [{"type": "text", "text": content}]
    return content if isinstance(content, list) else []


def of_kind(value: Mapping[str, Any], kind: str) -> list[Any]:
    return [block for block in blocks_of(value) if block["type"] == kind]


def marked(items: Any) -> Iterator[Mapping[str, Any]]:
    """The blocks that carry a cache mark."""
    for item in items if isinstance(items, list) else ():
        if item.get("cache_control"):
            yield item
        if "role" in item or item.get("type") == "tool_result":
            yield from marked(item.get("content"))


def _order(messages: list[Any]) -> Iterator[str]:
    if not messages:
        yield "no messages"
        return
    if messages[0]["role"] != "user":
        yield f"first message of {messages[0]['role']}"
    for index, (before, message) in enumerate(pairwise(messages), 1):
        after = messages[index + 1] if index + 1 < len(messages) else None
        if message["role"] != "system":
            continue
        if of_kind(before, "tool_use"):
            yield f"{index}: a system message between a call and its result"
        if after and after["role"] == "user":
            yield f"{index}: a system message before the user"


def _message(message: Mapping[str, Any], is_last: bool) -> Iterator[str]:
    role = message["role"]
    if role not in ("user", "assistant", "system"):
        yield f"role {role}"
    blocks = blocks_of(message)
    if not blocks and not (role == "system" and message.get("output_config")):
        yield "empty"
    for block in blocks:
        kind = block["type"]
        yield from _texts(block)
        if kind == "tool_use" and role != "assistant":
            yield "a call in a message that is not the assistant's"
        if kind == "tool_result" and role != "user":
            yield "a result in a message that is not the user's"
        if kind in UNMARKABLE and block.get("cache_control"):
            yield f"a mark on {kind}"
    if role == "assistant" and is_last and blocks and blocks[-1]["type"] == "text":
        text = blocks[-1]["text"]
        if text != text.rstrip():
            yield "ends with space"


def _texts(block: Mapping[str, Any]) -> Iterator[str]:
    if block["type"] == "text" and not block["text"].strip():
        yield "empty text"
    if block["type"] == "tool_result" and isinstance(block.get("content"), list):
        for inner in block["content"]:
            yield from _texts(inner)


def _answers(messages: list[Any], index: int) -> Iterator[str]:
    message = messages[index]
    results = of_kind(message, "tool_result")
    if blocks_of(message)[: len(results)] != results:
        yield "results are not first"
    before = messages[index - 1] if index else {}
    asked = [block["id"] for block in of_kind(before, "tool_use")]
    given = [block["tool_use_id"] for block in results]
    if sorted(asked) != sorted(given):
        yield f"asked {asked}, given {given}"
    if of_kind(message, "tool_use") and index == len(messages) - 1:
        yield "a call at the end"


def _ids(messages: list[Any]) -> Iterator[str]:
    ids = [block["id"] for message in messages for block in of_kind(message, "tool_use")]
    yield from (f"id {tool_id!r}" for tool_id in ids if not TOOL_ID.fullmatch(tool_id))
    if len(set(ids)) != len(ids):
        yield f"ids twice: {ids}"


def _server_tools(messages: list[Any]) -> Iterator[str]:
    for message in messages:
        waiting: set[str] = set()
        for block in blocks_of(message):
            if block["type"] == "server_tool_use":
                waiting.add(block["id"])
                if not SERVER_TOOL_ID.fullmatch(block["id"]):
                    yield f"server tool id {block['id']!r}"
            elif block["type"].endswith("_tool_result"):
                if block["tool_use_id"] not in waiting:
                    yield f"a result of no server tool: {block['tool_use_id']}"
                waiting.discard(block["tool_use_id"])
        if waiting:
            yield f"server tools without result: {waiting}"


def _tools(body: Mapping[str, Any], messages: list[Any]) -> Iterator[str]:
    tools = body.get("tools") or []
    names = [tool["name"] for tool in tools if "name" in tool]
    if len(set(names)) != len(names):
        yield f"tools twice: {names}"
    yield from (f"tool name {name!r}" for name in names if not TOOL_NAME.fullmatch(name))
    for tool in tools:
        schema = tool.get("input_schema")
        if tool.get("type", "custom") != "custom":
            continue
        if not isinstance(schema, dict) or schema.get("type") != "object":
            yield f"schema of {tool.get('name')} is not an object"
        elif any(key in schema for key in COMBINATORS):
            yield f"schema of {tool.get('name')} has combinators"
    called = any(
        of_kind(message, kind) for message in messages for kind in ("tool_use", "tool_result")
    )
    if called and not tools:
        yield "calls without tools"


def _marks(body: Mapping[str, Any]) -> Iterator[str]:
    marks = [body["cache_control"]] if body.get("cache_control") else []
    for member in ("tools", "system", "messages"):
        marks += [block["cache_control"] for block in marked(body.get(member))]
    if len(marks) > MOST_MARKS:
        yield f"{len(marks)} cache marks"
    lifetimes = [mark.get("ttl", "5m") for mark in marks]
    if sorted(lifetimes) != lifetimes:
        yield f"cache lifetimes in the order {lifetimes}"
