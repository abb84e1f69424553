"""Calls and their results: every call is answered right after it, every result has its call.

A turn is the messages of the assistant up to the user's next one. What stands between a call and
its result, a system message or another part of the answer, is moved to where it may stand.
Interrupted turns leave calls without results behind; so does text in front of the results.
"""

import re
from collections.abc import Callable, Collection, Iterator, Sequence
from typing import Any, Final

import msgspec

from ccfallback.messages.tools import BAD_LETTER, INTERRUPTED, alphanumerics
from ccfallback.messages.turns import (
    SERVER_CALLS,
    Block,
    Message,
    Place,
    content_list,
    is_server_result,
    kind_of,
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
from ccfallback.rectify.rule import Refusal, Repaired, Rule, describe, repaired_messages, says

_ASIDE: Final = frozenset({"assistant", "system"})
"""Roles of messages that may be between a call and the user's message that answers it."""


class Paired(msgspec.Struct, frozen=True):
    """Messages in which every call has its result, and what it took to get there."""

    messages: list[Any]
    moved: int = 0
    invented: int = 0
    turns: int = 0
    """Turns that had to be put in order."""


def match_results(messages: Sequence[Any]) -> dict[Place, Place]:
    """The place of the result by the place of its call: a result in the message that answers the
    call, else any other that is left.

    If two calls share their id, the first result belongs to the first call.
    """
    calls: list[tuple[Place, str]] = []
    results: dict[str, list[Place]] = {}
    for place, block in places(messages):
        kind = kind_of(block)
        if kind == "tool_use" and role_of(messages[place[0]]) == "assistant":
            calls.append((place, string(block, "id")))
        elif kind == "tool_result":
            results.setdefault(string(block, "tool_use_id"), []).append(place)
    claims: dict[Place, Place] = {}
    for own_only in (True, False):
        for call, tool_id in calls:
            if call not in claims:
                answer = _answer(messages, call[0])
                for place in results.get(tool_id, ()):
                    if not own_only or place[0] == answer:
                        claims[call] = place
                        results[tool_id].remove(place)
                        break
    return claims


def _answer(messages: Sequence[Any], index: int) -> int:
    """The index of the user's message that answers an assistant's; -1 if there is none."""
    for after in range(index + 1, len(messages)):
        role = role_of(messages[after])
        if role not in _ASIDE:
            return after if role == "user" else -1
    return -1


def pair(messages: Sequence[Any]) -> Paired:
    """The messages with the results of each turn's calls first in the user's message after it.

    A result that is elsewhere is moved there, a missing one is invented.
    """
    claims = match_results(messages)
    away = {place for call, place in claims.items() if place[0] != _answer(messages, call[0])}
    made: list[Any] = []
    asides: list[Any] = []
    invented = turns = 0
    index = 0
    while index < len(messages):
        first = index
        index += 1
        if asides and role_of(messages[first]) == "assistant":
            made += asides
            asides = []
        calls = _calls_in(messages, first)
        if not calls:
            made.append(_without(messages, first, away))
            continue
        while index < len(messages) and role_of(messages[index]) in _ASIDE:
            calls += _calls_in(messages, index)
            index += 1
        turn = range(first, index)
        answered = index < len(messages) and role_of(messages[index]) == "user"
        wanted = [claims.get(call) for call in calls]
        if answered and len(turn) == 1 and _is_answered(index, wanted):
            made.append(_without(messages, first, away))
            made.append(_without(messages, index, away))
        else:
            turns += 1
            invented += wanted.count(None)
            made += _in_order(messages, turn, calls, wanted, away, answered=answered)
            asides = [messages[each] for each in turn if role_of(messages[each]) == "system"]
        index += answered
    made += asides
    if not turns and not away:
        return Paired(list(messages))
    return Paired(without_empty_messages(made), len(away), invented, turns)


def _calls_in(messages: Sequence[Any], index: int) -> list[Place]:
    message = messages[index]
    if role_of(message) != "assistant":
        return []
    blocks = enumerate(content_list(message))
    return [(index, position) for position, block in blocks if kind_of(block) == "tool_use"]


def _is_answered(index: int, wanted: Sequence[Place | None]) -> bool:
    """Whether a user's message begins with all these results and no others."""
    return {place for place in wanted if place} == {(index, n) for n in range(len(wanted))}


def _without(messages: Sequence[Any], index: int, lost: set[Place]) -> Any:
    message = messages[index]
    blocks = content_list(message)
    kept = [block for position, block in enumerate(blocks) if (index, position) not in lost]
    return message if len(kept) == len(blocks) else with_content(message, kept)


def _in_order(
    messages: Sequence[Any],
    turn: range,
    calls: Sequence[Place],
    wanted: Sequence[Place | None],
    away: set[Place],
    *,
    answered: bool,
) -> list[Message]:
    """A turn as one message, and the user's answer to it."""
    spoken = [index for index in turn if role_of(messages[index]) == "assistant"]
    asked = _without(messages, spoken[0], away)
    if len(spoken) > 1:
        parts = (content_list(_without(messages, index, away)) for index in spoken)
        asked = with_content(asked, [block for blocks in parts for block in blocks])
    results = [
        _block(messages, place) if place else _interrupted_result(_block(messages, call))
        for call, place in zip(calls, wanted, strict=True)
    ]
    if not answered:
        return [asked, user_message(*results)]
    used = away | {place for place in wanted if place}
    rest = content_list(_without(messages, turn.stop, used))
    return [asked, with_content(messages[turn.stop], [*results, *rest])]


def _block(messages: Sequence[Any], place: Place) -> Block:
    block: Block = messages[place[0]]["content"][place[1]]
    return block


def _interrupted_result(call: Block) -> Block:
    tool_id = string(call, "id")
    return {"type": "tool_result", "tool_use_id": tool_id, "content": INTERRUPTED, "is_error": True}


def orphans_in(messages: Sequence[Any]) -> set[Place]:
    """Results that no call right before them asks for, and all but the first for one call."""
    claims = match_results(messages)
    answered = {place for call, place in claims.items() if place[0] == _answer(messages, call[0])}
    return {
        place
        for place, block in places(messages)
        if kind_of(block) == "tool_result" and place not in answered
    }


def _describe_moved(made: Paired) -> str:
    return describe(made.moved, "tool result", "moved to its call")


def _answer_calls(draft: RequestDraft, _found: object) -> Repaired | None:
    """Let the result of every call follow it."""
    made = pair(draft.body.messages)
    return repaired_messages(
        draft,
        made.messages,
        _describe_moved(made),
        describe(made.invented, "tool result", "invented"),
        describe(made.turns, "turn", "put in order"),
    )


def _without_orphans(draft: RequestDraft, _found: object) -> Repaired | None:
    """Move every result to its call, and turn those without a call into text."""
    if not orphans_in(draft.body.messages):
        return None
    # A result that came too late must not become text: its call still waits for it.
    made = pair(draft.body.messages)
    orphans, messages = orphans_in(made.messages), list(made.messages)
    for index in {place[0] for place in orphans}:
        messages[index] = _orphans_as_text(messages[index], index, orphans)
    return repaired_messages(
        draft,
        messages,
        _describe_moved(made),
        describe(made.invented, "tool result", "invented"),
        describe(len(orphans), "tool result", "without a call turned into text"),
    )


def _orphans_as_text(message: Message, index: int, orphans: set[Place]) -> Message:
    """A message with these results as texts, after the ones that are still results."""
    blocks: list[Any] = []
    for position, block in enumerate(content_list(message)):
        blocks += _as_text(block) if (index, position) in orphans else [block]
    return with_content(message, results_first(blocks) if role_of(message) == "user" else blocks)


def _as_text(result: Block) -> list[Block]:
    # What a tool found is still worth knowing, pictures included; a reference loads nothing here.
    kinds = ("image", "document", "search_result")
    rest = [block for block in content_list(result) if kind_of(block) in kinds]
    label = f"[tool result {string(result, 'tool_use_id')}]"
    words = "\n".join([label, *filter(str.strip, texts_in(result))])
    return [text_block(words, like=result), *rest]


# --- Ids ---

_VALID: Final = re.compile(r"[a-zA-Z0-9_-]+")

_TWICE: Final = says(r"\btool_use ids must be unique|duplicate tool_?(?:use|call) ?_?ids?\b")
_LETTERS: Final = says(
    r"\btool_use(?:\.|_| -> )id\b.*should match pattern(?! \^srvtoolu)",
    r"tool ids? should match pattern \^\[a-za-z0-9_-\]",
)
_LENGTH: Final = says(
    r"\btool_(?:calls?|use)(?:\b[^ ]*(?:\.| -> )|_)id\b.*(?:maximum length|at most) (\d{1,3})\b"
)
_EXACT: Final = says(r"must be a-z, a-z, 0-9, with a length of (\d{1,2})\b")
_SHORTEST: Final = 8
"""Characters with which the calls of a long conversation remain distinct."""


class _Form(msgspec.Struct, frozen=True):
    """What an id has to look like."""

    is_valid: Callable[[str], bool]
    fit: Callable[[str], str]
    """A valid id for any text, nearly always another one for another text."""
    lesson: str | None


def _id_form(refusal: Refusal) -> _Form | None:
    exact = _EXACT(refusal)
    if exact and int(exact[1]) >= _SHORTEST:
        size = int(exact[1])
        return _Form(
            lambda tool_id: len(tool_id) == size and tool_id.isascii() and tool_id.isalnum(),
            lambda seed: alphanumerics(seed, size),
            f"tool call id must be a-z, A-Z, 0-9, with a length of {size}",
        )
    length = _LENGTH(refusal)
    if length and int(length[1]) >= 2 * _SHORTEST:
        size = int(length[1])
        return _Form(
            lambda tool_id: len(tool_id) <= size and bool(_VALID.fullmatch(tool_id)),
            lambda seed: f"call_{alphanumerics(seed, min(size - 5, 24))}",
            f"tool_call_id: maximum length {size}",
        )
    if _LETTERS(refusal):
        return _Form(_is_valid, _fit, "tool ids should match pattern '^[a-zA-Z0-9_-]+$'")
    return _Form(_is_valid, _fit, None) if _TWICE(refusal) else None


def _is_valid(tool_id: str) -> bool:
    return bool(_VALID.fullmatch(tool_id))


def _fit(tool_id: str) -> str:
    return BAD_LETTER.sub("_", tool_id) or "toolu_0"


def _with_new_ids(draft: RequestDraft, form: _Form) -> Repaired | None:
    """Give every call a valid id of its own, and its result the same.

    A new id depends only on what is before it, so it is the same in every later request.
    """
    messages = draft.body.messages
    changed = {
        place: {**block, _id_key(block): new}
        for place, block, new in _new_ids(messages, form)
        if new != string(block, _id_key(block))
    }
    made: list[Any] = []
    for index, message in enumerate(messages):
        here = {place[1]: block for place, block in changed.items() if place[0] == index}
        if here:
            blocks = enumerate(content_list(message))
            message = with_content(message, [here.get(n, block) for n, block in blocks])
        made.append(message)
    words = describe(len(changed), "tool id", "rewritten")
    return repaired_messages(draft, made, words, lesson=form.lesson)


def _id_key(block: Block) -> str:
    return "id" if kind_of(block) == "tool_use" else "tool_use_id"


def _new_ids(messages: Sequence[Any], form: _Form) -> Iterator[tuple[Place, Block, str]]:
    """Every call and every result with its new id."""
    claims = match_results(messages)
    ids: dict[Place, str] = {}
    taken: set[str] = set()
    same: dict[str, str] = {}
    for place, block in places(messages):
        if kind_of(block) == "tool_use" and role_of(messages[place[0]]) == "assistant":
            old = string(block, "id")
            new = _free(old, form, taken)
            taken.add(new)
            same.setdefault(old, new)
            if place in claims:
                ids[claims[place]] = new
            yield place, block, new
    for place, block in places(messages):
        if kind_of(block) == "tool_result":
            old = string(block, "tool_use_id")
            yield place, block, ids.get(place) or same.get(old) or _free(old, form, ())


def _free(old: str, form: _Form, taken: Collection[str]) -> str:
    """A valid id that no earlier call has; the old one if it will do."""
    if form.is_valid(old) and old not in taken:
        return old
    new = form.fit(old)
    count = 1
    while new in taken or not form.is_valid(new):
        count += 1
        new = form.fit(f"{old}_{count}")
    return new


# --- Anthropic's own tools: all of it is in the assistant's turns, and nothing can be invented ---

_PATTERN: Final = "^srvtoolu_[a-zA-Z0-9_]+$"
_GENUINE: Final = re.compile(r"srvtoolu_[a-zA-Z0-9_]+")
_UNPAIRED: Final = says(
    r"found without (?:a )?corresponding \w+_tool_result",
    r"(?:server|mcp)_tool_use (?:\w+ )*(?:ids? )?(?:was|were) found without",
    r"unexpected tool_use_id found in \w+_tool_result",
    r"\w+_tool_result block must have a corresponding (?:server|mcp)_tool_use",
)


def _without_foreign(draft: RequestDraft, _found: object) -> Repaired | None:
    """Remove calls that have another provider's id, and the results that name one."""
    lost = set()
    for place, block in places(draft.body.messages):
        kind = kind_of(block)
        is_result = is_server_result(block) and kind != "mcp_tool_result"
        key = "id" if kind == "server_tool_use" else "tool_use_id" if is_result else ""
        if key and not _GENUINE.fullmatch(string(block, key)):
            lost.add(place)
    return _without_places(draft, lost)


def _without_unpaired(draft: RequestDraft, refusal: Refusal) -> Repaired | None:
    """Remove calls without a result later in their turn, and results without an earlier call."""
    messages = draft.body.messages
    lost: set[Place] = set()
    turns = list(_turns(messages))
    for number, turn in enumerate(turns):
        waiting: dict[str, Place] = {}
        for place, block in turn:
            if kind_of(block) in SERVER_CALLS:
                waiting[string(block, "id")] = place
            elif is_server_result(block) and not waiting.pop(string(block, "tool_use_id"), None):
                lost.add(place)
        is_last = number == len(turns) - 1 and role_of(messages[-1]) == "assistant"
        # The API continues a call at the very end, unless the refusal names it.
        lost |= {
            place for tool_id, place in waiting.items() if not is_last or tool_id in refusal.message
        }
    return _without_places(draft, lost)


def _turns(messages: Sequence[Any]) -> Iterator[list[tuple[Place, Any]]]:
    """The blocks of each of the assistant's turns."""
    blocks: dict[int, list[tuple[Place, Any]]] = {}
    for place, block in places(messages):
        blocks.setdefault(place[0], []).append((place, block))
    turn: list[tuple[Place, Any]] = []
    for index, message in enumerate(messages):
        role = role_of(message)
        if role == "assistant":
            turn += blocks.get(index, [])
        elif turn and role != "system":
            yield turn
            turn = []
    if turn:
        yield turn


def _without_places(draft: RequestDraft, lost: set[Place]) -> Repaired | None:
    messages = draft.body.messages
    calls = sum(kind_of(_block(messages, place)) in SERVER_CALLS for place in lost)
    kept = [_without(messages, index, lost) for index in range(len(messages))]
    return repaired_messages(
        draft,
        without_empty_messages(kept) if lost else kept,
        describe(calls, "server tool call", "removed"),
        describe(len(lost) - calls, "server tool result", "removed"),
    )


SERVER_TOOLS: Final[tuple[Rule[Any], ...]] = (
    Rule(
        "server_tools",
        says(r"string should match pattern \^srvtoolu_"),
        _without_foreign,
        f"string should match pattern '{_PATTERN}'",
    ),
    Rule(
        "server_tools", lambda refusal: refusal if _UNPAIRED(refusal) else None, _without_unpaired
    ),
)

RULES: Final[tuple[Rule[Any], ...]] = (
    Rule(
        "tool_use_concurrency",
        says(
            # `server_tool_use` and `mcp_tool_use` are another rule's.
            r"\btool_use ids were found without tool_result",
            r"\btool_use block must have a corresponding tool_result",
            r"did not find \d+ tool_result blocks?(?:\(s\))? at the beginning",
            # Gateways that translate to OpenAI's format say it in these words.
            r"assistant message with tool_calls must be followed by tool messages",
            r"insufficient tool messages following tool_calls",
            r"tool_call_ids did not have response messages",
            # Bedrock, Gemini
            r"expected toolresult blocks at",
            r"number of function response parts is equal to the number of function call parts",
        ),
        _answer_calls,
    ),
    Rule(
        "orphan_results",
        says(
            r"unexpected tool_use_id found in tool_result",
            r"\btool_result block must have a corresponding tool_use",
            r"each tool_use must have a single result",
            r"tool_result blocks can only be in user messages",
            # Gateways that translate to OpenAI's format say it in these words.
            r"messages? with role tool must be a response to a prece+ding message with tool_calls",
            r"tool message must follow (?:an assistant message with )?tool_calls",
            r"no tool call found for (?:function|tool) call output",
            r"toolresult blocks at .* exceeds the number of tooluse blocks",
        ),
        _without_orphans,
    ),
    Rule("tool_ids", _id_form, _with_new_ids),
)
