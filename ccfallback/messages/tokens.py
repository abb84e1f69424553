"""Token counts: what an answer reports, and an estimate for a request without a tokenizer.

The estimate errs a little on the high side: if it is too low, the client overflows the context.
"""

import re
from base64 import b64decode
from dataclasses import dataclass
from math import ceil
from typing import Any, Final

import msgspec

from ccfallback.messages.body import Body
from ccfallback.messages.media import image_size

MOST_TOKENS: Final = 2**53
"""A count is below this, so that every reader of JSON reads the same number; others are ignored."""

BYTES_A_TOKEN: Final = 3.1
TOOL_BYTES_A_TOKEN: Final = 2.8
TOOLS_AT_ALL: Final = 350
"""Tokens of the instructions that come with tools, whatever their number."""
NEWER_TOOLS_AT_ALL: Final = 550
"""The same for models from 4.5 on."""
FORMAT_AT_ALL: Final = 200
"""Tokens of the instructions that come with a schema for the answer."""
NEWER_DENSITY: Final = 3.1 / 2.65
"""Models from 4.7 on have more tokens for the same text."""
PER_MESSAGE: Final = 4
LONGEST_EDGE: Final = 2576
"""Pixels to which the newest models scale an image down."""
LARGEST_IMAGE: Final = 4784
IMAGE: Final = 1600
"""Tokens of an image of unknown size."""
PAGE: Final = 1600
"""Tokens of a page of a PDF, without its text."""
UNKNOWN_DOCUMENT: Final = 2000
"""Tokens of a PDF whose pages cannot be counted."""
LETTERS_A_TOKEN: Final = 3.3
"""Letters and white space of a text; digits and punctuation have more tokens."""
PUNCTUATION_TOKENS: Final = 0.65
DIGIT_TOKENS: Final = 0.5

_MODEL: Final = re.compile(r"claude-(?:[a-z]+-)?(\d{1,2})(?:[-.](\d{1,2}))?(?!\d)")
_PAGE: Final = re.compile(rb"/Type\s*/Page(?!s)")
_DIGITS: Final = b"0123456789"
_PUNCTUATION: Final = b"!\"#$%&'()*+,-./:;<=>?@[\\]^_`{|}~"

_ENCODED: Final = frozenset({"signature", "data", "encrypted_content", "cache_control"})
"""Members that the model does not read as text."""


@dataclass(slots=True)
class Usage:
    """The token counts of an answer, as Anthropic counts them; `None` means not reported."""

    input_tokens: int | None = None
    output_tokens: int | None = None
    cache_read: int | None = None
    cache_write: int | None = None

    @property
    def prompt_tokens(self) -> int | None:
        """All tokens of the prompt, cached ones included."""
        if self.input_tokens is None:
            return None
        return self.input_tokens + (self.cache_read or 0) + (self.cache_write or 0)

    def take(self, value: object) -> None:
        """Take over the counts of a usage object; a later count replaces an earlier one."""
        if not isinstance(value, dict):
            return
        for name, key in _USAGE_KEYS:
            count = value.get(key)
            if type(count) is int and 0 <= count < MOST_TOKENS:
                setattr(self, name, count)


_USAGE_KEYS: Final = (
    ("input_tokens", "input_tokens"),
    ("output_tokens", "output_tokens"),
    ("cache_read", "cache_read_input_tokens"),
    ("cache_write", "cache_creation_input_tokens"),
)


def estimate(body: Body) -> int:
    """About how many tokens the prompt in a Messages body has; at least 1."""
    version = _version(body.model)
    total = _content(body.get("system"))
    tools = body.get("tools")
    if isinstance(tools, list) and tools:
        total += len(msgspec.json.encode(tools)) / TOOL_BYTES_A_TOKEN
        total += NEWER_TOOLS_AT_ALL if version >= (4, 5) else TOOLS_AT_ALL
    config = body.get("output_config")
    schema = config.get("format") if isinstance(config, dict) else None
    if isinstance(schema := schema or body.get("output_format"), dict):
        total += FORMAT_AT_ALL + len(msgspec.json.encode(schema)) / TOOL_BYTES_A_TOKEN
    messages = body.get("messages")
    for message in messages if isinstance(messages, list) else []:
        if isinstance(message, dict):
            total += PER_MESSAGE + _content(message.get("content"))
    return max(1, round(total * (NEWER_DENSITY if version >= (4, 7) else 1.0)))


def _version(model: str) -> tuple[int, int]:
    """The version of a Claude model; zero if the name does not give one."""
    found = _MODEL.search(model)
    return (int(found[1]), int(found[2] or 0)) if found else (0, 0)


def _content(value: Any) -> float:
    """The tokens of a text, a block, or a list of either, at any depth."""
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
                total += _pages(source.get("data"))
            case {"type": "document", "source": {"type": "url" | "file"}}:
                total += UNKNOWN_DOCUMENT
            case {"type": "document", **block}:
                if isinstance(inner := block.get("source"), dict):
                    waiting += [inner.get("data"), inner.get("content")]
            case {"type": "tool_use" | "server_tool_use", **block}:
                arguments = msgspec.json.encode(block.get("input"))
                total += _text(str(block.get("name"))) + _text(arguments.decode())
            case dict(block):
                waiting.extend(item for key, item in block.items() if key not in _ENCODED)
            case _:
                pass
    return total


def _pages(data: Any) -> float:
    """The tokens of a PDF: each page is an image, and its text comes on top."""
    try:
        raw = b64decode(data) if isinstance(data, str) else b""
    except ValueError:
        raw = b""
    pages = len(_PAGE.findall(raw))
    return pages * PAGE if pages else UNKNOWN_DOCUMENT


def _image(source: Any) -> float:
    """Tokens of an image: one for each square of 28 by 28 pixels, after it is scaled to fit."""
    data = source.get("data") if isinstance(source, dict) else None
    size = image_size(data) if isinstance(data, str) else None
    if size is None:
        return IMAGE
    scale = min(1.0, LONGEST_EDGE / max(1, *size))
    columns, rows = (ceil(edge * scale / 28) for edge in size)
    return min(max(1, columns * rows), LARGEST_IMAGE)


def _text(text: str) -> float:
    """The tokens of a text: by bytes if it is ASCII; other scripts have more tokens a byte."""
    size = len(text.encode("utf-8", "replace"))
    if size == len(text):
        raw = text.encode()
        others = raw.translate(None, _DIGITS)
        digits = size - len(others)
        letters = len(others.translate(None, _PUNCTUATION))
        dense = (
            letters / LETTERS_A_TOKEN
            + (len(others) - letters) * PUNCTUATION_TOKENS
            + digits * DIGIT_TOKENS
        )
        return max(size / BYTES_A_TOKEN, dense)
    latin = sum(1 for letter in text if letter < "\x80")
    ideographs = sum(1 for letter in text if letter >= "\u2e80")
    other = size - latin - sum(len(c.encode("utf-8", "replace")) for c in text if c >= "\u2e80")
    return latin / BYTES_A_TOKEN + ideographs + other / 2.5
