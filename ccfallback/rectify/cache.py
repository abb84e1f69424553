"""Marks of prompt caching: refused ones, too many of them, and lifetimes in a wrong order.

Marks are found only where the API looks for them: a tool's schema may have a property of that
name.
"""

import re
from collections.abc import Callable, Iterator
from typing import Any, Final

from ccfallback.messages.body import Body
from ccfallback.messages.edit import Path, has, without_all
from ccfallback.messages.turns import Block, is_same, kind_of
from ccfallback.policy.draft import RequestDraft
from ccfallback.rectify.betas import cache_marks
from ccfallback.rectify.rule import Refusal, Repaired, Rule, describe, repaired, says, unknown_field

_MARK: Final = "cache_control"
_PARTS: Final = ("scope", "ttl")
_REFUSED_PART: Final = re.compile(
    r"cache_control(?:\.ephemeral)?\.(?P<part>scope|ttl)\b:? (?:is )?(?:not supported|unsupported)"
    r"|cache_control(?:\.ephemeral)?\.(?P<enum>ttl): input should be 5m"
)


def _refused_part(refusal: Refusal) -> str:
    """The part of a mark that is refused; empty if whole marks are."""
    named = (path[-1] for path in refusal.paths if _MARK in path and path[-1] in _PARTS)
    match = _REFUSED_PART.search(refusal.text)
    return next(named, "") or (match and (match["part"] or match["enum"])) or ""


def _without_part(draft: RequestDraft, part: str) -> Repaired | None:
    body, count = without_all(draft.body, cache_marks(part))
    lesson = unknown_field((_MARK, "ephemeral", part))
    return repaired(draft, body, describe(count, f"{_MARK}.{part}", "removed"), lesson=lesson)


def _refused_marks(refusal: Refusal) -> list[Path]:
    """The places of the marks that are refused."""
    return [path for path in refusal.paths if path[-1] == _MARK and len(path) > 1]


def _without_named(draft: RequestDraft, marks: list[Path]) -> Repaired | None:
    """Remove the marks at the named places; all marks if only a member of the body is named."""
    if any(has(draft.body, path) for path in marks):
        body, count = without_all(draft.body, marks)
        lesson = unknown_field(*marks)
        return repaired(draft, body, describe(count, _MARK, "removed"), lesson=lesson)
    # A longer path says where the mark is, and there is none.
    return None if any(len(path) > 2 for path in marks) else _without_marks(draft, True)


def _without_marks(draft: RequestDraft, _found: object) -> Repaired | None:
    body, count = without_all(draft.body, cache_marks())
    return repaired(
        draft, body, describe(count, _MARK, "removed"), lesson=f"{_MARK} is not supported"
    )


_LISTS: Final = ("tools", "system", "messages")

_Mark = tuple[str, int]
"""The member of the body that a mark is in, and its number there."""


def _fewer_marks(draft: RequestDraft, found: re.Match[str]) -> Repaired | None:
    """Keep at most this many marks: the ones that cache the most."""
    body, most = draft.body, int(found[1])
    sizes = {member: sum(1 for _ in _marked_blocks(body.get(member))) for member in _LISTS}
    last = {member: (member, size - 1) for member, size in sizes.items() if size}
    worth: list[_Mark] = [("", 0)] if body.get(_MARK) else []
    worth += [last[member] for member in ("messages", "system", "tools") if member in last]
    for member in ("messages", "system", "tools"):
        worth += [(member, number) for number in range(sizes[member] - 2, -1, -1)]
    lost = set(worth[most:])
    made = body.without(_MARK) if ("", 0) in lost else body
    for member in _LISTS:
        numbers = {number for place, number in lost if place == member}
        if numbers:
            made = _change_member(made, member, _dropping(numbers))
    lesson = f"a maximum of {most} blocks with cache_control may be provided"
    return repaired(draft, made, describe(len(lost), "cache mark", "removed"), lesson=lesson)


def _dropping(numbers: set[int]) -> Callable[[Block], Block]:
    """A change that removes the marks of these numbers from the marked blocks, given in order."""
    seen = -1

    def drop(block: Block) -> Block:
        nonlocal seen
        seen += 1
        if seen not in numbers:
            return block
        return {key: value for key, value in block.items() if key != _MARK}

    return drop


def _without_lifetimes(draft: RequestDraft, _found: object) -> Repaired | None:
    body, count = draft.body, 0

    def strip(block: Block) -> Block:
        nonlocal count
        mark = block[_MARK]
        if not isinstance(mark, dict) or "ttl" not in mark:
            return block
        count += 1
        return {**block, _MARK: {key: value for key, value in mark.items() if key != "ttl"}}

    if whole := body.get(_MARK):
        stripped = strip({_MARK: whole})[_MARK]
        body = body if stripped == whole else body.with_members(cache_control=stripped)
    for member in _LISTS:
        body = _change_member(body, member, strip)
    return repaired(draft, body, describe(count, "cache lifetime", "removed"))


def _change_member(body: Body, member: str, change: Callable[[Block], Block]) -> Body:
    before = body.get(member)
    after = _map_blocks(before, change)
    return body if after is before else body.with_items(member, after)


def _marked_blocks(items: Any, *, depth: int = 0) -> Iterator[Block]:
    """The blocks that carry a mark, in the order in which the API reads them."""
    for item in items if isinstance(items, list) else ():
        if isinstance(item, dict):
            if _has_content(item, depth):
                yield from _marked_blocks(item["content"], depth=depth + 1)
            if item.get(_MARK):
                yield item


def _map_blocks(items: Any, change: Callable[[Block], Block], *, depth: int = 0) -> Any:
    """The items with each marked block changed, in the same order; the same list if none was."""
    if not isinstance(items, list):
        return items
    made: list[Any] = []
    for item in items:
        new = item
        if isinstance(item, dict):
            if _has_content(item, depth):
                inner = _map_blocks(item["content"], change, depth=depth + 1)
                new = item if inner is item["content"] else {**item, "content": inner}
            if item.get(_MARK):
                new = change(new)
        made.append(new)
    return items if is_same(made, items) else made


def _has_content(item: Block, depth: int) -> bool:
    """Whether marks may be further inside: in a message, or in a result."""
    is_outer = "role" in item or kind_of(item) == "tool_result"
    return is_outer and depth < 2 and isinstance(item.get("content"), list)


_REFUSED: Final = says(r"\bcache_control(?: \w+)? (?:is|are) not (?:supported|allowed)\b")


RULES: Final[tuple[Rule[Any], ...]] = (
    Rule("cache_control", _refused_part, _without_part),
    Rule("cache_control", _refused_marks, _without_named),
    Rule(
        "cache_control",
        lambda refusal: any(_MARK in path for path in refusal.paths) or bool(_REFUSED(refusal)),
        _without_marks,
    ),
    Rule(
        "cache_marks",
        says(r"maximum of (\d{1,2}) blocks with cache_control may be provided"),
        _fewer_marks,
    ),
    Rule("cache_marks", says(r"ttl=\w+ .*must not come after a ttl="), _without_lifetimes),
)
