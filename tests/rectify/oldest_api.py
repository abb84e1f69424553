"""Upstreams that know only the oldest Messages API, or the oldest Chat Completions with tools."""

from collections.abc import Iterator, Mapping
from typing import Any

from tests.rectify.validity import faults

_MESSAGES = {
    *("model", "messages", "system", "max_tokens", "stream", "tools", "tool_choice"),
    *("stop_sequences", "temperature", "top_p", "top_k", "metadata"),
}
_BLOCKS = {
    "text": {"type", "text"},
    "image": {"type", "source"},
    "tool_use": {"type", "id", "name", "input"},
    "tool_result": {"type", "tool_use_id", "content", "is_error"},
}
_SCHEMA = {"type", "properties", "required", "items", "enum", "description"}
_TYPES = {"object", "array", "string", "number", "integer", "boolean", "null"}
_MOST_TOOLS = 128
_LONGEST = 1024

_COMPLETIONS = {
    *("model", "messages", "max_tokens", "stream", "tools", "tool_choice", "stop"),
    *("temperature", "top_p"),
}


def messages_faults(body: Mapping[str, Any], betas: tuple[str, ...] = ()) -> list[str]:
    """What the oldest Messages API refuses in a request."""
    return [*_messages_faults(body, betas), *faults(body, alternating=True)]


def _messages_faults(body: Mapping[str, Any], betas: tuple[str, ...]) -> Iterator[str]:
    yield from (f"beta {beta}" for beta in betas)
    yield from (f"{name}: unknown member" for name in body.keys() - _MESSAGES)
    system = body.get("system", "")
    for block in system if isinstance(system, list) else []:
        yield from _block_faults(block, {"text"})
    for message in body["messages"]:
        yield from (f"messages.{name}: unknown member" for name in message.keys() - _CONTENT)
        content = message["content"]
        for block in content if isinstance(content, list) else []:
            yield from _block_faults(block, set(_BLOCKS))
    if body.get("tool_choice", {}).keys() - {"type", "name"}:
        yield "tool_choice has other members"
    if "tools" in body and not body["tools"]:
        yield "no tools"
    for tool in body.get("tools", []):
        yield from (f"tools.{name}: unknown" for name in tool.keys() - _TOOL)
        yield from _tool_faults(tool.get("description", ""), tool.get("input_schema"))
    if len(body.get("tools", [])) > _MOST_TOOLS:
        yield "too many tools"


_CONTENT = {"role", "content"}
_TOOL = {"name", "description", "input_schema"}


def _block_faults(block: Mapping[str, Any], kinds: set[str]) -> Iterator[str]:
    kind = block["type"]
    if kind not in kinds:
        yield f"block of type {kind}"
        return
    yield from (f"{kind}.{name}: unknown member" for name in block.keys() - _BLOCKS[kind])
    if kind == "tool_result" and not isinstance(block["content"], str):
        yield "a result that is not text"


def _tool_faults(description: str, schema: Any) -> Iterator[str]:
    if len(description) > _LONGEST:
        yield "a long description"
    if not isinstance(schema, dict) or schema.get("type") != "object":
        yield "a schema that is not an object"
        return
    yield from _schema_faults(schema)


def _schema_faults(schema: Any) -> Iterator[str]:
    if not isinstance(schema, dict) or schema.get("type") not in _TYPES:
        yield f"a schema without one type: {schema}"
        return
    yield from (f"keyword {name}" for name in schema.keys() - _SCHEMA)
    if len(schema.get("description", "")) > _LONGEST:
        yield "a long description"
    if schema["type"] == "array" and "items" not in schema:
        yield "an array without items"
    inner = [*schema.get("properties", {}).values()]
    for each in [*inner, schema["items"]] if "items" in schema else inner:
        yield from _schema_faults(each)


def completions_faults(body: Mapping[str, Any]) -> list[str]:
    """What the oldest Chat Completions API with tools refuses in a request."""
    return list(_completions_faults(body))


def _completions_faults(body: Mapping[str, Any]) -> Iterator[str]:
    yield from (f"{name}: unknown member" for name in body.keys() - _COMPLETIONS)
    waiting: list[str] = []
    for index, message in enumerate(body["messages"]):
        role, content = message["role"], message.get("content")
        if role == "system" and index:
            yield "a system message that is not the first"
        if not isinstance(content, str):
            yield f"{role} with content {content!r}"
        if role != "assistant" and not content:
            yield f"{role} says nothing"
        yield from (f"{role}.{name}: unknown member" for name in message.keys() - _SAID[role])
        if role == "tool":
            if message["tool_call_id"] not in waiting:
                yield "a result without a call"
            else:
                waiting.remove(message["tool_call_id"])
        elif waiting:
            yield "calls without results"
        waiting += [call["id"] for call in message.get("tool_calls", [])]
    if waiting:
        yield "calls at the end"
    tools = body.get("tools", [])
    if len(tools) > _MOST_TOOLS or ("tools" in body and not tools):
        yield f"{len(tools)} tools"
    for tool in tools:
        function = tool["function"]
        if tool.keys() != {"type", "function"} or function.keys() - _FUNCTION:
            yield f"tool of {tool.keys()} and {function.keys()}"
        yield from _tool_faults(function.get("description", ""), function["parameters"])


_FUNCTION = {"name", "description", "parameters"}
_SAID = {
    "system": {"role", "content"},
    "user": {"role", "content"},
    "assistant": {"role", "content", "tool_calls"},
    "tool": {"role", "content", "tool_call_id"},
}
