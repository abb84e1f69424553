"""The conversation as messages of the OpenAI format.

First the client's messages become turns: what can't be sent is gone, what follows each other in
the same role is one. Then each turn is written out, and every call is followed by its result.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from ccfallback.config.quirks import Quirks
from ccfallback.messages.tools import ToolNames
from ccfallback.wire.openai.assistant import arguments_of, details_of, summary_of, thinking_of
from ccfallback.wire.openai.content import (
    Block,
    Part,
    blocks_of,
    content_of,
    is_text,
    parts_of,
    said,
    text_part,
)
from ccfallback.wire.openai.names import provider_tool_id
from ccfallback.wire.openai.results import (
    NO_RESULT,
    Attachments,
    append,
    id_of,
    result_message,
    result_text,
)

Message = dict[str, Any]

_UNSIGNED: Final = {"google": {"thought_signature": "skip_thought_signature_validator"}}
"""Gemini refuses calls without its signature, save those that say they come from elsewhere."""


@dataclass(slots=True)
class _User:
    parts: list[Part] = field(default_factory=list)
    results: list[Block] = field(default_factory=list)

    def takes(self, other: object) -> bool:
        """Take the next turn in, if it is of the same role."""
        if not isinstance(other, _User):
            return False
        self.parts += other.parts
        self.results += other.results
        return True


@dataclass(slots=True)
class _Assistant:
    texts: list[str] = field(default_factory=list)
    calls: list[Block] = field(default_factory=list)
    thinking: list[str] = field(default_factory=list)
    details: list[Any] = field(default_factory=list)

    def takes(self, other: object) -> bool:
        """Take the next turn in, if it is of the same role."""
        if not isinstance(other, _Assistant):
            return False
        self.texts += other.texts
        self.calls += other.calls
        self.thinking += other.thinking
        self.details += other.details
        return True


@dataclass(slots=True)
class _System:
    parts: list[Part]

    def takes(self, other: object) -> bool:
        """Take the next turn in, if it is of the same role."""
        if not isinstance(other, _System):
            return False
        self.parts += other.parts
        return True


@dataclass(frozen=True, slots=True)
class _Call:
    """A call that waits for its result."""

    client_id: str
    provider_id: str
    name: str


_Turn = _User | _Assistant | _System


def to_messages(history: object, quirks: Quirks, names: ToolNames) -> list[Message]:
    """The messages that tell the same conversation, the system prompt aside."""
    return _Writer(quirks, names).write(_turns(history, quirks))


def _turns(history: object, quirks: Quirks) -> list[_Turn]:
    messages = [message for message in _list(history) if isinstance(message, dict)]
    last_user = max(
        (index for index, message in enumerate(messages) if message.get("role") == "user"),
        default=-1,
    )
    turns: list[_Turn] = []
    for index, message in enumerate(messages):
        for turn in _read(message, quirks, outdated=index < last_user):
            before = turns[-1] if turns else None
            if isinstance(turn, _System) and not _may_follow(before):
                turn = _User(_reminders(turn.parts))
            if before is None or not before.takes(turn):
                turns.append(turn)
    return turns


def _may_follow(before: _Turn | None) -> bool:
    """Whether a system message may stand here: not in front, nor between calls and results."""
    return before is not None and not (isinstance(before, _Assistant) and before.calls)


def _read(message: Mapping[str, Any], quirks: Quirks, *, outdated: bool) -> Iterator[_Turn]:
    """The turns that one message is; none where nothing of it can be sent."""
    blocks = blocks_of(message.get("content"))
    match message.get("role"):
        case "assistant":
            yield from _read_assistant(blocks, quirks)
        case "system" | "developer":
            if outdated and message.get("clear_at") == "next_user_message":
                return
            parts = parts_of(blocks, quirks)
            if parts:
                yield _System(parts) if quirks.system_inline else _User(_reminders(parts))
        case _:
            results = [block for block in blocks if block.get("type") == "tool_result"]
            parts = parts_of(blocks, quirks)
            if results or parts:
                yield _User(parts, results)


def _read_assistant(blocks: list[Block], quirks: Quirks) -> Iterator[_Turn]:
    summaries = [block for block in blocks if block.get("type") == "compaction"]
    told = parts_of(summaries, quirks)
    if told:
        yield _User(told)
    turn = _Assistant()
    for block in blocks:
        kind = block.get("type")
        if kind == "text":
            turn.texts += filter(None, (said(block.get("text")),))
        elif kind == "tool_use":
            turn.calls += (block,) if said(block.get("name")) else ()
        elif kind == "document":
            turn.texts += (part["text"] for part in parts_of((block,), quirks) if is_text(part))
        else:
            turn.thinking += filter(None, (thinking_of(block),))
            turn.details += details_of(block)
            turn.texts += filter(None, (summary_of(block),))
    if turn.texts or turn.calls:
        yield turn


def _reminders(parts: list[Part]) -> list[Part]:
    """System messages as the user's side of the conversation may bring them up."""
    return [
        {**part, "text": f"<system-reminder>\n{part['text']}\n</system-reminder>"}
        if is_text(part)
        else part
        for part in parts
    ]


class _Writer:
    """Writes turns out as messages."""

    def __init__(self, quirks: Quirks, names: ToolNames) -> None:
        self._quirks = quirks
        self._names = names
        self._messages: list[Message] = []
        self._waiting: list[_Call] = []
        self._called = False

    def write(self, turns: list[_Turn]) -> list[Message]:
        """The messages of all turns."""
        for index, turn in enumerate(turns):
            if isinstance(turn, _Assistant):
                self._answer_calls(_User())
                self._assistant(turn, is_last=index == len(turns) - 1)
            elif isinstance(turn, _System):
                content = content_of(turn.parts, joined=self._quirks.string_content)
                self._messages.append({"role": "system", "content": content})
            else:
                self._answer_calls(turn)
        self._answer_calls(_User())
        return self._messages

    def _assistant(self, turn: _Assistant, *, is_last: bool) -> None:
        text = "\n\n".join(turn.texts)
        message: Message = {"role": "assistant", "content": text}
        if not text:
            message["content"] = None if self._quirks.null_content else ""
        calls = self._calls(turn.calls)
        self._called = self._called or bool(calls)
        back = self._quirks.reasoning_content
        if back == "all" or (back == "calls" and self._called):
            # A provider that wants it back wants the member even if there is nothing in it.
            message["reasoning_content"] = "\n\n".join(turn.thinking)
        if turn.details and self._quirks.reasoning == "openrouter":
            message["reasoning_details"] = turn.details
        if calls:
            message["tool_calls"] = calls
        elif is_last:
            message["content"] = text.rstrip()
            if self._quirks.prefill != "plain":
                message[self._quirks.prefill] = True
        self._messages.append(message)

    def _calls(self, blocks: list[Block]) -> list[dict[str, Any]]:
        calls: list[dict[str, Any]] = []
        taken: set[str] = set()
        for block in blocks:
            client_id = said(block.get("id"))
            tool_id = self._free_id(client_id, taken)
            taken.add(tool_id)
            name = self._names.to_provider(block["name"])
            self._waiting.append(_Call(client_id, tool_id, name))
            function = {"name": name, "arguments": arguments_of(block.get("input"))}
            calls.append({"id": tool_id, "type": "function", "function": function})
        if calls and self._quirks.thought_signature:
            calls[0]["extra_content"] = _UNSIGNED
        return calls

    def _free_id(self, client_id: str, taken: set[str]) -> str:
        """The provider's id for a call, another one where two calls of a turn share theirs."""
        tool_id = provider_tool_id(client_id or "call", self._quirks.tool_id_style)
        count = 1
        while tool_id in taken:
            count += 1
            tool_id = provider_tool_id(f"{client_id}_{count}", self._quirks.tool_id_style)
        return tool_id

    def _answer_calls(self, turn: _User) -> None:
        """Write the results of the calls that wait, and then what else the user said."""
        results: dict[str, list[Block]] = {}
        for block in turn.results:
            results.setdefault(id_of(block), []).append(block)
        attachments = Attachments()
        answered = bool(self._waiting)
        for call in self._waiting:
            found = results.get(call.client_id)
            block = found.pop(0) if found else {"content": NO_RESULT}
            source = f"tool result {call.provider_id}, {call.name}"
            self._messages.append(
                result_message(block, call.provider_id, source, self._quirks, attachments)
            )
        self._waiting = []
        orphans = [self._orphan(block, attachments) for left in results.values() for block in left]
        parts = [*attachments.parts, *orphans, *turn.parts]
        if parts and answered and not self._quirks.user_after_tool:
            append(self._messages[-1], parts)
        elif parts:
            content = content_of(parts, joined=self._quirks.string_content)
            self._messages.append({"role": "user", "content": content})

    def _orphan(self, block: Block, attachments: Attachments) -> Part:
        """A result without a call is refused as such, but still says something."""
        source = f"tool result {id_of(block)}"
        return text_part(f"[{source}] {result_text(block, source, self._quirks, attachments)}")


def _list(value: object) -> list[Any]:
    return value if isinstance(value, list) else []
