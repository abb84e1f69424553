"""Messages and their blocks, read and rebuilt.

Nothing here trusts what a client sent: what is not of the expected form is left as it is. The
values of a body are shared, so everything that changes is built anew.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Final

Block = dict[str, Any]
Message = dict[str, Any]

NO_CONTENT: Final = "(no content)"
"""The text of a message that has nothing left to say; the API accepts no empty message."""

SPOKEN: Final = frozenset({"user", "assistant"})
"""The roles that take turns."""

THOUGHTS: Final = frozenset({"thinking", "redacted_thinking"})
SERVER_CALLS: Final = frozenset({"server_tool_use", "mcp_tool_use"})
TOOL_CHANGES: Final = frozenset({"tool_addition", "tool_removal"})

Place = tuple[int, int]
"""Where a block is: the index of its message, and its own."""


def string(value: object, key: str) -> str:
    """A member that is a string; empty if there is none."""
    found = value.get(key) if isinstance(value, dict) else None
    return found if isinstance(found, str) else ""


def not_blank(value: object) -> str:
    """A text with letters in it; empty for any other value."""
    return value if isinstance(value, str) and value and not value.isspace() else ""


def role_of(message: object) -> str:
    """A message's role; empty if it has none."""
    role = message.get("role") if isinstance(message, dict) else None
    return role if isinstance(role, str) else ""


def kind_of(block: object) -> str:
    """A block's type; empty if it has none."""
    kind = block.get("type") if isinstance(block, dict) else None
    return kind if isinstance(kind, str) else ""


def is_server_result(block: object) -> bool:
    """Whether a block is the result of a tool that Anthropic ran."""
    kind = kind_of(block)
    return kind.endswith("_tool_result") and kind != "tool_result"


def objects_in(value: object) -> list[dict[str, Any]]:
    """The objects in a list; none if it is not a list."""
    return [item for item in value if isinstance(item, dict)] if isinstance(value, list) else []


def blocks_of(content: object) -> list[Block]:
    """The blocks of a content, to be read: a text is one block, odd items are skipped."""
    return [text_block(content)] if isinstance(content, str) else objects_in(content)


def content_list(value: object) -> list[Any]:
    """The content of a message or a result, to be rewritten: odd items stay.

    A text is one block, but an empty text has no block."""
    content = value.get("content") if isinstance(value, dict) else None
    if isinstance(content, str):
        return [text_block(content)] if content else []
    return content if isinstance(content, list) else []


def text_block(text: str, like: Mapping[str, Any] | None = None) -> Block:
    """A block of text; with the cache mark of the block `like` that it replaces."""
    mark = like.get("cache_control") if like is not None else None
    return {"type": "text", "text": text, **({"cache_control": mark} if mark else {})}


def texts_in(value: object) -> list[str]:
    """The texts in the content of a message, a result or a source."""
    return [string(block, "text") for block in content_list(value) if kind_of(block) == "text"]


def user_message(*blocks: Any) -> Message:
    """A message of the user."""
    return {"role": "user", "content": list(blocks)}


def with_content(value: Mapping[str, Any], blocks: Sequence[Any]) -> dict[str, Any]:
    """A message or a block with this content."""
    return {**value, "content": list(blocks)}


def results_first(blocks: Sequence[Any]) -> list[Any]:
    """The blocks of a user message in the order that the API demands."""
    return sorted(blocks, key=lambda block: kind_of(block) != "tool_result")


def reminder(text: str) -> str:
    """The words of a system message as the user's side of the conversation may carry them."""
    return f"<system-reminder>\n{text}\n</system-reminder>"


def places(messages: Sequence[Any]) -> Iterator[tuple[Place, Block]]:
    """Every block that is an object, with its place."""
    for index, message in enumerate(messages):
        content = message.get("content") if isinstance(message, dict) else None
        if isinstance(content, list):
            for position, block in enumerate(content):
                if isinstance(block, dict):
                    yield (index, position), block


def last_index(messages: Sequence[Any], role: str) -> int:
    """The index of the last message of a role; -1 if there is none."""
    found = (index for index, message in enumerate(messages) if role_of(message) == role)
    return max(found, default=-1)


def map_blocks(content: object, change: Callable[[Block], Block | None]) -> Any:
    """A content in which each block went through `change`, which may remove it with `None`.

    The very same object if nothing changed.
    """
    if not isinstance(content, list):
        return content
    made = [change(block) if isinstance(block, dict) else block for block in content]
    if is_same(made, content):
        return content
    return [new for new, old in zip(made, content, strict=True) if new is not None or old is None]


def map_messages(messages: Sequence[Any], change: Callable[[Block], Block | None]) -> list[Any]:
    """Messages in which each block went through `change`, as in `map_blocks`."""
    made: list[Any] = []
    for message in messages:
        content = message.get("content") if isinstance(message, dict) else None
        new = map_blocks(content, change)
        made.append(message if new is content else {**message, "content": new})
    return made


def is_same(made: Sequence[Any], before: Sequence[Any]) -> bool:
    """Whether a list has the very same items as another one."""
    return len(made) == len(before) and all(map(lambda new, old: new is old, made, before))


def without_empty_messages(messages: Sequence[Any]) -> list[Any]:
    """Messages none of which is empty: an empty one is removed, or says that it is empty.

    It is removed if user and assistant still take turns without it.
    """
    made: list[Any] = []
    for index, message in enumerate(messages):
        if not isinstance(message, dict) or message.get("content") != []:
            made.append(message)
        elif role_of(message) == "system":
            made += [message] if message.get("output_config") else []
        elif not _is_removable(message, made, messages[index + 1 :]):
            made.append(with_content(message, [text_block(NO_CONTENT)]))
    if any(map(_is_spoken, messages)) and not any(map(_is_spoken, made)):
        made.append(user_message(text_block(NO_CONTENT)))
    return made


def _is_spoken(message: object) -> bool:
    return role_of(message) in SPOKEN


def _is_removable(message: object, before: Sequence[Any], after: Sequence[Any]) -> bool:
    role = role_of(message)
    last = next((role_of(each) for each in reversed(before) if _is_spoken(each)), "")
    following = next((role_of(each) for each in after if _is_spoken(each)), "")
    return role in (last, following) or (role == "assistant" and not following)
