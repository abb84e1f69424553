"""Token counts: what an answer reports, and an estimate for a request without a tokenizer.

The estimate errs a little on the high side: if it is too low, the client overflows the context.
"""

import re
from base64 import b64decode
from math import ceil
from string import ascii_letters, digits
from typing import Any, Final, TypeGuard

import msgspec

from ccfallback.messages.body import Body
from ccfallback.messages.media import image_size
from ccfallback.messages.pdf import Allowance, read_pdf
from ccfallback.messages.tools import called_names, is_custom
from ccfallback.messages.turns import kind_of, string

MOST_TOKENS: Final = 2**53
"""A count is below this, so that every reader of JSON reads the same number."""


def is_token_count(value: object) -> TypeGuard[int]:
    """Whether a decoded JSON value is a number of tokens."""
    return type(value) is int and 0 <= value < MOST_TOKENS


BYTES_A_TOKEN: Final = 3.7
"""Roughly, for a text that is not looked at."""

NEWER_DENSITY: Final = 1.3
"""Models from 4.7 on have more tokens for the same text, as Anthropic's documentation says."""
REQUEST: Final = 2
PER_MESSAGE: Final = 4
TOOL_USE: Final = 28
"""Tokens around a call's name and input."""
TOOL_RESULT: Final = 14
TOOLS_AT_ALL: Final[tuple[tuple[tuple[int, int], int, int], ...]] = (
    ((5, 0), 354, 474),
    ((4, 8), 290, 410),
    ((4, 7), 675, 804),
    ((4, 5), 497, 589),
    ((4, 0), 313, 315),
    ((0, 0), 346, 313),
)
"""(from this version on, tokens of the instructions that come with tools, and where the model has
to call one): as Anthropic's documentation of tool use says."""
FORMAT_AT_ALL: Final = 130
"""Tokens of the instructions that come with a schema for the answer."""
DEFINED_TOOLS: Final = {"bash_": 230, "text_editor_": 740, "memory_": 1060, "computer_": 740}
"""Tokens of tools that Anthropic defines, by the start of their type."""
LONGEST_EDGE: Final = 2576
"""Pixels to which the newest models scale an image down."""
LARGEST_IMAGE: Final = 4784
IMAGE: Final = 1600
"""Tokens of an image of unknown size."""
PAGE: Final = 1600
"""Tokens of a page of a PDF as an image; its text comes on top."""
TEXT_OF_PAGE: Final = 700
"""Tokens of a page's text that cannot be read. Anthropic's documentation says 1,500 to 3,000 a
page, by how dense it is."""
LETTERS_A_TOKEN: Final = 4
UNKNOWN_DOCUMENT: Final = 2000
"""Tokens of a PDF whose pages cannot be counted."""

_MODEL: Final = re.compile(r"claude-(?:[a-z]+-)?(\d{1,2})(?:[-.](\d{1,2}))?(?!\d)")


def _all_but(shown: bytes) -> bytes:
    """A table that makes spaces of everything but one kind."""
    return bytes(each if each == shown[0] else ord(" ") for each in range(256))


_PATTERNS: Final[tuple[tuple[float, bytes, bytes | None], ...]] = (
    (1.05, b" a", _all_but(b"a")),  # a word
    (0.92, b"aaaaaaa", None),  # seven more letters of a word
    (0.44, b"0", None),
    (0.4, b" 0", _all_but(b"0")),  # a number
    (0.9, b".", None),
    (-0.76, b"..", None),  # two marks in one token
    (0.7, b"n", None),
    (0.17, b"  ", None),  # the indentation of a line
)
"""The tokens of ASCII text, by what occurs in its outline: letters are `a`, digits `0`, punctuation
`.`, line ends `n`. Where a table is given, it is applied first. Fitted to Anthropic's tokenizer for
prose, code, JSON, listings, logs and numbers, of which each is met within a tenth."""


def _outline_table() -> bytes:
    table = bytearray(b"." * 256)
    for shown, letters in (("a", ascii_letters), ("0", digits), (" ", " \t"), ("n", "\r\n")):
        for letter in letters:
            table[ord(letter)] = ord(shown)
    return bytes(table)


_OUTLINE: Final = _outline_table()
_BEYOND_ASCII: Final = bytes(range(128, 256))

_UNREAD: Final = frozenset(
    {"type", "id", "tool_use_id", "signature", "data", "encrypted_content", "cache_control"}
)
"""Members that the model does not read as text."""


class Usage(msgspec.Struct, gc=False):
    """The token counts of an answer, as Anthropic counts them; `None` means not reported."""

    input_tokens: int | None = None
    output_tokens: int | None = None
    cache_read: int | None = None
    cache_write: int | None = None
    cache_write_1h: int | None = None
    """The part of `cache_write` that is kept for an hour, not for 5 minutes."""
    web_searches: int | None = None
    speed: str = ""
    """`fast` if the answer came in the fast mode; empty if the upstream does not say."""
    region: str = ""
    """Where the model ran, if the upstream says."""
    is_impossible: bool = False
    """Whether a count was too large to be one; it is not among these. What counts so is broken."""

    @property
    def prompt_tokens(self) -> int | None:
        """All tokens of the prompt, cached ones included."""
        if self.input_tokens is None:
            return None
        return self.input_tokens + (self.cache_read or 0) + (self.cache_write or 0)

    @property
    def cache_share(self) -> float | None:
        """The share of the prompt that was read from a cache; `None` if it is unknown."""
        prompt = self.prompt_tokens
        return round((self.cache_read or 0) / prompt, 3) if prompt else None

    def take(self, value: object) -> None:
        """Take over the counts of a usage object; a later count replaces an earlier one."""
        if not isinstance(value, dict):
            return
        for key, given in value.items():
            if type(given) is int:
                if name := _USAGE_KEYS.get(key):
                    self._take_count(name, given)
            elif isinstance(given, dict) and key in _USAGE_PARTS:
                member, name = _USAGE_PARTS[key]
                count = given.get(member)
                if type(count) is int:
                    self._take_count(name, count)
            elif isinstance(given, str) and (name := _USAGE_WORDS.get(key)):
                setattr(self, name, given[:_LONGEST_WORD])

    def _take_count(self, name: str, count: int) -> None:
        if count >= MOST_TOKENS:
            self.is_impossible = True
        elif count >= 0:
            setattr(self, name, count)


_USAGE_KEYS: Final = {
    "input_tokens": "input_tokens",
    "output_tokens": "output_tokens",
    "cache_read_input_tokens": "cache_read",
    "cache_creation_input_tokens": "cache_write",
}
_USAGE_PARTS: Final = {
    "cache_creation": ("ephemeral_1h_input_tokens", "cache_write_1h"),
    "server_tool_use": ("web_search_requests", "web_searches"),
}
_USAGE_WORDS: Final = {"speed": "speed", "inference_geo": "region"}
_LONGEST_WORD: Final = 32


def estimate(body: Body) -> int:
    """About how many tokens the prompt in a Messages body has; at least 1.

    The body keeps it: a long one takes a while, and several parts of a request may ask for it.
    """
    if body.tokens is None:
        body.tokens = _estimate(body)
    return body.tokens


def _estimate(body: Body) -> int:
    version = _version(body.model)
    fixed = 0.0
    allowance = Allowance()
    total = _content(body.get("system"), allowance)
    if tools := _loaded_tools(body):
        total += sum(map(_tool, tools))
        choice = kind_of(body.get("tool_choice"))
        _, offered, demanded = next(row for row in TOOLS_AT_ALL if version >= row[0])
        fixed = demanded if choice in ("any", "tool") else offered
    config = body.get("output_config")
    schema = config.get("format") if isinstance(config, dict) else None
    if isinstance(schema := schema or body.get("output_format"), dict):
        total += FORMAT_AT_ALL + _text(msgspec.json.encode(schema).decode())
    messages = body.get("messages")
    for message in messages if isinstance(messages, list) else []:
        if isinstance(message, dict):
            fixed += PER_MESSAGE
            total += _content(message.get("content"), allowance)
    fixed += REQUEST if fixed or total else 0
    return max(1, round(fixed + total * (NEWER_DENSITY if version >= (4, 7) else 1.0)))


def _loaded_tools(body: Body) -> list[Any]:
    """The tools that the model sees: a deferred one only after a search has found it."""
    tools = body.get("tools")
    tools = tools if isinstance(tools, list) else []
    if not any(isinstance(tool, dict) and tool.get("defer_loading") is True for tool in tools):
        return tools
    found = called_names(body)
    return [
        tool
        for tool in tools
        if not isinstance(tool, dict)
        or tool.get("defer_loading") is not True
        or string(tool, "name") in found
    ]


def _tool(tool: Any) -> float:
    if not is_custom(tool):
        kind = kind_of(tool)
        for start, tokens in DEFINED_TOOLS.items():
            if kind.startswith(start):
                return tokens
    return _text(msgspec.json.encode(tool).decode())


def _version(model: str) -> tuple[int, int]:
    """The version of a Claude model; zero if the name does not give one."""
    found = _MODEL.search(model)
    return (int(found[1]), int(found[2] or 0)) if found else (0, 0)


def _content(value: Any, allowance: Allowance) -> float:
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
                total += _pages(source.get("data"), allowance)
            case {"type": "document", "source": {"type": "url" | "file"}}:
                total += UNKNOWN_DOCUMENT
            case {"type": "document", **block}:
                if isinstance(inner := block.get("source"), dict):
                    waiting += [inner.get("data"), inner.get("content")]
            case {"type": "tool_use" | "server_tool_use", **block}:
                arguments = msgspec.json.encode(block.get("input"))
                total += TOOL_USE + _text(str(block.get("name"))) + _text(arguments.decode())
            case {"type": "tool_result", **block}:
                total += TOOL_RESULT
                waiting.append(block.get("content"))
            case dict(block):
                waiting.extend(item for key, item in block.items() if key not in _UNREAD)
            case _:
                pass
    return total


def _pages(data: Any, allowance: Allowance) -> float:
    """The tokens of a PDF: each page is an image, and its text comes on top."""
    try:
        raw = b64decode(data) if isinstance(data, str) else b""
    except ValueError:
        raw = b""
    pages, letters = read_pdf(raw, allowance)
    if not pages:
        return UNKNOWN_DOCUMENT
    text = pages * TEXT_OF_PAGE if letters is None else letters / LETTERS_A_TOKEN
    return pages * PAGE + text


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
    """The tokens of a text; scripts beyond ASCII have more tokens a letter."""
    raw = text.encode("utf-8", "replace")
    total = 0.0
    if len(raw) != len(text):
        total = _beyond_ascii(raw)
        raw = raw.translate(None, _BEYOND_ASCII)
    outline = b" " + raw.translate(_OUTLINE)
    found = 0.0
    for weight, form, table in _PATTERNS:
        shown = outline if table is None else outline.translate(table)
        found += weight * shown.count(form)
    return total + max(bool(raw), found)


_SCRIPTS: Final = (
    # Accented Latin up to U+036F, and marks from U+2000: the bytes that these begin with also begin
    # letters of the scripts that follow, if the second byte is high.
    (range(0xC2, 0xCD), b"l", 1.0),
    (range(0xCD, 0xCE), b"L", 1.0),
    # Cyrillic and others
    (range(0xCE, 0xE2), b"c", 0.6),
    (range(0xE2, 0xE3), b"M", 1.0),
    # Ideographs
    (range(0xE3, 0xF0), b"i", 1.15),
    # Pictures, from U+10000
    (range(0xF0, 0xF5), b"p", 3.0),
)
"""Tokens of one letter, by the first of its bytes in UTF-8, which stands for these here."""

_LATE: Final = ((b"Ly", 0.6 - 1.0), (b"Lz", 0.6 - 1.0), (b"Mz", 1.15 - 1.0))
"""How many more tokens a letter has if its second byte is from 0xB0 (`y`) or 0xBA (`z`) on."""


def _script_table() -> bytes:
    table = bytearray(256)
    for firsts, shown, _ in _SCRIPTS:
        for first in firsts:
            table[first] = ord(shown)
    table[0xB0:0xC0] = b"y" * 10 + b"z" * 6
    return bytes(table)


_SCRIPT: Final = _script_table()
_ASCII: Final = bytes(range(128))


def _beyond_ascii(raw: bytes) -> float:
    """The tokens of what is not ASCII in a text in UTF-8."""
    shown = raw.translate(_SCRIPT, _ASCII)
    total = sum(tokens * shown.count(script) for _, script, tokens in _SCRIPTS)
    return total + sum(tokens * shown.count(pair) for pair, tokens in _LATE)
