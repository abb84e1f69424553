"""A token count without a tokenizer, a little on the high side: too low makes clients overflow."""

from math import ceil
from typing import Any, Final

import msgspec

from ccfallback.messages.body import Body
from ccfallback.messages.images import size_of

BYTES_A_TOKEN: Final = 3.1
TOOL_BYTES_A_TOKEN: Final = 2.8
TOOLS_AT_ALL: Final = 350
"""Tokens of the instructions that come with tools, once."""
PER_MESSAGE: Final = 4
LONGEST_EDGE: Final = 2576
"""Pixels to which the newest models scale an image down."""
LARGEST_IMAGE: Final = 4784
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
    """Tokens of a text, of a block, or of a list of either, however deep they are nested."""
    total = 0.0
    waiting = [value]
    while waiting:
        match waiting.pop():
            case str(text):
                total += _text(text)
            case list(items):
                waiting.extend(items)
            case {"type": "image", **block}:
                total += _image(block.get("source"))
            case {"type": "document", "source": {"type": "base64", **source}}:
                total += len(str(source.get("data"))) / DOCUMENT_BYTES_A_TOKEN
            case {"type": "document", **block}:
                if isinstance(inner := block.get("source"), dict):
                    waiting += [inner.get("data"), inner.get("content")]
            case {"type": "tool_use" | "server_tool_use", **block}:
                arguments = msgspec.json.encode(block.get("input"))
                total += _text(str(block.get("name"))) + len(arguments) / BYTES_A_TOKEN
            case dict(block):
                waiting.extend(item for key, item in block.items() if key not in _ENCODED)
            case _:
                pass
    return total


def _image(source: Any) -> float:
    """Tokens of an image: one for each square of 28 pixels, after it was scaled down to fit."""
    data = source.get("data") if isinstance(source, dict) else None
    size = size_of(data) if isinstance(data, str) else None
    if size is None:
        return IMAGE
    scale = min(1.0, LONGEST_EDGE / max(1, *size))
    columns, rows = (ceil(edge * scale / 28) for edge in size)
    return min(max(1, columns * rows), LARGEST_IMAGE)


def _text(text: str) -> float:
    """Latin text by its bytes; other scripts are denser."""
    size = len(text.encode("utf-8", "replace"))
    if size == len(text):
        return size / BYTES_A_TOKEN
    latin = sum(1 for letter in text if letter < "\x80")
    ideographs = sum(1 for letter in text if letter >= "\u2e80")
    other = size - latin - sum(len(c.encode("utf-8", "replace")) for c in text if c >= "\u2e80")
    return latin / BYTES_A_TOKEN + ideographs + other / 2.5
