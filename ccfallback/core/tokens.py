"""A token count without a tokenizer, a little on the high side: too low makes clients overflow."""

from typing import Any, Final

import msgspec

from ccfallback.core.body import Body

BYTES_A_TOKEN: Final = 3.4
TOOL_BYTES_A_TOKEN: Final = 3.0
TOOLS_AT_ALL: Final = 350
"""Tokens of the instructions that come with tools, once."""
PER_MESSAGE: Final = 4
IMAGE: Final = 1600
"""Tokens of an image of unknown size."""
DOCUMENT_BYTES_A_TOKEN: Final = 50

_ENCODED: Final = frozenset({"signature", "data", "encrypted_content", "cache_control"})
"""Members that are no text for the model."""


def estimate(body: Body) -> int:
    """About how many tokens the prompt in a Messages body has; at least 1."""
    total = _content(body.get("system"))
    tools = body.get("tools")
    if isinstance(tools, list) and tools:
        total += TOOLS_AT_ALL + len(msgspec.json.encode(tools)) / TOOL_BYTES_A_TOKEN
    messages = body.get("messages")
    for message in messages if isinstance(messages, list) else []:
        if isinstance(message, dict):
            total += PER_MESSAGE + _content(message.get("content"))
    return max(1, round(total))


def _content(value: Any) -> float:
    """Tokens of a text, of a block, or of a list of either."""
    if isinstance(value, str):
        return _text(value)
    if isinstance(value, list):
        return sum(_content(item) for item in value)
    if not isinstance(value, dict):
        return 0.0
    match value.get("type"):
        case "image":
            return IMAGE
        case "document":
            return _document(value)
        case "tool_use" | "server_tool_use":
            return _text(str(value.get("name"))) + len(
                msgspec.json.encode(value.get("input"))
            ) / BYTES_A_TOKEN  # fmt: skip
        case _:
            return sum(_content(item) for key, item in value.items() if key not in _ENCODED)


def _document(block: dict[str, Any]) -> float:
    source = block.get("source")
    if not isinstance(source, dict):
        return 0.0
    if source.get("type") == "base64":
        return len(str(source.get("data"))) / DOCUMENT_BYTES_A_TOKEN
    return _content(source.get("data")) + _content(source.get("content"))


def _text(text: str) -> float:
    """Latin text by its bytes; other scripts are denser."""
    size = len(text.encode("utf-8", "replace"))
    if size == len(text):
        return size / BYTES_A_TOKEN
    latin = sum(1 for letter in text if letter < "\x80")
    ideographs = sum(1 for letter in text if letter >= "\u2e80")
    other = size - latin - sum(len(c.encode("utf-8", "replace")) for c in text if c >= "\u2e80")
    return latin / BYTES_A_TOKEN + ideographs + other / 2.5
