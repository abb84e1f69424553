"""Parts of a body: found, taken out and put in again, with everything else left byte for byte.

A part is named by a path of members, in which `*` is any item of a list: what a provider refuses
in one message it refuses in every one, and a repair is made only once.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Final, TypeVar

import msgspec

from ccfallback.messages.body import Body

Path = tuple[str, ...]
Block = Mapping[str, Any]
T = TypeVar("T")

ANY: Final = "*"
"""The step of a path that is every item of a list."""

NO_CONTENT: Final = "(no content)"
"""What is said where nothing is left to say: a message may not be empty."""

_LIST: Final = msgspec.json.Decoder(list[msgspec.Raw])
_OBJECT: Final = msgspec.json.Decoder(dict[str, msgspec.Raw])
_ANYTHING: Final = msgspec.json.Decoder()

_CONTAINERS: Final = frozenset(
    {
        *("messages", "system", "tools", "tool_choice", "thinking", "metadata", "cache_control"),
        *("output_config", "context_management", "container", "mcp_servers", "diagnostics"),
    }
)
"""Members of a body that are looked into."""

_TRANSPARENT: Final = frozenset({"custom", "function"})
"""Steps that some providers have on the way to a member of a tool, and the body has not."""

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
"""What a block of a kind is nothing without."""

_ALWAYS_NEEDED: Final = frozenset({"type", "role", "content", "input_schema"})
_OF_A_TOOL: Final = frozenset({"name"})
"""Messages may go without."""


def has(body: Body, path: Path) -> bool:
    """Whether there is such a part."""
    head, *rest = path
    return head in body and (not rest or _has(body.get(head), tuple(rest)))


def without(body: Body, path: Path) -> tuple[Body, int]:
    """A body without such parts, and how many there were; what others need stays."""
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
    """A body without any of these parts, and how many there were."""
    total = 0
    for path in paths:
        body, count = without(body, path)
        total += count
    return body, total


def messages_of(body: Body) -> list[Any]:
    """The messages, parsed; none where they are no list."""
    messages = body.get("messages")
    return messages if isinstance(messages, list) else []


def blocks_of(message: object) -> list[Any]:
    """The blocks of a message; none where its content is a text."""
    content = message.get("content") if isinstance(message, dict) else None
    return content if isinstance(content, list) else []


def role_of(message: object) -> object:
    """A message's role; `None` of what is no message."""
    return message.get("role") if isinstance(message, dict) else None


def kind_of(block: object) -> str:
    """A block's type; empty of what is no block."""
    kind = block.get("type") if isinstance(block, dict) else None
    return kind if isinstance(kind, str) else ""


def raw_messages(body: Body) -> list[msgspec.Raw]:
    """The messages in their own bytes, one for each of `messages_of`."""
    return body.items("messages")


def with_messages(body: Body, messages: Sequence[object]) -> Body:
    """A body with these messages: raw ones as they are, others written anew."""
    return body.with_items("messages", messages)


def with_content(raw: msgspec.Raw, change: Callable[[list[msgspec.Raw]], list[Any]]) -> msgspec.Raw:
    """A message whose blocks are what `change` makes of their bytes."""
    members = _decoded(_OBJECT, raw) or {}
    content = change(_decoded(_LIST, members.get("content", b"")) or [])
    return _encoded({**members, "content": content})


def with_members(raw: msgspec.Raw, **changed: Any) -> msgspec.Raw:
    """An object in which these members are others; those that are `None` are gone."""
    members = _decoded(_OBJECT, raw) or {}
    made: dict[str, Any] = {**members, **changed}
    return _encoded({key: value for key, value in made.items() if value is not None})


def with_list(body: Body, key: str, change: Callable[[Any, msgspec.Raw], object]) -> Body:
    """A body in which each item of a list is what `change` makes of it, or gone for `None`."""
    values, raws = body.get(key), body.items(key)
    if not isinstance(values, list):
        return body
    made = [change(value, raw) for value, raw in zip(values, raws, strict=True)]
    if all(new is raw for new, raw in zip(made, raws, strict=True)):
        return body
    return body.with_items(key, [item for item in made if item is not None])


def without_blocks(body: Body, goes: Callable[[int, Block], bool]) -> tuple[Body, int]:
    """A body without the blocks that `goes` says so of, by message and block; and how many.

    The messages stay, so that user and assistant go on taking turns: one that has nothing left
    says so, save at the very end, where the model would go on from those words.
    """
    messages, raws = messages_of(body), raw_messages(body)
    made: list[object] = []
    total = 0
    for index, (message, raw) in enumerate(zip(messages, raws, strict=True)):
        blocks = blocks_of(message)
        stays = [not (isinstance(block, dict) and goes(index, block)) for block in blocks]
        if all(stays):
            made.append(raw)
            continue
        total += stays.count(False)
        if any(stays):
            made.append(with_content(raw, _only(stays)))
        elif not made or index < len(messages) - 1 or role_of(message) != "assistant":
            made.append(with_members(raw, content=[{"type": "text", "text": NO_CONTENT}]))
    return (with_messages(body, made), total) if total else (body, 0)


def counted(count: int, what: str) -> str:
    """So many of something, in words."""
    return f"{count} {what}" if count == 1 else f"{count} {what}s"


def _only(stays: list[bool]) -> Callable[[list[msgspec.Raw]], list[Any]]:
    return lambda raws: [raw for raw, stay in zip(raws, stays, strict=True) if stay]


def _has(value: object, path: Path) -> bool:
    if not path:
        return True
    step, rest = path[0], path[1:]
    if step == ANY:
        return isinstance(value, list) and any(_has(item, rest) for item in value)
    if not isinstance(value, dict):
        return False
    if rest and _is_no_member(step, value, value.get("type")):
        return _has(value, rest)
    return step in value and _has(value[step], rest)


def _is_no_member(step: str, members: Mapping[str, object], kind: object) -> bool:
    """Whether a step only says which kind of thing this is."""
    return step == kind or (step in _TRANSPARENT and step not in members)


def _without(raw: msgspec.Raw, path: Path) -> tuple[msgspec.Raw, int]:
    step, rest = path[0], path[1:]
    if step == ANY:
        items = _decoded(_LIST, raw) if rest else None
        if items is None:
            return raw, 0
        made = [_without(item, rest) for item in items]
        count = sum(one for _, one in made)
        return (_encoded([item for item, _ in made]), count) if count else (raw, 0)
    members = _decoded(_OBJECT, raw)
    if members is None:
        return raw, 0
    kind = _decoded(_ANYTHING, members["type"]) if "type" in members else None
    if rest and _is_no_member(step, members, kind):
        return _without(raw, rest)
    if step not in members:
        return raw, 0
    if rest:
        inner, count = _without(members[step], rest)
        return (_encoded({**members, step: inner}), count) if count else (raw, 0)
    if step in _needed(kind, members):
        return raw, 0
    return _encoded({key: value for key, value in members.items() if key != step}), 1


def _needed(kind: object, members: Mapping[str, object]) -> frozenset[str]:
    of_kind = _NEEDED.get(kind, frozenset()) if isinstance(kind, str) else frozenset()
    return _ALWAYS_NEEDED | of_kind | (_OF_A_TOOL if "role" not in members else frozenset())


def _encoded(value: object) -> msgspec.Raw:
    return msgspec.Raw(msgspec.json.encode(value))


def _decoded(decoder: msgspec.json.Decoder[T], raw: bytes | msgspec.Raw) -> T | None:
    try:
        return decoder.decode(raw)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
