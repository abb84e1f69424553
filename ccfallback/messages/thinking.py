"""Thinking blocks: the history without them, and the thinking that Anthropic did not make.

A fallback's reasoning reaches the client as a thinking block. The client sends it back with every
later request, and Anthropic refuses a block that it has not signed. So each of our blocks carries
a signature that we recognize, and is removed before the primary sees it: always, and always in
the same way, because a genuine block is valid only after the very history that it was made after.
"""

import re
from base64 import b64decode, b64encode
from collections.abc import Callable, Mapping
from hashlib import blake2b, sha256
from typing import Any, Final

import msgspec

from ccfallback.messages.body import UNREADABLE, Body, replace_lone_surrogates
from ccfallback.messages.edit import without_blocks
from ccfallback.messages.turns import NO_CONTENT, THOUGHTS, Block, kind_of, text_block

_MARK: Final = "ccfallback-thinking."
"""No signature of Anthropic's begins like this: those are base64, without dash and dot."""
_DIGEST: Final = 32
_MOST_WAITING: Final = 16 * 1024
"""Characters that wait to be hashed together: a piece alone would take longer."""

_QUOTED_MARK: Final = b'"' + _MARK.encode()
_THINKING: Final = b'"thinking"'

_KINDS: Final = ("thinking", "redacted_thinking")

_KEY: Final = re.compile(rb'"messages"\s*:\s*')

_PLACEHOLDER: Final = msgspec.Raw(msgspec.json.encode([text_block(NO_CONTENT)]))

_MESSAGES: Final = msgspec.json.Decoder(list[msgspec.Raw])
_MEMBERS: Final = msgspec.json.Decoder(dict[str, msgspec.Raw])


class _Block(msgspec.Struct):
    type: Any = None
    signature: Any = None
    data: Any = None
    """The signature of a block with redacted text."""


class _Message(msgspec.Struct):
    content: str | list[_Block] | None = None


_BLOCK: Final = msgspec.json.Decoder(_Block)
_GLANCE: Final = msgspec.json.Decoder(list[_Message])


def without_thoughts(
    body: Body, goes: Callable[[int, Block], bool] = lambda _index, _block: True
) -> tuple[Body, int]:
    """The body without these thinking blocks of the history, and their number."""
    return without_blocks(
        body, lambda index, block: kind_of(block) in THOUGHTS and goes(index, block)
    )


class ThinkingMark:
    """The signature for a thinking block that the proxy synthesizes, while its text arrives.

    Nothing limits how much a model thinks, so the text is not kept.
    """

    def __init__(self) -> None:
        self._digest = sha256()
        self._waiting: list[str] = []
        self._size = 0

    def add(self, text: str) -> None:
        """Take the next piece of the text."""
        self._waiting.append(text)
        self._size += len(text)
        if self._size > _MOST_WAITING:
            self._update()

    def take(self, envelope: Mapping[str, Any] | None = None) -> str:
        """The signature of the text so far; the next piece begins another block.

        `envelope` is what the provider wants back together with the text.
        """
        self._update()
        digest, self._digest = self._digest.hexdigest()[:_DIGEST], sha256()
        if not envelope:
            return f"{_MARK}{digest}"
        return f"{_MARK}{digest}.{b64encode(msgspec.json.encode(envelope)).decode()}"

    def _update(self) -> None:
        self._digest.update("".join(self._waiting).encode(errors="surrogatepass"))
        self._waiting.clear()
        self._size = 0


def mark(thinking: str, envelope: Mapping[str, Any] | None = None) -> str:
    """The signature for a thinking block that the proxy synthesized."""
    made = ThinkingMark()
    made.add(thinking)
    return made.take(envelope)


def is_own(signature: object) -> bool:
    """Whether a signature is the proxy's own mark."""
    return isinstance(signature, str) and signature.startswith(_MARK)


def is_own_or_unsigned(signature: object) -> bool:
    """Whether a signature is the proxy's own mark, or missing."""
    return signature in (None, "") or is_own(signature)


def read_envelope(signature: object) -> Mapping[str, Any] | None:
    """The envelope in the proxy's own mark; `None` without one."""
    if not isinstance(signature, str) or not signature.startswith(_MARK):
        return None
    try:
        envelope = msgspec.json.decode(b64decode(signature[len(_MARK) :].partition(".")[2]))
    except (ValueError, msgspec.DecodeError, RecursionError):
        return None
    return envelope if isinstance(envelope, dict) else None


IsForeign = Callable[[object], bool]
"""Whether thinking with that signature must be removed; it is `None` if the block has none."""


def may_have_thinking(body: Body) -> bool:
    """Whether the body may have any thinking; most have none. It is not read as JSON."""
    # A body has up to 1 MB. CPython searches four times as fast from the end.
    return body.raw.rfind(b"thinking") >= 0


def without_own_thinking(body: Body, *, unsigned: bool = False) -> Body:
    """The body without synthesized thinking; the very same object if there is none.

    With `unsigned`, thinking without a signature is removed too: other gateways make that.
    """
    if unsigned:
        return without_thinking(body, is_own_or_unsigned)
    return without_thinking(body, is_own, _QUOTED_MARK)


def without_thinking(body: Body, is_foreign: IsForeign, hint: bytes = _THINKING) -> Body:
    """The body without foreign thinking; the very same object if there is none.

    Only messages that contain the `hint` are read.
    """
    raw = body.raw
    if raw.rfind(hint) < 0 or _surely_has_none(body, is_foreign):
        return body
    try:
        members = _members(raw)
        before = bytes(members["messages"])
        messages = [bytes(message) for message in _MESSAGES.decode(before)]
    except (*UNREADABLE, KeyError):
        return body
    kept = [_without_foreign(message, is_foreign, hint) for message in messages]
    if kept == messages:
        return body
    after = b"[" + b",".join(kept) + b"]"
    spliced = _splice(raw, before, after)
    if spliced is None:
        return body.with_members(messages=msgspec.Raw(after))
    return Body({**members, "messages": msgspec.Raw(after)}, spliced)


def _surely_has_none(body: Body, is_foreign: IsForeign) -> bool:
    """Whether the body certainly has no such thinking. This is quick: no text is decoded."""
    try:
        messages = _GLANCE.decode(body.member("messages"))
    except UNREADABLE:
        return False
    thoughts = [
        block
        for message in messages
        if isinstance(message.content, list)
        for block in message.content
        if block.type in _KINDS
    ]
    return not any(_is_foreign_block(block, is_foreign) for block in thoughts)


def _splice(raw: bytes, before: bytes, after: bytes) -> bytes | None:
    """The body with the messages `after` for `before`, and no other byte changed.

    `None` if their place in the body is not certain.
    """
    key = _KEY.search(raw)
    if key is None or not raw.startswith(before, key.end()):
        return None
    spliced = raw[: key.end()] + after + raw[key.end() + len(before) :]
    # The first such key may be inside another member.
    members = _members(spliced)
    return spliced if bytes(members["messages"]) == after else None


def _members(raw: bytes) -> dict[str, msgspec.Raw]:
    try:
        return _MEMBERS.decode(raw)
    except UNREADABLE:
        return _MEMBERS.decode(replace_lone_surrogates(raw))


def _without_foreign(message: bytes, is_foreign: IsForeign, hint: bytes) -> bytes:
    """A message without foreign thinking; a text takes its place if nothing else remains.

    The message itself stays even then, so that user and assistant still take turns. What becomes
    of it must not depend on the messages around it, which change as the conversation goes on.
    """
    if hint not in message:
        return message
    try:
        members = _MEMBERS.decode(message)
        blocks = _MESSAGES.decode(members["content"])
    except (*UNREADABLE, KeyError):
        return message
    kept = [block for block in blocks if not _is_removed(block, is_foreign)]
    if len(kept) == len(blocks):
        return message
    content = msgspec.Raw(msgspec.json.encode(kept)) if kept else _PLACEHOLDER
    return msgspec.json.encode({**members, "content": content})


def _is_removed(raw: msgspec.Raw, is_foreign: IsForeign) -> bool:
    try:
        return _is_foreign_block(_BLOCK.decode(raw), is_foreign)
    except UNREADABLE:
        return False


def _is_foreign_block(block: _Block, is_foreign: IsForeign) -> bool:
    if block.type == "thinking":
        return is_foreign(block.signature)
    return block.type == "redacted_thinking" and is_foreign(block.data)


def signature_digest(signature: str) -> str:
    """What is kept of a signature, which may be long: enough to recognize it."""
    return blake2b(signature.encode("utf-8", "surrogatepass"), digest_size=12).hexdigest()
