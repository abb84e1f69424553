"""Messages and their blocks, read and rebuilt.

Nothing here trusts what a client sent: whatever is not of the expected form stays as it is.
Values of a body are shared, so everything that changes is built anew.
"""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Final

from ccfallback.policy.draft import RequestDraft
from ccfallback.rectify.rule import Refusal

Block = dict[str, Any]
Message = dict[str, Any]

NO_CONTENT: Final = "(no content)"
"""What is said where nothing is left to say."""

SPOKEN: Final = frozenset({"user", "assistant"})

_STEP: Final = r"(?:\.| ?-> ?)"
_PATH: Final = re.compile(
    rf"\bmessages{_STEP}(\d+){_STEP}content{_STEP}(\d+)"
    rf"((?:{_STEP}(?:content{_STEP}\d+|[a-z_]+))*)"
)
_INNER: Final = re.compile(rf"{_STEP}content{_STEP}(\d+)")


def messages_of(draft: RequestDraft) -> list[Any]:
    """The messages of a request; none where they can't be read."""
    messages = draft.body.get("messages")
    return messages if isinstance(messages, list) else []


def with_messages(draft: RequestDraft, messages: Sequence[Any]) -> RequestDraft:
    """A draft with these messages."""
    return draft.with_body(draft.body.with_items("messages", messages))


def role_of(message: object) -> str:
    """A message's role; empty where it has none."""
    return word(message, "role")


def kind_of(block: object) -> str:
    """A block's type; empty where it has none."""
    return word(block, "type")


def word(value: object, key: str) -> str:
    """A member that is a string; empty where it is none."""
    found = value.get(key) if isinstance(value, dict) else None
    return found if isinstance(found, str) else ""


def blocks_of(value: object) -> list[Any]:
    """The blocks of a message or of a result; a plain text is one block."""
    content = value.get("content") if isinstance(value, dict) else None
    if isinstance(content, str):
        return [text(content)] if content else []
    return content if isinstance(content, list) else []


def text(words: str) -> Block:
    """A block of text."""
    return {"type": "text", "text": words}


def user(*blocks: Any) -> Message:
    """A message of the user's side."""
    return {"role": "user", "content": list(blocks)}


def with_blocks(value: Mapping[str, Any], blocks: Sequence[Any]) -> dict[str, Any]:
    """A message or a block with this content."""
    return {**value, "content": list(blocks)}


def results_first(blocks: Sequence[Any]) -> list[Any]:
    """Blocks of a user turn in the order in which they have to be."""
    return sorted(blocks, key=lambda block: kind_of(block) != "tool_result")


def mapped(content: object, change: Callable[[Block], Block | None]) -> Any:
    """Content in which each block went through `change`, which may take it out.

    The very same content where nothing changed.
    """
    if not isinstance(content, list):
        return content
    made = [change(block) if isinstance(block, dict) else block for block in content]
    if all(new is old for new, old in zip(made, content, strict=True)):
        return content
    return [new for new, old in zip(made, content, strict=True) if new is not None or old is None]


def mapped_messages(messages: Sequence[Any], change: Callable[[Block], Block | None]) -> list[Any]:
    """Messages in which each block of content went through `change`."""
    made: list[Any] = []
    for message in messages:
        content = message.get("content") if isinstance(message, dict) else None
        new = mapped(content, change)
        made.append(message if new is content else {**message, "content": new})
    return made


def settled(messages: Sequence[Any]) -> list[Any]:
    """Messages of which none is empty: an empty one goes, or says that it is.

    It goes where the conversation takes its turns without it.
    """
    made: list[Any] = []
    for index, message in enumerate(messages):
        if not isinstance(message, dict) or message.get("content") != []:
            made.append(message)
        elif role_of(message) == "system":
            made += [message] if message.get("output_config") else []
        elif not _may_go(message, made, messages[index + 1 :]):
            made.append(with_blocks(message, [text(NO_CONTENT)]))
    if any(map(_is_spoken, messages)) and not any(map(_is_spoken, made)):
        made.append(user(text(NO_CONTENT)))
    return made


def _is_spoken(message: object) -> bool:
    return role_of(message) in SPOKEN


def _may_go(message: object, before: Sequence[Any], after: Sequence[Any]) -> bool:
    role = role_of(message)
    last = next((role_of(each) for each in reversed(before) if _is_spoken(each)), "")
    following = next((role_of(each) for each in after if _is_spoken(each)), "")
    return role in (last, following) or (role == "assistant" and not following)


Place = tuple[int, int]
"""Of a block: the message's index, and its own."""


def places(messages: Sequence[Any]) -> Iterator[tuple[Place, Block]]:
    """Every block that is an object, with its place."""
    for index, message in enumerate(messages):
        content = message.get("content") if isinstance(message, dict) else None
        if isinstance(content, list):
            for position, block in enumerate(content):
                if isinstance(block, dict):
                    yield (index, position), block


def named_places(refusal: Refusal) -> frozenset[tuple[int, ...]]:
    """The blocks that a refusal names by their path: message, block, and a block inside that.

    Only paths in Anthropic's own forms count: others are those of a converted request.
    """
    found = set()
    for path in _PATH.finditer(refusal.text):
        inner = _INNER.search(path[3])
        steps = (path[1], path[2], *((inner[1],) if inner else ()))
        # A number too long to be an index would not be parsed.
        if all(len(step) < 10 for step in steps):
            found.add(tuple(int(step) for step in steps))
    return frozenset(found)


def counted(count: int, name: str, done: str) -> str:
    """How many were changed, in words: `2 images removed`; empty where none was."""
    return f"{count} {name}{'s' if count != 1 else ''} {done}" if count else ""


def summed(*parts: str) -> str:
    """What was changed, in one line."""
    return ", ".join(part for part in parts if part)
