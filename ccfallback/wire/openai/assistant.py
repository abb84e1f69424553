"""What an assistant message of the history says beyond text and calls.

Server tools ran at Anthropic, and nobody else can answer for them: their calls and results go
on as words. Thinking goes on only where a provider wants it back.
"""

from collections.abc import Callable, Mapping
from typing import Any, Final

import msgspec

from ccfallback.messages.thinking import envelope_of
from ccfallback.wire.openai.content import Block, blocks_of, said

_RESULT: Final = "_tool_result"


def summary_of(block: Block) -> str:
    """A server tool's call or result in words; empty for any other block."""
    kind = block.get("type")
    if not isinstance(kind, str):
        return ""
    describe = _CALLS.get(kind)
    if describe is not None:
        return describe(block)
    return _result(kind.removesuffix(_RESULT), block) if kind.endswith(_RESULT) else ""


def thinking_of(block: Block) -> str:
    """The text of a thinking block; empty where it was left out or is for nobody to read."""
    return said(block.get("thinking")) if block.get("type") == "thinking" else ""


def details_of(block: Block) -> list[Any]:
    """What OpenRouter gave along with a thinking block of ours, and wants back unchanged."""
    envelope = envelope_of(block.get("signature")) or {}
    details = envelope.get("reasoning_details")
    return details if isinstance(details, list) else []


def arguments_of(value: object) -> str:
    """A call's input as the other format has it: JSON in a string."""
    return msgspec.json.encode(value).decode() if isinstance(value, dict) else "{}"


def _server_call(block: Block) -> str:
    return _call(said(block.get("name")), block)


def _mcp_call(block: Block) -> str:
    names = (said(block.get("server_name")), said(block.get("name")))
    return _call(".".join(filter(None, names)), block)


_CALLS: Final[Mapping[str, Callable[[Block], str]]] = {
    "server_tool_use": _server_call,
    "mcp_tool_use": _mcp_call,
}


def _call(name: str, block: Block) -> str:
    given = block.get("input")
    asked = given if isinstance(given, dict) else {}
    brief = said(asked.get("query")) or said(asked.get("url"))
    told = f'"{brief}"' if brief else arguments_of(asked) if asked else ""
    return f"[{' '.join(filter(None, (name or 'tool', told)))}]"


def _result(name: str, block: Block) -> str:
    lines = [line for item in _items(block.get("content")) for line in _lines(item)]
    return "\n".join([f"[{name} result]", *lines])


def _items(content: object) -> list[Block]:
    return [content] if isinstance(content, dict) else blocks_of(content)


def _lines(item: Mapping[str, Any]) -> list[str]:
    """What is readable in one result: a page found, a text, the output of a program."""
    title, url = said(item.get("title")), said(item.get("url"))
    found = [f"- {title} ({url})" if title and url else f"- {title or url}"] if title or url else []
    return found + [said(item[key]) for key in _READABLE if said(item.get(key))]


_READABLE: Final = ("text", "stdout", "stderr", "error_code")
