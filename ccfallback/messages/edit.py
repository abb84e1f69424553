"""Edits of a body that leave every other byte as the client sent it.

A part is named by a path of members, in which `*` is any item of a list: what a provider refuses
in one message it refuses in every message.
"""

from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final, TypeVar

import msgspec

from ccfallback.messages.body import UNREADABLE, Body
from ccfallback.messages.turns import NO_CONTENT, Block, role_of, text_block

Path = tuple[str, ...]
T = TypeVar("T")

ANY: Final = "*"
"""The step of a path that is every item of a list."""

BLOCK: Final[Path] = ("messages", ANY, "content", ANY)
"""Any block of any message."""

_LIST: Final = msgspec.json.Decoder(list[msgspec.Raw])
_OBJECT: Final = msgspec.json.Decoder(dict[str, msgspec.Raw])
_ANYTHING: Final = msgspec.json.Decoder()

_CONTAINERS: Final = frozenset(
    {
        *("messages", "system", "tools", "tool_choice", "thinking", "metadata", "cache_control"),
        *("output_config", "context_management", "container", "mcp_servers", "diagnostics"),
    }
)
"""Members of a body whose inside may be changed."""

_TRANSPARENT: Final = frozenset({"custom", "function"})
"""Steps that some providers name on the way to a member of a tool, though the body lacks them."""

_NEEDED: Final[Mapping[str, frozenset[str]]] = {
    "text": frozenset({"text"}),
    "image": frozenset({"source"}),
    "document": frozenset({"source"}),
    "thinking": frozenset({"thinking"}),
    "redacted_thinking": frozenset({"data"}),
    "tool_use": frozenset({"id", "name", "input"}),
    "server_tool_use": frozenset({"id", "name", "input"}),
    "tool_result": frozenset({"tool_use_id", "content"}),
    "tool_reference": frozenset({"tool_name"}),
    "tool": frozenset({"name"}),
    "enabled": frozenset({"budget_tokens"}),
}
"""Members without which a block of a type means nothing."""

_ALWAYS_NEEDED: Final = frozenset({"type", "role", "content", "input_schema"})
_NEEDED_OUTSIDE_MESSAGES: Final = frozenset({"name"})
"""Tools need it; a message may lose it."""


def has(body: Body, path: Path) -> bool:
    """Whether the body has such a part."""
    head, *rest = path
    return head in body and (not rest or _has(body.get(head), tuple(rest)))


def without(body: Body, path: Path) -> tuple[Body, int]:
    """The body without such parts, and their number; parts that others need stay."""
    head, rest = path[0], path[1:]
    if head not in body or (rest and head not in _CONTAINERS):
        return body, 0
    if not rest:
        return body.without(head), 1
    if rest[0] == ANY and rest[1:]:
        made = [_without(item, rest[1:]) for item in body.items(head)]
        count = sum(one for _, one in made)
        return (body.with_items(head, [item for item, _ in made]), count) if count else (body, 0)
    left, count = _without(msgspec.Raw(body.member(head)), rest)
    return (body.with_members(**{head: left}), count) if count else (body, 0)


def without_all(body: Body, paths: Iterable[Path]) -> tuple[Body, int]:
    """The body without any of these parts, and their number."""
    total = 0
    for path in paths:
        body, count = without(body, path)
        total += count
    return body, total


def map_items(body: Body, key: str, change: Callable[[Any, msgspec.Raw], object]) -> Body:
    """The body with each item of a list as `change` returns it, or removed for `None`.

    `change` gets an item's value and its bytes; it returns the bytes to leave the item alone.
    """
    values, raws = body.get(key), body.items(key)
    if not isinstance(values, list):
        return body
    made = [change(value, raw) for value, raw in zip(values, raws, strict=True)]
    if all(new is raw for new, raw in zip(made, raws, strict=True)):
        return body
    return body.with_items(key, [item for item in made if item is not None])


def raw_with_content(
    raw: msgspec.Raw, change: Callable[[list[msgspec.Raw]], list[Any]]
) -> msgspec.Raw:
    """A message whose blocks are what `change` returns for their bytes."""
    members = _decode(_OBJECT, raw) or {}
    content = change(_decode(_LIST, members.get("content", b"")) or [])
    return _encode({**members, "content": content})


def raw_with_members(raw: msgspec.Raw, **changed: Any) -> msgspec.Raw:
    """An object with these members; those that are `None` are removed."""
    members = _decode(_OBJECT, raw) or {}
    made: dict[str, Any] = {**members, **changed}
    return _encode({key: value for key, value in made.items() if value is not None})


def raw_with_more(message: Any, raw: msgspec.Raw, blocks: list[Block]) -> msgspec.Raw:
    """A message with more blocks at its end; a text becomes the first block."""
    content = message.get("content")
    if isinstance(content, list):
        return raw_with_content(raw, lambda raws: [*raws, *blocks])
    text = [text_block(content)] if isinstance(content, str) and content.strip() else []
    return raw_with_members(raw, content=[*text, *blocks])


def without_blocks(body: Body, goes: Callable[[int, Block], bool]) -> tuple[Body, int]:
    """The body without the blocks for which `goes(index of the message, block)`; and their number.

    The messages stay, so that user and assistant still take turns: an empty one gets a text in
    its place, except at the very end, where the model would continue that text.
    """
    messages, raws = body.messages, body.items("messages")
    made: list[object] = []
    total = 0
    for index, (message, raw) in enumerate(zip(messages, raws, strict=True)):
        content = message.get("content") if isinstance(message, dict) else None
        blocks = content if isinstance(content, list) else []
        stays = [not (isinstance(block, dict) and goes(index, block)) for block in blocks]
        if all(stays):
            made.append(raw)
            continue
        total += stays.count(False)
        if any(stays):
            made.append(raw_with_content(raw, only(stays)))
        elif not made or index < len(messages) - 1 or role_of(message) != "assistant":
            made.append(raw_with_members(raw, content=[text_block(NO_CONTENT)]))
    return (body.with_items("messages", made), total) if total else (body, 0)


def only(stays: list[bool]) -> Callable[[list[msgspec.Raw]], list[Any]]:
    """A change for `raw_with_content` that keeps the blocks marked as staying."""
    return lambda raws: [raw for raw, stay in zip(raws, stays, strict=True) if stay]


def _has(value: object, path: Path) -> bool:
    if not path:
        return True
    step, rest = path[0], path[1:]
    if step == ANY:
        return isinstance(value, list) and any(_has(item, rest) for item in value)
    if not isinstance(value, dict):
        return False
    if rest and _names_a_type(step, value, value.get("type")):
        return _has(value, rest)
    return step in value and _has(value[step], rest)


def _names_a_type(step: str, members: Mapping[str, object], kind: object) -> bool:
    """Whether a step only says of which type the object is."""
    return step == kind or (step in _TRANSPARENT and step not in members)


def _without(raw: msgspec.Raw, path: Path) -> tuple[msgspec.Raw, int]:
    step, rest = path[0], path[1:]
    if step == ANY:
        items = _decode(_LIST, raw) if rest else None
        if items is None:
            return raw, 0
        made = [_without(item, rest) for item in items]
        count = sum(one for _, one in made)
        return (_encode([item for item, _ in made]), count) if count else (raw, 0)
    members = _decode(_OBJECT, raw)
    if members is None:
        return raw, 0
    kind = _decode(_ANYTHING, members["type"]) if "type" in members else None
    if rest and _names_a_type(step, members, kind):
        return _without(raw, rest)
    if step not in members:
        return raw, 0
    if rest:
        inner, count = _without(members[step], rest)
        return (_encode({**members, step: inner}), count) if count else (raw, 0)
    if step in _needed_members(kind, members):
        return raw, 0
    return _encode({key: value for key, value in members.items() if key != step}), 1


def _needed_members(kind: object, members: Mapping[str, object]) -> frozenset[str]:
    of_kind = _NEEDED.get(kind, frozenset()) if isinstance(kind, str) else frozenset()
    if "role" in members:
        return _ALWAYS_NEEDED | of_kind
    return _ALWAYS_NEEDED | of_kind | _NEEDED_OUTSIDE_MESSAGES


def _encode(value: object) -> msgspec.Raw:
    return msgspec.Raw(msgspec.json.encode(value))


def _decode(decoder: msgspec.json.Decoder[T], raw: bytes | msgspec.Raw) -> T | None:
    try:
        return decoder.decode(raw)
    except UNREADABLE:
        return None
