"""The order of a conversation: roles that alternate, its end, and what a message may contain."""

import re
from collections.abc import Sequence
from typing import Any, Final

from ccfallback.messages.body import Body
from ccfallback.messages.system import (
    count_system_messages,
    has_system_messages,
    without_system_messages,
)
from ccfallback.messages.tools import has_deferred, with_all_loaded
from ccfallback.messages.turns import (
    SERVER_CALLS,
    SPOKEN,
    THOUGHTS,
    Block,
    content_list,
    is_same,
    is_server_result,
    kind_of,
    map_blocks,
    map_messages,
    places,
    results_first,
    role_of,
    string,
    text_block,
    texts_in,
    user_message,
    with_content,
    without_empty_messages,
)
from ccfallback.policy.draft import RequestDraft
from ccfallback.rectify.rule import (
    Refusal,
    Repaired,
    Rule,
    describe,
    repaired,
    repaired_messages,
    says,
)
from ccfallback.rectify.tool_results import pair

# --- System messages ---


def _fold(draft: RequestDraft, _found: object) -> Repaired | None:
    count = count_system_messages(draft.body)
    changed = describe(count, "system message", "folded into user messages")
    return repaired(draft, without_system_messages(draft.body), changed)


def _fold_system(body: Body) -> tuple[Body, str]:
    """The body without system messages, and the words for it."""
    count = count_system_messages(body)
    return without_system_messages(body), describe(count, "system message", "told by the user")


# --- Types of blocks ---

_SEARCH_RESULT: Final = "search_result"
_MEANINGLESS: Final = frozenset({"container_upload", "fallback", "connector_text"})
"""Types of which nothing can be said to a provider that does not know them."""

_UNKNOWN: Final = says(
    r"input tag (?P<tag>[a-z_]+) found using type does not match any of the expected tags",
    r"unknown variant (?P<variant>[a-z_]+), expected",
    # vLLM names no type; of those that the client sends, it does not know this one.
    r"(?P<nameless>unexpected item type in content)",
)


def _unknown_type(refusal: Refusal) -> str:
    found = _UNKNOWN(refusal)
    if found is None:
        return ""
    return "tool_reference" if found["nameless"] else found["tag"] or found["variant"]


def _without_type(draft: RequestDraft, kind: str) -> Repaired | None:
    """Put blocks of this type into words if they say something, or else remove them."""
    lesson = f"input tag '{kind}' found using 'type' does not match any of the expected tags"
    if kind == "tool_reference":
        body = with_all_loaded(draft.body) if has_deferred(draft.body) else draft.body
        return repaired(
            draft, body, "deferred tools loaded, references said in words", lesson=lesson
        )
    messages = draft.body.messages
    if kind == _SEARCH_RESULT:
        made, changed = map_messages(messages, _in_words), "search results said in words"
    elif goes := next((fits for fits in _REMOVED_TOGETHER if fits({"type": kind})), None):
        made = map_messages(messages, lambda block: None if goes(block) else block)
        count = sum(goes(block) for _, block in places(messages))
        changed = describe(count, "block", "of an unknown kind removed")
    else:
        return None
    if is_same(made, messages):
        return None
    return repaired_messages(draft, without_empty_messages(made), changed, lesson=lesson)


def _is_meaningless(block: object) -> bool:
    return kind_of(block) in _MEANINGLESS


def _is_of_server_tool(block: object) -> bool:
    return kind_of(block) in SERVER_CALLS | {"mcp_tool_listing"} or is_server_result(block)


_REMOVED_TOGETHER: Final = (_is_meaningless, _is_of_server_tool)


def _in_words(block: Block) -> Block:
    """A block with words for a search result: itself, or one in a tool's result."""
    if kind_of(block) != "tool_result":
        return _search_result_as_text(block)
    content = block.get("content")
    new = map_blocks(content, _search_result_as_text)
    return block if new is content else {**block, "content": new}


def _search_result_as_text(block: Block) -> Block:
    if kind_of(block) != _SEARCH_RESULT:
        return block
    parts = [string(block, "title"), string(block, "source"), *texts_in(block)]
    return text_block("\n\n".join(filter(str.strip, parts)) or "[search result]", like=block)


# --- Empty texts ---


def _without_empty(draft: RequestDraft, _found: object) -> Repaired | None:
    """Remove texts that say nothing; a cache mark on one goes to the block before it."""
    messages, body = draft.body.messages, draft.body
    kept = without_empty_messages([_without_blanks(message) for message in messages])
    if kept != messages:
        body = body.with_items("messages", kept)
    removed = sum(map(_count_blanks, messages)) + _count_blanks({"content": body.get("system")})
    empty = sum(isinstance(each, dict) and each.get("content") == [] for each in messages)
    return repaired(
        draft,
        _without_blank_system(body),
        describe(removed, "empty text", "removed")
        or describe(empty, "empty message", "filled or removed"),
    )


def _without_blank_system(body: Body) -> Body:
    system = body.get("system")
    kept = None if _is_blank(system) else _without_blank_blocks(system)
    if kept is system:
        return body
    return body.with_members(system=kept) if kept else body.without("system")


def _without_blanks(message: Any) -> Any:
    content = message.get("content") if isinstance(message, dict) else None
    if _is_blank(content):
        return with_content(message, [])
    kept = _without_blank_blocks(content)
    return message if kept is content else {**message, "content": kept}


def _without_blank_blocks(content: Any, *, nested: bool = False) -> Any:
    """A content without empty texts; the very same object if there are none."""
    if not isinstance(content, list):
        return content
    kept: list[Any] = []
    for block in content:
        if _is_blank_text(block):
            _hand_over(kept, block.get("cache_control"))
            continue
        inner = block.get("content") if kind_of(block) == "tool_result" and not nested else None
        new = _without_blank_blocks(inner, nested=True)
        kept.append(block if new is inner else {**block, "content": new})
    return content if is_same(kept, content) else kept


def _hand_over(kept: list[Any], mark: Any) -> None:
    """Give a cache mark to the last block that may have one and has none."""
    for index in reversed(range(len(kept)) if mark else ()):
        block = kept[index]
        if isinstance(block, dict) and kind_of(block) not in THOUGHTS:
            # A block with a mark of its own ends a cached part already.
            if not block.get("cache_control"):
                kept[index] = {**block, "cache_control": mark}
            return


def _count_blanks(message: Any) -> int:
    content = message.get("content") if isinstance(message, dict) else None
    if not isinstance(content, list):
        return int(_is_blank(content))
    return sum(
        _count_blanks(block)
        if kind_of(block) == "tool_result" and isinstance(block.get("content"), list)
        else _is_blank_text(block)
        for block in content
    )


def _is_blank_text(block: Any) -> bool:
    return kind_of(block) == "text" and _is_blank(block.get("text"))


def _is_blank(value: Any) -> bool:
    return isinstance(value, str) and not value.strip()


# --- Citations and documents ---

_FORBIDDEN: Final = (
    r"(?:not (?:be )?(?:allowed|permitted|supported)|unsupported|(?:can|may|must) ?not|only)"
)
_CITATIONS: Final = says(
    rf"\bcitations?\b.{{0,80}}{_FORBIDDEN}.{{0,80}}\b(?:user|text)\b",
    rf"\bcitations?\b.{{0,80}}\b(?:user|text)\b.{{0,80}}{_FORBIDDEN}",
    rf"\bdocument\b.{{0,80}}{_FORBIDDEN}.{{0,80}}\b(?:assistant|user)\b",
    rf"\bdocument\b.{{0,80}}\bassistant\b.{{0,80}}{_FORBIDDEN}",
)


def _is_about_citations(refusal: Refusal) -> bool:
    # A field that is unknown is another rule's.
    is_unknown = "extra inputs are not permitted" in refusal.text
    return not is_unknown and bool(_CITATIONS(refusal))


def _without_citations(draft: RequestDraft, _found: object) -> Repaired | None:
    """Remove citations from the user's texts, and put the assistant's documents into words."""
    changes = {"user": _without_citation, "assistant": _document_as_text}
    counts = dict.fromkeys(changes, 0)
    made: list[Any] = []
    for message in draft.body.messages:
        role, new = role_of(message), message
        if role in changes:
            content = map_blocks(message.get("content"), changes[role])
            if content is not message.get("content"):
                new = {**message, "content": content}
                counts[role] += 1
        made.append(new)
    return repaired_messages(
        draft,
        made,
        describe(counts["user"], "user message", "left without citations"),
        describe(counts["assistant"], "assistant message", "with documents turned into text"),
    )


def _without_citation(block: Block) -> Block:
    if kind_of(block) != "text" or not block.get("citations"):
        return block
    return {key: value for key, value in block.items() if key != "citations"}


def _document_as_text(block: Block) -> Block:
    """A document as its text; as a note if it has none."""
    if kind_of(block) != "document":
        return block
    source, title = block.get("source"), string(block, "title")
    said = texts_in(source)
    if string(source, "type") == "text":
        said.append(string(source, "data"))
    words = "\n\n".join(filter(str.strip, [title, string(block, "context"), *said]))
    if not any(map(str.strip, said)):
        words = f"[document omitted: {title}]" if title.strip() else "[document omitted]"
    return text_block(words, like=block)


# --- After a tool's result ---


def _move_into_results(draft: RequestDraft, _found: object) -> Repaired | None:
    """Put what the user says after a tool's result into the last result, for a provider that
    accepts nothing but an answer there. A picture can't be part of it: a note replaces it."""
    body, folded = _fold_system(draft.body)
    messages = body.messages
    made: list[Any] = []
    moved = omitted = index = 0
    while index < len(messages):
        first = index
        index += 1
        results = _results_in(messages[first])
        if role_of(messages[first]) != "user" or not results:
            made.append(messages[first])
            continue
        while index < len(messages) and role_of(messages[index]) == "user":
            results += _results_in(messages[index])
            index += 1
        turn = messages[first:index]
        said = _said_in(turn)
        plain = [_with_notes(result) for result in results]
        lost = sum(new is not old for new, old in zip(plain, results, strict=True))
        if not said and not lost and len(turn) == 1:
            made.append(messages[first])
            continue
        moved += len(said)
        omitted += lost
        if said:
            plain[-1] = with_content(plain[-1], [*content_list(plain[-1]), *said])
        made.append(with_content(messages[first], plain))
    if not moved and not omitted:
        return None
    return repaired(
        draft,
        body.with_items("messages", made),
        folded,
        describe(moved, "text", "moved into tool results"),
        describe(omitted, "tool result", "left without pictures"),
    )


def _results_in(message: object) -> list[Block]:
    return [block for block in content_list(message) if kind_of(block) == "tool_result"]


def _said_in(turn: Sequence[Any]) -> list[Block]:
    """What a turn says besides the results."""
    blocks = [block for message in turn for block in content_list(message)]
    words = [string(each, "text") if kind_of(each) == "text" else _note(each) for each in blocks]
    return [text_block(text) for text in words if text.strip()]


def _note(block: object) -> str:
    kind = kind_of(block)
    return f"[{kind} omitted]" if kind in ("image", "document") else ""


def _with_notes(result: Block) -> Block:
    """A result with notes for what is not text; the very same object if all of it is."""
    content = content_list(result)
    if not any(map(_note, content)):
        return result
    return with_content(
        result, [text_block(_note(each)) if _note(each) else each for each in content]
    )


# --- Alternation ---

wants_alternation: Final = says(
    r"roles must alternate|must alternate between user and (?:assistant|model)",
    r"(?:does not support|do not support) successive user or assistant messages",
    r"multiturn requests alternate between user and model",
)
"""A match for refusals of messages of the same role in a row."""
ALTERNATION_WANTED: Final = "conversation roles must alternate"
"""The lesson of such a refusal."""


def _alternate(draft: RequestDraft, _found: object) -> Repaired | None:
    """Merge messages of the same role in a row, and let the user carry system messages."""
    body, folded = _fold_system(draft.body)
    messages, count = merged(body.messages)
    first = first_message(messages)
    return repaired(
        draft,
        body.with_items("messages", [*first, *messages]),
        folded,
        describe(count, "message", "merged with the one before"),
        describe(len(first), "first message", "added"),
    )


def _begin_with_user(draft: RequestDraft, _found: object) -> Repaired | None:
    first = first_message(draft.body.messages)
    messages = [*first, *draft.body.messages]
    return repaired_messages(draft, messages, describe(len(first), "first message", "added"))


def first_message(messages: Sequence[Any]) -> list[Any]:
    """A message of the user, if the conversation begins with another role."""
    is_needed = bool(messages) and role_of(messages[0]) in ("assistant", "system")
    return [user_message(text_block("(start)"))] if is_needed else []


def merged(messages: Sequence[Any]) -> tuple[list[Any], int]:
    """Messages without the same role twice in a row; and how many were merged."""
    made: list[Any] = []
    for message in messages:
        role = role_of(message)
        if made and role in SPOKEN and role == role_of(made[-1]):
            blocks = [*content_list(made[-1]), *content_list(message)]
            blocks = results_first(blocks) if role == "user" else blocks
            made[-1] = with_content(made[-1], blocks)
        else:
            made.append(message)
    return made, len(messages) - len(made)


# --- An answer that the client began ---

_OPENING: Final = re.compile(r"[^\s.!?]{1,12}")
"""The beginning of a form rather than of an answer: `{`, `<json>`. The model finds it again."""


def _without_last_space(draft: RequestDraft, _found: object) -> Repaired | None:
    messages = draft.body.messages
    index = _begun_answer(messages)
    if index < 0:
        return None
    message = messages[index]
    blocks = list(content_list(message))
    while blocks and kind_of(blocks[-1]) == "text":
        said = string(blocks[-1], "text")
        if said.strip():
            blocks[-1] = {**blocks[-1], "text": said.rstrip()}
            break
        blocks.pop()
    if blocks == content_list(message) and (blocks or message.get("content") == []):
        return None
    made = [*messages[:index], with_content(message, blocks), *messages[index + 1 :]]
    return repaired_messages(draft, without_empty_messages(made), "space at the end removed")


def _end_with_user(draft: RequestDraft, _found: object) -> Repaired | None:
    """Ask for the rest of the begun answer; remove an answer that is only an opening."""
    messages, changed = draft.body.messages, ""
    index = _begun_answer(messages)
    if index >= 0:
        rest = _cut(messages, index) if _is_opening(messages[index]) else messages
        if _begun_answer(rest) < 0:
            messages, changed = rest, describe(1, "begun answer", "removed")
        else:
            messages, changed = (
                _with_request_to_continue(messages, index),
                "asked to continue the answer",
            )
    body = draft.body.with_items("messages", messages) if changed else draft.body
    folded = ""
    if messages and role_of(messages[-1]) == "system":
        # A provider that wants a user message at the end does not accept this one.
        body, folded = _fold_system(body)
    return repaired(draft, body, changed, folded) if body.messages else None


def _with_request_to_continue(messages: Sequence[Any], index: int) -> list[Any]:
    """The messages with the user asking for more of this one."""
    asking = user_message(text_block("Continue."))
    made = [*messages[: index + 1], asking, *messages[index + 1 :]]
    # A call at the end wants its result in the same message.
    if any(kind_of(block) == "tool_use" for block in content_list(messages[index])):
        return pair(made).messages
    return made


def _begun_answer(messages: Sequence[Any]) -> int:
    """The index of the answer that ends the conversation; -1 if it does not end with one."""
    for index in range(len(messages) - 1, -1, -1):
        role = role_of(messages[index])
        if role != "system":
            return index if role == "assistant" else -1
    return -1


def _cut(messages: Sequence[Any], index: int) -> list[Any]:
    """The messages without this one; all of them if the user says nothing."""
    rest = [*messages[:index], *messages[index + 1 :]]
    return rest if any(role_of(message) == "user" for message in rest) else list(messages)


def _is_opening(message: Any) -> bool:
    blocks = content_list(message)
    if any(kind_of(block) != "text" for block in blocks):
        return False
    return bool(_OPENING.fullmatch("".join(string(block, "text") for block in blocks).strip()))


_NO_SYSTEM: Final = "mid_conversation_system_not_supported"
_SYSTEM_REFUSED: Final = says(
    r"(?:unexpected|unsupported|unknown|invalid) role:? system\b(?! after role tool)",
    r"\brole:? system (?:is )?(?:not (?:supported|allowed)|unsupported|invalid)",
    r"\bsystem role (?:is )?not supported",
    r"\brole: input should be user or assistant",
    r"\brole: unknown variant system\b|\brole: .{0,20}must be (?:either )?user or assistant",
    r"only user(?:,| and)(?: and)? assistant roles are supported",
    r"system messages? must be (?:at|in) the (?:beginning|start)",
    r"system messages? (?:is|are) (?:only|not) (?:allowed|supported)",
    r"\bsystem (?:is not|isnt) (?:one of|a valid|an allowed|among)",
    r"\brole\w*\b.{0,40}\b(?:must|should|can|has to|have to) (?:only )?be"
    r" (?:either |one of )?\W{0,2}(?:user|assistant)\W{1,3}(?:(?:or|and) )?(?:assistant|user)\b"
    r"(?!\W{1,3}(?:(?:or|and) )?\w*system)",
    r"\bsystem at .{0,60}\brole\b.{0,80}enum value set",
    r"messages? with role system"
    r"|(?:not|nt) support (?:the |a )?(?:role system|system (?:role|messages?))",
    r"system messages? (?:must|should|can|has to|have to|may) (?:only )?(?:be|come|appear|stand)"
    r"(?: \w+){0,3} (?:first|beginning|start|index 0|position 0)",
    r"(?:only|at most) (?:one|1|a single|the first) (?:\w+ ){0,4}system\b|multiple system messages"
    r"|more than one system (?:message|prompt)",
    _NO_SYSTEM,
)


def refuses_system(refusal: Refusal) -> bool:
    """Whether a refusal is about the role of a system message."""
    return refusal.code == _NO_SYSTEM or _SYSTEM_REFUSED(refusal) is not None


SYSTEM_ROLE: Final[tuple[Rule[Any], ...]] = (
    Rule(
        "system_role",
        refuses_system,
        _fold,
        "messages.*.role: Input should be 'user' or 'assistant'",
        when=lambda draft: has_system_messages(draft.body),
    ),
)

BLOCK_TYPES: Final[tuple[Rule[Any], ...]] = (Rule("block_types", _unknown_type, _without_type),)

EMPTY_TEXT: Final[tuple[Rule[Any], ...]] = (
    Rule(
        "empty_text",
        says(
            r"text content blocks must (?:be non-empty|contain non-whitespace text)",
            r"text content blocks? (?:cannot|can not|must not) be empty",
            r"must have non-empty content",
            r"cache_control cannot be set for empty text blocks",
            # Bedrock, Moonshot, Gemini
            r"text field in the contentblock object .{0,60} is blank",
            r"content field in the message object .{0,60} is empty",
            r"message at position \d+ with role \w+ must not be empty",
            r"\bparts must not be empty|must have a text parameter",
        ),
        _without_empty,
    ),
)

CITATIONS: Final[tuple[Rule[Any], ...]] = (
    Rule(
        "citations",
        _is_about_citations,
        _without_citations,
        "citations in user text and documents in assistant messages are not permitted",
    ),
)

ORDER: Final[tuple[Rule[Any], ...]] = (
    Rule(
        "after_results",
        says(r"unexpected role (?:user|system) after role tool\b"),
        _move_into_results,
        "unexpected role 'user' after role 'tool'",
    ),
    Rule("alternation", wants_alternation, _alternate, ALTERNATION_WANTED),
    Rule(
        "alternation",
        says(
            r"first message must (?:use the user role|be (?:from |a )?(?:the )?user)",
            r"conversation must start with a user message",
            r"conversation that starts with a user message",
        ),
        _begin_with_user,
    ),
    Rule(
        "prefill",
        says(r"final assistant content cannot end with trailing whitespace"),
        _without_last_space,
    ),
    Rule(
        "prefill",
        says(
            r"does not support (?:assistant message )?prefill",
            r"pre-?filling (?:\w+ ){0,4}(?:is )?not supported",
            r"conversation must end with a user message",
            r"conversation that ends with a user message",
            r"last message (?:of \S+ )?must (?:be|have|come from) .{0,20}\buser\b",
            r"expected (?:the )?last role (?:to be )?user",
            r"when the last message is from the assistant",
        ),
        _end_with_user,
        "this model does not support assistant message prefill",
    ),
)
