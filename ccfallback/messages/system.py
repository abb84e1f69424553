"""The system prompt, and the `role: "system"` messages within a conversation.

For a provider that knows no such messages, the user's turns carry their words as reminders, the
effort that they set is set for the whole request, and the tools that they add or remove are
added or removed at once.
"""

import re
from typing import Any, Final

import msgspec

from ccfallback.messages.body import Body
from ccfallback.messages.edit import map_items, only, raw_with_content, raw_with_more
from ccfallback.messages.effort import with_efforts_at_the_top
from ccfallback.messages.tools import tool_changes, tools_after_changes
from ccfallback.messages.turns import (
    TOOL_CHANGES,
    Block,
    blocks_of,
    kind_of,
    last_index,
    reminder,
    role_of,
    string,
    user_message,
)

BILLING_MARK: Final = "x-anthropic-billing-header:"
"""How the client's attribution line begins; other providers refuse it."""


_BILLING_LINE: Final = re.compile(rf"(?:\A\s*|^[ \t]*){BILLING_MARK}.*(?:\n+|\Z)", re.MULTILINE)


def without_billing(body: Body) -> Body:
    """The body without the attribution line in its system prompt.

    Only the line goes. A relay may have joined it with the rest of the prompt in one block.
    """
    system = body.get("system")
    if isinstance(system, list):
        kept = []
        for block in system:
            text = string(block, "text")
            rest = _without_line(text)
            if rest is text:
                kept.append(block)
            elif rest.strip():
                kept.append({**block, "text": rest})
        if kept == system:
            return body
        return body.with_members(system=kept) if kept else body.without("system")
    rest = _without_line(system) if isinstance(system, str) else system
    if rest is system:
        return body
    return body.with_members(system=rest) if rest else body.without("system")


def _without_line(text: str) -> str:
    """A text without the attribution line; the very same text if it has none."""
    if BILLING_MARK not in text:
        return text
    rest = _BILLING_LINE.sub("", text)
    return text if rest == text else rest


def count_system_messages(body: Body) -> int:
    """The number of system messages in the conversation."""
    return sum(role_of(message) == "system" for message in body.messages)


def has_system_messages(body: Body) -> bool:
    """Whether there is a system message in the conversation."""
    return any(role_of(message) == "system" for message in body.messages)


def has_tool_changes(body: Body) -> bool:
    """Whether a message adds or removes tools."""
    return next(tool_changes(body), None) is not None


def with_tool_changes_made(body: Body) -> Body:
    """The body with `tools` as the conversation leaves them, and no message that changes them."""
    if not has_tool_changes(body):
        return body

    def change(message: Any, raw: msgspec.Raw) -> msgspec.Raw | None:
        content = message.get("content") if isinstance(message, dict) else None
        blocks = content if isinstance(content, list) else []
        stays = [kind_of(block) not in TOOL_CHANGES for block in blocks]
        if all(stays):
            return raw
        if not any(stays) and "output_config" not in message:
            return None
        return raw_with_content(raw, only(stays))

    tools = tools_after_changes(body)
    changed = map_items(body, "messages", change)
    return changed if tools == body.get("tools") else changed.with_members(tools=tools)


def without_system_messages(body: Body) -> Body:
    """The body with the words of its system messages in the user's turns."""
    if not has_system_messages(body):
        return body
    body = with_efforts_at_the_top(with_tool_changes_made(body))
    last_user = last_index(body.messages, "user")
    turns = _Turns()
    for index, (message, raw) in enumerate(zip(body.messages, body.items("messages"), strict=True)):
        if role_of(message) != "system":
            turns.add(message, raw)
        elif index > last_user or message.get("clear_at") != "next_user_message":
            turns.remind(_reminders(message.get("content")))
    return body.with_items("messages", turns.finish())


class _Turns:
    """Messages without system messages; their words wait for a user message to carry them."""

    def __init__(self) -> None:
        self._made: list[tuple[str, object]] = []
        self._waiting: list[Block] = []

    def add(self, message: object, raw: msgspec.Raw) -> None:
        """Add the next message. A user's blocks stay first, since tool results have to be."""
        role = role_of(message)
        if role == "user" and self._waiting:
            raw, self._waiting = raw_with_more(message, raw, self._waiting), []
        self._flush()
        self._made.append((role, raw))

    def remind(self, reminders: list[Block]) -> None:
        """Add the words of a system message to the user message before it, or let them wait."""
        role, last = self._made[-1] if self._made else ("", None)
        if reminders and role == "user" and isinstance(last, msgspec.Raw):
            message = msgspec.json.decode(last)
            self._made[-1] = ("user", raw_with_more(message, last, reminders))
        else:
            self._waiting += reminders

    def finish(self) -> list[object]:
        """All messages."""
        self._flush()
        return [raw for _, raw in self._made]

    def _flush(self) -> None:
        if self._waiting:
            message = user_message(*self._waiting)
            self._made.append(("user", msgspec.Raw(msgspec.json.encode(message))))
            self._waiting = []


def _reminders(content: object) -> list[Block]:
    return [
        {**block, "text": reminder(block["text"])}
        for block in blocks_of(content)
        if kind_of(block) == "text" and string(block, "text").strip()
    ]
