"""A Messages request as a Chat Completions request.

The same body always gives the same bytes, because a provider's prompt cache depends on that.
Nothing is kept between two requests: what the answer needs is read off the client's body again.
"""

import re
from collections.abc import Callable
from hashlib import sha256
from typing import Any, Final

import msgspec

from ccfallback.config.quirks import Quirks
from ccfallback.messages.body import Body
from ccfallback.messages.output_format import SCHEMA_IN_WORDS, answer_schema
from ccfallback.messages.system import without_billing
from ccfallback.messages.tools import ToolNames, is_server_tool
from ccfallback.messages.turns import blocks_of, kind_of, objects_in, string
from ccfallback.wire.format import Unconvertible
from ccfallback.wire.openai import history, reasoning, tools
from ccfallback.wire.openai.history import Message, Part, is_text, text_part


def to_openai(body: Body, quirks: Quirks, model: str) -> Body:
    """The body for `/chat/completions` that asks `model` what the client asks.

    Raises `Unconvertible`.
    """
    _check(body)
    try:
        members = _members(body, quirks, model)
        return Body.parse(msgspec.json.encode(members))
    except RecursionError:
        raise Unconvertible("it is nested too deeply") from None


LEAST_OF_REASONING: Final = 16
"""The smallest limit for OpenAI's reasoning models, which refuse a limit of one token."""

_READ: Final = frozenset(
    {
        *("model", "messages", "system", "max_tokens", "stream", "stop_sequences", "metadata"),
        *("temperature", "top_p", "top_k", "tools", "tool_choice", "thinking"),
        *("output_config", "output_format", "cache_control"),
    }
)
"""Members that are translated, or mean nothing to another provider."""

_READ_OF_TOOL: Final = frozenset(
    {
        *("type", "name", "description", "input_schema", "strict", "defer_loading"),
        *("cache_control", "eager_input_streaming"),
        # The size of a screen
        *("display_width_px", "display_height_px"),
    }
)


def omitted_parts(body: Body) -> tuple[str, ...]:
    """What a request for another provider lacks: members, tools, and members of tools."""
    offered = {tool["name"] for tool in tools.client_tools(body)}
    given = objects_in(body.get("tools"))
    lost = [f"tools.{kind}" for tool in given if is_server_tool(tool) and (kind := kind_of(tool))]
    known = [tool for tool in given if string(tool, "name") in offered]
    lost += [f"tools.*.{key}" for tool in known for key in tool if key not in _READ_OF_TOOL]
    names = [*(name for name in body.names if name not in _READ), *lost]
    return tuple(dict.fromkeys(filter(_PLAIN_NAME.fullmatch, names)))[:_MOST]


_PLAIN_NAME: Final = re.compile(r"[\w.*-]{1,64}")
"""A name that a log may hold."""
_MOST: Final = 32


def _check(body: Body) -> None:
    """Refuse a request that another model would answer wrongly."""
    compaction, thread = body.get("compaction"), body.get("thread")
    if isinstance(compaction, dict) and compaction.get("type") == "summarize":
        raise Unconvertible("it asks for a compaction, which only Anthropic makes")
    if isinstance(thread, dict) and thread.get("type") == "continue":
        raise Unconvertible("its conversation is kept at Anthropic")


def _members(body: Body, quirks: Quirks, model: str) -> dict[str, Any]:
    offered = tools.client_tools(body)
    if tools.forces_server_tool(body, offered):
        raise Unconvertible("it demands a tool that only Anthropic runs")
    names = ToolNames.of(body)
    messages = history.to_messages(body.get("messages"), quirks, names)
    if not messages:
        raise Unconvertible("no message of it can be sent")
    thinking = reasoning.ThinkingRequest.of(body)
    max_tokens = _max_tokens(body.get("max_tokens"), quirks, model)
    schema = answer_schema(body)
    members: dict[str, Any] = {
        "model": model,
        "messages": _with_system(_system_parts(body, schema, quirks), messages, quirks),
    }
    if max_tokens:
        members[_max_tokens_field(quirks, model)] = max_tokens
    if body.stream:
        members["stream"] = True
        if quirks.stream_usage:
            members["stream_options"] = {"include_usage": True}
    members |= _sampling(body, quirks, model, thinks=thinking.thinks)
    members |= reasoning.reasoning_members(
        thinking, quirks, model, has_tools=bool(offered), max_tokens=max_tokens
    )
    members |= _response_format(schema, quirks)
    if offered:
        members["tools"] = tools.functions(offered, names, quirks)
        members |= tools.choice_members(body.get("tool_choice"), offered, names, quirks)
    if quirks.user_field:
        members |= _user(body.get("metadata"))
    return {**members, **quirks.extra_body}


def _with_system(parts: list[Part], messages: list[Message], quirks: Quirks) -> list[Message]:
    """The messages with the system prompt before them."""
    if not parts:
        return messages
    if quirks.system_role != "user":
        return [
            {"role": quirks.system_role, "content": history.to_content(parts, joined=True)},
            *messages,
        ]
    first, rest = messages[0], messages[1:]
    if first["role"] != "user":
        first, rest = {"content": []}, messages
    content = first["content"]
    parts = [*parts, *([text_part(content)] if isinstance(content, str) else content)]
    return [
        {"role": "user", "content": history.to_content(parts, joined=quirks.string_content)},
        *rest,
    ]


def _system_parts(body: Body, schema: dict[str, Any] | None, quirks: Quirks) -> list[Part]:
    blocks = blocks_of(without_billing(body).get("system"))
    parts = [part for part in history.to_parts(blocks, quirks) if is_text(part)]
    if schema is not None and quirks.response_format != "json_schema":
        parts.append(text_part(SCHEMA_IN_WORDS + msgspec.json.encode(schema).decode()))
    return parts


def _max_tokens(wanted: object, quirks: Quirks, model: str) -> int:
    """The limit of the answer's tokens; zero if there is none."""
    if not isinstance(wanted, int) or isinstance(wanted, bool):
        return 0
    # With a limit of zero the client only warms the cache, and with one of a single token it asks
    # whether it is served; other providers refuse that.
    wanted = max(wanted, LEAST_OF_REASONING if reasoning.is_openai_reasoning(model) else 1)
    return min(wanted, quirks.max_output_tokens) if quirks.max_output_tokens else wanted


def _max_tokens_field(quirks: Quirks, model: str) -> str:
    if quirks.max_tokens_field != "auto":
        return quirks.max_tokens_field
    return "max_completion_tokens" if reasoning.is_openai_reasoning(model) else "max_tokens"


def _sampling(body: Body, quirks: Quirks, model: str, *, thinks: bool) -> dict[str, Any]:
    """The members that steer the choice of words and end the answer."""
    if reasoning.is_openai_reasoning(model):
        return {}
    given = body.get("stop_sequences")
    stops = [
        text
        for text in (given if isinstance(given, list) else ())
        if isinstance(text, str) and text.strip()
    ]
    members: dict[str, Any] = {}
    if stops and quirks.stop_limit:
        members["stop"] = stops[: quirks.stop_limit]
    for key, is_sent in _STEERING:
        if is_sent(quirks) and not thinks and _is_number(body.get(key)):
            members[key] = body.get(key)
    return members


_STEERING: Final[tuple[tuple[str, Callable[[Quirks], bool]], ...]] = (
    ("temperature", lambda quirks: quirks.sampling),
    ("top_p", lambda quirks: quirks.sampling),
    ("top_k", lambda quirks: quirks.top_k),
)


def _response_format(schema: dict[str, Any] | None, quirks: Quirks) -> dict[str, Any]:
    if schema is None or quirks.response_format == "prompt":
        return {}
    if quirks.response_format == "json_object":
        return {"response_format": {"type": "json_object"}}
    wanted: dict[str, Any] = {"name": "output", "schema": schema}
    is_object = schema.get("type") == "object" and "anyOf" not in schema
    if quirks.strict_schema and is_object and tools.is_strict(schema):
        wanted["strict"] = True
    return {"response_format": {"type": "json_schema", "json_schema": wanted}}


def _user(metadata: object) -> dict[str, Any]:
    """A pseudonym for the user's id, which names a device and an account, and is too long."""
    user_id = metadata.get("user_id") if isinstance(metadata, dict) else None
    if not isinstance(user_id, str) or not user_id:
        return {}
    return {"user": f"user_{sha256(user_id.encode()).hexdigest()[:32]}"}


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
