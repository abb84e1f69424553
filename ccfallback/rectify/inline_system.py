"""What stands in `role: "system"` messages, for those who know no such messages.

Their words are shown to the model as reminders in the user's turn, the effort that they set is
set for the whole request, and the tools that they bring or take are brought or taken at once.
"""

from collections.abc import Iterator, Mapping
from typing import Any, Final

import msgspec

from ccfallback.messages.body import Body
from ccfallback.rectify.parts import (
    blocks_of,
    kind_of,
    messages_of,
    raw_messages,
    role_of,
    with_content,
    with_list,
    with_members,
    with_messages,
)

_CHANGES: Final = frozenset({"tool_addition", "tool_removal"})


def has_system(body: Body) -> bool:
    """Whether there is a system message among the messages."""
    return any(role_of(message) == "system" for message in messages_of(body))


def has_tool_changes(body: Body) -> bool:
    """Whether a message brings or takes tools."""
    return next(_changes(body), None) is not None


def has_efforts(body: Body) -> bool:
    """Whether a message sets an effort, or anything else of its own."""
    return any(
        isinstance(message, dict) and "output_config" in message for message in messages_of(body)
    )


def folded(body: Body) -> Body:
    """A body without system messages: the user's turns say what they said."""
    if not has_system(body):
        return body
    body = with_efforts_on_top(with_tool_changes_made(body))
    messages, raws = messages_of(body), raw_messages(body)
    last_user = max(
        (index for index, message in enumerate(messages) if role_of(message) == "user"), default=-1
    )
    turns = _Turns()
    for index, (message, raw) in enumerate(zip(messages, raws, strict=True)):
        if role_of(message) != "system":
            turns.take(message, raw)
        elif not (index < last_user and message.get("clear_at") == "next_user_message"):
            turns.remind(_reminders(message.get("content")))
    return with_messages(body, turns.finish())


def with_efforts_on_top(body: Body) -> Body:
    """A body in which no message has an `output_config`, and the last effort counts for all."""
    efforts = [
        message["output_config"].get("effort")
        for message in messages_of(body)
        if isinstance(message, dict) and isinstance(message.get("output_config"), dict)
    ]
    effort = next((one for one in reversed(efforts) if isinstance(one, str)), None)

    def change(message: Any, raw: msgspec.Raw) -> msgspec.Raw | None:
        if not isinstance(message, dict) or "output_config" not in message:
            return raw
        # A system message that only set an effort has nothing left to say.
        is_empty = role_of(message) == "system" and not message.get("content")
        return None if is_empty else with_members(raw, output_config=None)

    changed = with_list(body, "messages", change)
    if changed is body or effort is None:
        return changed
    config = body.get("output_config")
    return changed.with_members(
        output_config={**(config if isinstance(config, dict) else {}), "effort": effort}
    )


def with_tool_changes_made(body: Body) -> Body:
    """A body in which no message brings or takes tools: `tools` is what they made of it."""
    if not has_tool_changes(body):
        return body
    tools = body.get("tools")
    made = _tools_after(list(tools) if isinstance(tools, list) else [], _changes(body))

    def change(message: Any, raw: msgspec.Raw) -> msgspec.Raw | None:
        stays = [kind_of(block) not in _CHANGES for block in blocks_of(message)]
        if all(stays):
            return raw
        if not any(stays) and "output_config" not in message:
            return None
        return with_content(
            raw, lambda raws: [one for one, stay in zip(raws, stays, strict=True) if stay]
        )

    changed = with_list(body, "messages", change)
    return changed if made == tools else changed.with_members(tools=made)


class _Turns:
    """Messages without system messages; what those said waits for a user to say it."""

    def __init__(self) -> None:
        self._made: list[tuple[object, object]] = []
        self._waiting: list[Any] = []

    def take(self, message: object, raw: msgspec.Raw) -> None:
        """The next message. A user's comes first, because of the tool results in it."""
        role = role_of(message)
        if role == "user" and self._waiting:
            raw, self._waiting = _saying_more(message, raw, self._waiting), []
        self._say()
        self._made.append((role, raw))

    def remind(self, reminders: list[Any]) -> None:
        """What a system message said."""
        if not reminders:
            return
        role, last = self._made[-1] if self._made else (None, None)
        if role == "user" and isinstance(last, msgspec.Raw):
            message = msgspec.json.decode(last)
            self._made[-1] = ("user", _saying_more(message, last, reminders))
        else:
            self._waiting += reminders

    def finish(self) -> list[object]:
        """All messages."""
        self._say()
        return [raw for _, raw in self._made]

    def _say(self) -> None:
        if self._waiting:
            said = {"role": "user", "content": self._waiting}
            self._made.append(("user", msgspec.Raw(msgspec.json.encode(said))))
            self._waiting = []


def _saying_more(message: Any, raw: msgspec.Raw, reminders: list[Any]) -> msgspec.Raw:
    content = message.get("content")
    if isinstance(content, list):
        return with_content(raw, lambda blocks: [*blocks, *reminders])
    said = [{"type": "text", "text": content}] if isinstance(content, str) and content else []
    return with_members(raw, content=[*said, *reminders])


def _reminders(content: object) -> list[dict[str, Any]]:
    blocks = [{"type": "text", "text": content}] if isinstance(content, str) else content
    return [
        {**block, "text": f"<system-reminder>\n{block['text']}\n</system-reminder>"}
        for block in (blocks if isinstance(blocks, list) else ())
        if kind_of(block) == "text" and isinstance(block.get("text"), str) and block["text"].strip()
    ]


def _changes(body: Body) -> Iterator[Mapping[str, Any]]:
    for message in messages_of(body):
        for block in blocks_of(message):
            if kind_of(block) in _CHANGES:
                yield block


def _tools_after(tools: list[Any], changes: Iterator[Mapping[str, Any]]) -> list[Any]:
    known = {name: tool for tool in tools if (name := _name(tool))}
    for block in changes:
        given = block.get("tool")
        tool = given if isinstance(given, dict) else {}
        definition = tool.get("definition")
        name = _name(definition) or _name(tool)
        if not name:
            continue
        others = [one for one in tools if _name(one) != name]
        if block["type"] == "tool_removal":
            tools = others
        elif isinstance(definition, dict):
            tools = [*others, definition]
        elif name in known:
            awake = {key: value for key, value in known[name].items() if key != "defer_loading"}
            tools = [awake if _name(one) == name else one for one in tools]
            tools = tools if any(_name(one) == name for one in tools) else [*tools, awake]
    return tools


def _name(tool: object) -> str:
    name = tool.get("name") if isinstance(tool, dict) else None
    return name if isinstance(name, str) else ""
