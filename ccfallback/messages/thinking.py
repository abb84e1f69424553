"""Thinking that was not made by Anthropic: its mark, and how it stays out of a request.

A fallback's reasoning reaches the client as a thinking block. The client sends it back for ever
after, and Anthropic refuses a block that it has not signed. So each of ours carries a signature
that is known again, and leaves the request before the primary sees it: always, and always in the
same way, because a genuine block is valid only behind the very history that it was made behind.
"""

import re
from base64 import b64decode, b64encode
from collections.abc import Callable, Mapping
from hashlib import sha256
from typing import Any, Final

import msgspec

from ccfallback.messages.body import Body, replace_lone_surrogates

_MARK: Final = "ccfallback-thinking."
"""No signature of Anthropic's begins so: those are base64, which has neither dash nor dot."""
_DIGEST: Final = 32

_QUOTED_MARK: Final = b'"' + _MARK.encode()
_THINKING: Final = b'"thinking"'

_KEY: Final = re.compile(rb'"messages"\s*:\s*')

_PLACEHOLDER: Final = msgspec.Raw(b'[{"type":"text","text":"(no content)"}]')

_MESSAGES: Final = msgspec.json.Decoder(list[msgspec.Raw])
_MEMBERS: Final = msgspec.json.Decoder(dict[str, msgspec.Raw])

_UNREADABLE: Final = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)


class _Block(msgspec.Struct):
    type: Any = None
    signature: Any = None
    data: Any = None
    """The signature of a block whose text is not shown."""


class _Message(msgspec.Struct):
    content: str | list[_Block] | None = None


_BLOCK: Final = msgspec.json.Decoder(_Block)
_GLANCE: Final = msgspec.json.Decoder(list[_Message])


def mark(thinking: str, envelope: Mapping[str, Any] | None = None) -> str:
    """The signature of a thinking block of ours.

    `envelope` is what its provider wants back together with the text.
    """
    digest = sha256(thinking.encode(errors="surrogatepass")).hexdigest()[:_DIGEST]
    if not envelope:
        return f"{_MARK}{digest}"
    return f"{_MARK}{digest}.{b64encode(msgspec.json.encode(envelope)).decode()}"


def is_own(signature: object) -> bool:
    """Whether a signature is a mark of ours."""
    return isinstance(signature, str) and signature.startswith(_MARK)


def is_own_or_unsigned(signature: object) -> bool:
    """Whether a signature is a mark of ours, or none at all."""
    return signature in (None, "") or is_own(signature)


def envelope_of(signature: object) -> Mapping[str, Any] | None:
    """What a mark of ours carries, if it carries anything."""
    if not isinstance(signature, str) or not signature.startswith(_MARK):
        return None
    try:
        envelope = msgspec.json.decode(b64decode(signature[len(_MARK) :].partition(".")[2]))
    except (ValueError, msgspec.DecodeError, RecursionError):
        return None
    return envelope if isinstance(envelope, dict) else None


IsForeign = Callable[[object], bool]
"""Whether thinking with that signature has to go; `None` where a block has none."""


def without_own_thinking(body: Body, *, unsigned: bool = False) -> Body:
    """A body without thinking of ours; the very same one where there is none.

    `unsigned` takes out thinking without a signature too, which other gateways make.
    """
    if unsigned:
        return without_thinking(body, is_own_or_unsigned)
    return without_thinking(body, is_own, _QUOTED_MARK)


def without_thinking(body: Body, is_foreign: IsForeign, hint: bytes = _THINKING) -> Body:
    """A body without the thinking that is foreign; the very same one where there is none.

    Only what holds the `hint` is looked into.
    """
    raw = body.raw
    # A body is up to 1 MB, and most hold nothing of the kind. From the end, because CPython looks
    # four times as fast in that direction.
    if raw.rfind(hint) < 0:
        return body
    if _holds_none(body, is_foreign):
        return body
    try:
        members = _members(raw)
        before = bytes(members["messages"])
        messages = [bytes(message) for message in _MESSAGES.decode(before)]
    except (*_UNREADABLE, KeyError):
        return body
    kept = [_without(message, is_foreign, hint) for message in messages]
    if kept == messages:
        return body
    after = b"[" + b",".join(kept) + b"]"
    spliced = _spliced(raw, before, after)
    if spliced is None:
        return body.with_members(messages=msgspec.Raw(after))
    return Body({**members, "messages": msgspec.Raw(after)}, spliced)


def _holds_none(body: Body, is_foreign: IsForeign) -> bool:
    """Whether there surely is no such thinking; all texts are passed over, which is quick."""
    try:
        messages = _GLANCE.decode(body.member("messages"))
    except _UNREADABLE:
        return False
    return not any(
        _goes(block, is_foreign)
        for message in messages
        if isinstance(message.content, list)
        for block in message.content
    )


def _spliced(raw: bytes, before: bytes, after: bytes) -> bytes | None:
    """A body with these messages instead of those, and no other byte changed.

    `None` where it is not plain where they stand.
    """
    key = _KEY.search(raw)
    if key is None or not raw.startswith(before, key.end()):
        return None
    spliced = raw[: key.end()] + after + raw[key.end() + len(before) :]
    # The first such key may be one inside another member.
    members = _members(spliced)
    return spliced if bytes(members["messages"]) == after else None


def _members(raw: bytes) -> dict[str, msgspec.Raw]:
    try:
        return _MEMBERS.decode(raw)
    except _UNREADABLE:
        return _MEMBERS.decode(replace_lone_surrogates(raw))


def _without(message: bytes, is_foreign: IsForeign, hint: bytes) -> bytes:
    """A message without such blocks; where nothing remains, a text takes their place.

    The message itself stays even then: what becomes of it must not depend on the messages around
    it, which are others when the conversation has gone on, and user and assistant go on taking
    turns.
    """
    if hint not in message:
        return message
    try:
        members = _MEMBERS.decode(message)
        blocks = _MESSAGES.decode(members["content"])
    except (*_UNREADABLE, KeyError):
        return message
    kept = [block for block in blocks if not _is_to_go(block, is_foreign)]
    if len(kept) == len(blocks):
        return message
    content = msgspec.Raw(msgspec.json.encode(kept)) if kept else _PLACEHOLDER
    return msgspec.json.encode({**members, "content": content})


def _is_to_go(raw: msgspec.Raw, is_foreign: IsForeign) -> bool:
    try:
        return _goes(_BLOCK.decode(raw), is_foreign)
    except _UNREADABLE:
        return False


def _goes(block: _Block, is_foreign: IsForeign) -> bool:
    if block.type == "thinking":
        return is_foreign(block.signature)
    return block.type == "redacted_thinking" and is_foreign(block.data)
