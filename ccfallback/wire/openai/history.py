"""The conversation as Chat Completions messages.

First the client's messages become turns: blocks that cannot be sent are dropped, and adjacent
messages of one role are joined. Then each turn is written as messages, every call directly
followed by its result.

A block that the provider cannot take becomes a note in words, so that the model knows about it.
Tools that Anthropic ran cannot be offered to another provider: their calls and results become
words, too. Thinking is sent only if the provider wants it back.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, Final

import msgspec

from ccfallback.config.quirks import Quirks
from ccfallback.messages.body import decode_json
from ccfallback.messages.server_tools import server_tool_words
from ccfallback.messages.thinking import read_envelope
from ccfallback.messages.tools import NO_RESULT, ToolNames, available_note
from ccfallback.messages.turns import (
    blocks_of,
    kind_of,
    last_index,
    not_blank,
    objects_in,
    reminder,
)
from ccfallback.wire.openai.answer import SIGNED_CALL
from ccfallback.wire.openai.tools import provider_tool_id

Block = Mapping[str, Any]
"""A block of the client's request; not to be changed."""
Part = dict[str, Any]
"""A part of a message's content in the other format."""
Message = dict[str, Any]

_EPHEMERAL: Final = {"type": "ephemeral"}
_NO_OUTPUT: Final = "(no output)"
_UNSIGNED: Final = {"google": {"thought_signature": "skip_thought_signature_validator"}}
"""Gemini refuses a call without its own signature, unless the call says that it is foreign."""


def to_messages(history: object, quirks: Quirks, names: ToolNames) -> list[Message]:
    """The messages of a conversation, without the system prompt."""
    return _Writer(quirks, names).write(_turns(history, quirks))


# Blocks as parts


def to_parts(blocks: Iterable[Block], quirks: Quirks) -> list[Part]:
    """The parts for some blocks; blocks that only Anthropic understands are dropped."""
    parts: list[Part] = []
    for block in blocks:
        translate = _PARTS.get(kind_of(block))
        if translate is not None:
            translated = translate(block, quirks)
            if translated and quirks.cache_control and is_text(translated[-1]):
                translated[-1] = _with_cache_mark(translated[-1], block)
            parts += translated
    return parts


def to_content(parts: list[Part], *, joined: bool) -> str | list[Part]:
    """The content of a message: one string if that says it all, several texts only if `joined`."""
    is_plain = all(is_text(part) and "cache_control" not in part for part in parts)
    if is_plain and (joined or len(parts) == 1):
        return "\n\n".join(part["text"] for part in parts)
    return parts


def text_part(text: str) -> Part:
    """A part that is text."""
    return {"type": "text", "text": text}


def is_text(part: Part) -> bool:
    """Whether a part is text, not an attachment."""
    return bool(part["type"] == "text")


def _with_cache_mark(part: Part, block: Block) -> Part:
    """The part with the cache mark of its block, without Anthropic's options for it."""
    return {**part, "cache_control": _EPHEMERAL} if block.get("cache_control") else part


def _text(block: Block, quirks: Quirks) -> list[Part]:
    text = not_blank(block.get("text"))
    return [text_part(text)] if text else []


def _image(block: Block, quirks: Quirks) -> list[Part]:
    source = _source(block)
    kind, media = source.get("type"), not_blank(source.get("media_type"))
    url = ""
    if kind == "url":
        media = url = not_blank(source.get("url"))
    elif kind == "base64" and not_blank(source.get("data")):
        url = f"data:{media or 'image/png'};base64,{_without_space(source['data'])}"
    elif kind == "file":
        media = f"file {not_blank(source.get('file_id'))}"
    if quirks.images and url:
        return [{"type": "image_url", "image_url": {"url": url}}]
    return [text_part(_image_note(media))]


def _document(block: Block, quirks: Quirks) -> list[Part]:
    source = _source(block)
    title, context = not_blank(block.get("title")), not_blank(block.get("context"))
    head = [text for text in (title, context) if text]
    data = not_blank(source.get("data"))
    match source.get("type"):
        case "text":
            return [text_part("\n\n".join([*head, data]))] if head or data else []
        case "content":
            parts = to_parts(blocks_of(source.get("content")), quirks)
            return [text_part("\n\n".join(head)), *parts] if head else parts
        case "base64" if data and quirks.pdf:
            return _file(f"data:application/pdf;base64,{_without_space(data)}", title, context)
        case "url" if quirks.pdf_url and (url := not_blank(source.get("url"))):
            return _file(url, title, context)
        case "base64":
            what = "PDF omitted"
        case _:
            what = "document omitted"
            head.append(not_blank(source.get("url")) or not_blank(source.get("file_id")))
    return [text_part(f"[{what}: {', '.join(filter(None, head))}]" if any(head) else f"[{what}]")]


def _file(data: str, title: str, context: str) -> list[Part]:
    name = (title or "document").removesuffix(".pdf") + ".pdf"
    part: Part = {"type": "file", "file": {"filename": name, "file_data": data}}
    return [part, text_part(context)] if context else [part]


def _search_result(block: Block, quirks: Quirks) -> list[Part]:
    head = [not_blank(block.get("title")), not_blank(block.get("source"))]
    found = to_parts(blocks_of(block.get("content")), quirks)
    lines = [*filter(None, head), *(part["text"] for part in found if is_text(part))]
    return [text_part("\n".join(lines))] if lines else []


def _tool_reference(block: Block, quirks: Quirks) -> list[Part]:
    name = not_blank(block.get("tool_name"))
    return [text_part(available_note(name))] if name else []


def _compaction(block: Block, quirks: Quirks) -> list[Part]:
    summary = not_blank(block.get("content"))
    return [text_part(f"Summary of earlier conversation: {summary}")] if summary else []


def _upload(block: Block, quirks: Quirks) -> list[Part]:
    return [text_part(f"[file omitted: {not_blank(block.get('file_id')) or 'unnamed'}]")]


_PARTS: Final[Mapping[str, Callable[[Block, Quirks], list[Part]]]] = {
    "text": _text,
    "image": _image,
    "document": _document,
    "search_result": _search_result,
    "tool_reference": _tool_reference,
    "compaction": _compaction,
    "container_upload": _upload,
}
"""How each type of block is written."""


def _note_for(part: Part) -> str:
    """The words for an attachment, where only text may be."""
    if part["type"] == "image_url":
        url = part["image_url"]["url"]
        return _image_note(url[5:].partition(";")[0] if url.startswith("data:") else url)
    return f"[PDF omitted: {part['file']['filename']}]"


def _image_note(what: str) -> str:
    return f"[image omitted: {what}]" if what else "[image omitted]"


def _source(block: Block) -> Mapping[str, Any]:
    source = block.get("source")
    return source if isinstance(source, dict) else {}


def _without_space(data: str) -> str:
    # An image has megabytes: split and join it only if there is anything to remove.
    return "".join(data.split()) if any(space in data for space in " \n\r\t") else data


# Turns


class _User(msgspec.Struct):
    parts: list[Part] = []
    results: list[Block] = []


class _Assistant(msgspec.Struct):
    texts: list[str] = []
    calls: list[Block] = []
    thinking: list[str] = []
    details: list[Any] = []
    """What OpenRouter gave along with the thinking, and wants back unchanged."""
    signed: dict[int, Any] = {}
    """What Gemini gave along with a call and wants back, by the number of the call."""


class _System(msgspec.Struct):
    parts: list[Part]


_Turn = _User | _Assistant | _System


def _turns(history: object, quirks: Quirks) -> list[_Turn]:
    messages = objects_in(history)
    last_user = last_index(messages, "user")
    turns: list[_Turn] = []
    for index, message in enumerate(messages):
        for turn in _read(message, quirks, is_outdated=index < last_user):
            before = turns[-1] if turns else None
            if isinstance(turn, _System) and not _allows_system(before):
                turn = _User(_reminders(turn.parts))
            if before is None or not _join(before, turn):
                turns.append(turn)
    return turns


def _join(before: _Turn, turn: _Turn) -> bool:
    """Add a turn to the one before it, if both have the same role."""
    match before, turn:
        case _User(), _User():
            before.results += turn.results
            before.parts += turn.parts
        case _Assistant(), _Assistant():
            before.texts += turn.texts
            count = len(before.calls)
            before.signed |= {count + number: each for number, each in turn.signed.items()}
            before.calls += turn.calls
            before.thinking += turn.thinking
            before.details += turn.details
        case _System(), _System():
            before.parts += turn.parts
        case _:
            return False
    return True


def _allows_system(before: _Turn | None) -> bool:
    """Whether a system message may come next: not at the start, nor between calls and results."""
    return before is not None and not (isinstance(before, _Assistant) and before.calls)


def _read(message: Mapping[str, Any], quirks: Quirks, *, is_outdated: bool) -> Iterator[_Turn]:
    """The turns of one message; none if nothing of it can be sent."""
    blocks = blocks_of(message.get("content"))
    match message.get("role"):
        case "assistant":
            yield from _read_assistant(blocks, quirks)
        case "system" | "developer":
            if is_outdated and message.get("clear_at") == "next_user_message":
                return
            parts = to_parts(blocks, quirks)
            if parts:
                yield _System(parts) if quirks.system_inline else _User(_reminders(parts))
        case _:
            results: list[Block] = [each for each in blocks if kind_of(each) == "tool_result"]
            parts = to_parts(blocks, quirks)
            if results or parts:
                yield _User(parts, results)


def _read_assistant(blocks: Iterable[Block], quirks: Quirks) -> Iterator[_Turn]:
    blocks = list(blocks)
    summaries = to_parts((each for each in blocks if each.get("type") == "compaction"), quirks)
    if summaries:
        yield _User(summaries)
    turn = _Assistant()
    for block in blocks:
        match kind_of(block):
            case "text":
                turn.texts.append(not_blank(block.get("text")))
            case "tool_use":
                turn.calls += (block,) if not_blank(block.get("name")) else ()
            case "document":
                turn.texts += (part["text"] for part in to_parts((block,), quirks) if is_text(part))
            case "thinking":
                turn.thinking += filter(None, (not_blank(block.get("thinking")),))
                turn.details += _reasoning_details(block)
                envelope = read_envelope(block.get("signature")) or {}
                if isinstance(signed := envelope.get(SIGNED_CALL), dict):
                    # The thinking before a call keeps the signature of that call.
                    turn.signed[len(turn.calls)] = signed
            case _:
                turn.details += _reasoning_details(block)
                turn.texts.append(server_tool_words(block))
    turn.texts = [text for text in turn.texts if text]
    if turn.texts or turn.calls:
        yield turn


def _reasoning_details(block: Block) -> list[Any]:
    envelope = read_envelope(block.get("signature")) or {}
    details = envelope.get("reasoning_details")
    return details if isinstance(details, list) else []


def _reminders(parts: list[Part]) -> list[Part]:
    """The parts of a system message as parts of a user's turn."""
    return [{**part, "text": reminder(part["text"])} if is_text(part) else part for part in parts]


def _arguments(value: object) -> str:
    """A call's input as the other format has it: JSON in a string."""
    if isinstance(value, str):
        # Some clients keep the input as text.
        value = decode_json(value.encode(errors="replace"))
    return msgspec.json.encode(value).decode() if isinstance(value, dict) else "{}"


# Turns as messages


class _Call(msgspec.Struct, frozen=True):
    """A call that waits for its result."""

    client_id: str
    provider_id: str
    name: str


class _Attachments(msgspec.Struct):
    """What results contain besides text; it follows in the user message after them."""

    parts: list[Part] = []
    count: int = 0

    def add(self, part: Part, source: str) -> str:
        """Keep a part for later; returns the words for it in the result."""
        self.count += 1
        noun = {"image_url": "image", "file": "document"}[part["type"]]
        self.parts += [text_part(f"[{noun} {self.count} of {source}]"), part]
        return f"[{noun} {self.count} attached below]"


class _Writer:
    """Writes turns as messages."""

    def __init__(self, quirks: Quirks, names: ToolNames) -> None:
        self._quirks = quirks
        self._names = names
        self._messages: list[Message] = []
        self._waiting: list[_Call] = []
        self._has_called = False

    def write(self, turns: list[_Turn]) -> list[Message]:
        """The messages of all turns."""
        for index, turn in enumerate(turns):
            if isinstance(turn, _Assistant):
                self._write_user(_User())
                self._write_assistant(turn, is_last=index == len(turns) - 1)
            elif isinstance(turn, _System):
                content = to_content(turn.parts, joined=self._quirks.string_content)
                self._messages.append({"role": "system", "content": content})
            else:
                self._write_user(turn)
        self._write_user(_User())
        return self._messages

    def _write_assistant(self, turn: _Assistant, *, is_last: bool) -> None:
        text = "\n\n".join(turn.texts)
        message: Message = {"role": "assistant", "content": text}
        if not text:
            message["content"] = None if self._quirks.null_content else ""
        calls = self._calls(turn)
        self._has_called = self._has_called or bool(calls)
        wanted = self._quirks.reasoning_content
        if wanted == "all" or (wanted == "calls" and self._has_called):
            # A provider that wants thinking back wants the member even if there is none.
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

    def _calls(self, turn: _Assistant) -> list[dict[str, Any]]:
        calls: list[dict[str, Any]] = []
        taken: set[str] = set()
        counts: dict[str, int] = {}
        for block in turn.calls:
            client_id = not_blank(block.get("id"))
            tool_id = self._free_id(client_id, taken, counts)
            taken.add(tool_id)
            name = self._names.to_provider(block["name"])
            self._waiting.append(_Call(client_id, tool_id, name))
            function = {"name": name, "arguments": _arguments(block.get("input"))}
            calls.append({"id": tool_id, "type": "function", "function": function})
        if calls and self._quirks.thought_signature:
            calls[0][SIGNED_CALL] = _UNSIGNED
            for number, signed in turn.signed.items():
                if number < len(calls):
                    calls[number][SIGNED_CALL] = signed
        return calls

    def _free_id(self, client_id: str, taken: set[str], counts: dict[str, int]) -> str:
        """The provider's id for a call, which differs from those of the turn's other calls.

        `counts` says how often each id has been tried.
        """
        tool_id = provider_tool_id(client_id or "call", self._quirks.tool_id_style)
        while tool_id in taken:
            counts[client_id] = count = counts.get(client_id, 1) + 1
            tool_id = provider_tool_id(f"{client_id}_{count}", self._quirks.tool_id_style)
        return tool_id

    def _write_user(self, turn: _User) -> None:
        """Write the results of the waiting calls, and then the user's other parts."""
        results: dict[str, list[Block]] = {}
        for block in turn.results:
            results.setdefault(not_blank(block.get("tool_use_id")), []).append(block)
        attachments = _Attachments()
        is_after_calls = bool(self._waiting)
        for call in self._waiting:
            found = results.get(call.client_id)
            block = found.pop(0) if found else {"content": NO_RESULT}
            self._messages.append(self._result_message(block, call, attachments))
        self._waiting = []
        orphans = [self._orphan(block, attachments) for left in results.values() for block in left]
        parts = [*attachments.parts, *orphans, *turn.parts]
        if parts and is_after_calls and not self._quirks.user_after_tool:
            _append_words(self._messages[-1], parts)
        elif parts:
            content = to_content(parts, joined=self._quirks.string_content)
            self._messages.append({"role": "user", "content": content})

    def _result_message(self, block: Block, call: _Call, attachments: _Attachments) -> Message:
        """The message that answers a call; it may contain only text."""
        source = f"tool result {call.provider_id}, {call.name}"
        text = self._result_text(block, source, attachments)
        part = _with_cache_mark(text_part(text), block)
        is_marked = self._quirks.cache_control and "cache_control" in part
        content = [part] if is_marked else text
        return {"role": "tool", "tool_call_id": call.provider_id, "content": content}

    def _orphan(self, block: Block, attachments: _Attachments) -> Part:
        """A result without a call as text: as a result, the provider would refuse it."""
        source = f"tool result {not_blank(block.get('tool_use_id'))}"
        return text_part(f"[{source}] {self._result_text(block, source, attachments)}")

    def _result_text(self, block: Block, source: str, attachments: _Attachments) -> str:
        """The text of a result, with words for its attachments."""
        lines: list[str] = []
        for part in to_parts(_result_blocks(block.get("content")), self._quirks):
            if is_text(part):
                lines.append(part["text"])
            elif self._quirks.user_after_tool:
                lines.append(attachments.add(part, source))
            else:
                lines.append(_note_for(part))
        text = "\n".join(lines) or _NO_OUTPUT
        if block.get("is_error") is True and not text.lower().startswith("error"):
            return f"Error: {text}"
        return text


def _result_blocks(content: object) -> list[Any]:
    """The blocks of a result; an object of another kind is shown as JSON."""
    if isinstance(content, dict):
        known = kind_of(content) in _PARTS
        content = [content] if known else msgspec.json.encode(content).decode()
    return blocks_of(content)


def _append_words(message: Message, parts: list[Part]) -> None:
    """Add parts to a tool message, where no user message may follow it."""
    texts = [part["text"] if is_text(part) else _note_for(part) for part in parts]
    content = message["content"]
    if isinstance(content, list):
        content += [text_part(text) for text in texts]
    else:
        message["content"] = "\n\n".join([content, *texts])
