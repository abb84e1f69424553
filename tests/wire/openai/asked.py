"""Helpers for tests of requests: build one, and translate it."""

from typing import Any

import msgspec

from ccfallback.config.quirks import Quirks
from ccfallback.messages.body import Body
from ccfallback.wire.openai.request import to_openai

PLAIN = Quirks()


def asked(quirks: Quirks = PLAIN, model: str = "m", **members: Any) -> Any:
    """The Chat Completions request for a Messages request of these members."""
    return msgspec.json.decode(to_openai(body(**members), quirks, model).raw)


def body(**members: Any) -> Body:
    """A Messages request with something in it."""
    defaults: dict[str, Any] = {"messages": [{"role": "user", "content": "hi"}]}
    return Body.parse(msgspec.json.encode({**defaults, **members}))


def told(*messages: dict[str, Any], quirks: Quirks = PLAIN, **members: Any) -> Any:
    """The messages that a conversation becomes."""
    return asked(quirks, messages=list(messages), **members)["messages"]


def user(*blocks: Any) -> dict[str, Any]:
    """A user message of a text or of blocks."""
    return _message("user", blocks)


def assistant(*blocks: Any) -> dict[str, Any]:
    """An assistant message of a text or of blocks."""
    return _message("assistant", blocks)


def system(*blocks: Any, **members: Any) -> dict[str, Any]:
    """A system message in the midst of a conversation."""
    return {**_message("system", blocks), **members}


def _message(role: str, blocks: tuple[Any, ...]) -> dict[str, Any]:
    is_text = len(blocks) == 1 and isinstance(blocks[0], str)
    return {"role": role, "content": blocks[0] if is_text else list(blocks)}


def text(value: str, **members: Any) -> dict[str, Any]:
    """A text block."""
    return {"type": "text", "text": value, **members}


def call(tool_id: str, name: str = "Bash", **given: Any) -> dict[str, Any]:
    """A call of a tool."""
    return {"type": "tool_use", "id": tool_id, "name": name, "input": given}


def result(tool_id: str, content: Any = None, **members: Any) -> dict[str, Any]:
    """The result of a call; without content where it has none."""
    block = {"type": "tool_result", "tool_use_id": tool_id, **members}
    return block if content is None else {**block, "content": content}


def image(data: str = "AAAA", media: str = "image/png") -> dict[str, Any]:
    """An image in the request itself."""
    return {"type": "image", "source": {"type": "base64", "media_type": media, "data": data}}


def tool(name: str, **members: Any) -> dict[str, Any]:
    """A tool of the client's own."""
    return {"name": name, "input_schema": {"type": "object", "properties": {}}, **members}


def brief(messages: Any) -> list[Any]:
    """Messages at a glance: role, content, and the ids of calls and results."""
    return [
        tuple(
            filter(
                None,
                (
                    message["role"],
                    message["content"],
                    [made["id"] for made in message.get("tool_calls", ())],
                    message.get("tool_call_id"),
                ),
            )
        )
        for message in messages
    ]
