"""Cache marks: not more of them than a provider takes, and lifetimes in an order that it takes.

Marks are found where the API looks for them only: a tool's schema may have a property of that
name.
"""

import re
from collections.abc import Callable, Iterator
from typing import Any, Final

from ccfallback.messages.body import Body
from ccfallback.policy.draft import RequestDraft
from ccfallback.rectify.rule import Rectifier, Refusal, Repaired
from ccfallback.rectify.turns import Block, counted, kind_of

_TOO_MANY: Final = re.compile(r"maximum of (\d{1,2}) blocks with cache_control may be provided")
_ORDER: Final = re.compile(r"ttl=\w+ .*must not come after a ttl=")

_MARK: Final = "cache_control"

_LISTS: Final = ("tools", "system", "messages")

Mark = tuple[str, int]
"""In which member, and the how manieth there."""


class _CacheMarks:
    name = "cache_marks"

    def repair(self, draft: RequestDraft, refusal: Refusal) -> Repaired | None:
        """Fewer cache marks, or marks without lifetimes."""
        refused = refusal.text
        many = _TOO_MANY.search(refused)
        if many:
            most = int(many[1])
            body, count = _thinned(draft.body, most)
            changed = counted(count, "cache mark", "removed")
            lesson = f"a maximum of {most} blocks with cache_control may be provided"
        elif _ORDER.search(refused):
            body, count = _without_lifetimes(draft.body)
            changed = counted(count, "cache lifetime", "removed")
            lesson = None
        else:
            return None
        return Repaired(draft.with_body(body), changed, lesson) if count else None


def _thinned(body: Body, most: int) -> tuple[Body, int]:
    """A body with at most this many marks: the ones that cache the most."""
    sizes = {member: sum(1 for _ in _marked(body.get(member))) for member in _LISTS}
    last = {member: (member, size - 1) for member, size in sizes.items() if size}
    worth: list[Mark] = [("", 0)] if body.get(_MARK) else []
    worth += [last[member] for member in ("messages", "system", "tools") if member in last]
    for member in ("messages", "system", "tools"):
        worth += [(member, number) for number in range(sizes[member] - 2, -1, -1)]
    lost = set(worth[most:])
    if not lost:
        return body, 0
    made = body.without(_MARK) if ("", 0) in lost else body
    for member in _LISTS:
        numbers = {number for place, number in lost if place == member}
        if numbers:
            made = _changed(made, member, _dropping(numbers))
    return made, len(lost)


def _dropping(numbers: set[int]) -> Callable[[Block], Block]:
    """Takes the marks of these numbers off the marked blocks that it is given in order."""
    seen = -1

    def drop(block: Block) -> Block:
        nonlocal seen
        seen += 1
        if seen not in numbers:
            return block
        return {key: value for key, value in block.items() if key != _MARK}

    return drop


def _without_lifetimes(body: Body) -> tuple[Body, int]:
    """A body of which no mark says how long it lives."""
    count = 0

    def strip(block: Block) -> Block:
        nonlocal count
        mark = block[_MARK]
        if not isinstance(mark, dict) or "ttl" not in mark:
            return block
        count += 1
        return {**block, _MARK: {key: value for key, value in mark.items() if key != "ttl"}}

    whole = body.get(_MARK)
    made = body
    if whole:
        stripped = strip({_MARK: whole})[_MARK]
        made = made if stripped == whole else made.with_members(cache_control=stripped)
    for member in _LISTS:
        made = _changed(made, member, strip)
    return made, count


def _changed(body: Body, member: str, change: Callable[[Block], Block]) -> Body:
    before = body.get(member)
    after = _mapped(before, change)
    return body if after is before else body.with_items(member, after)


def _marked(items: Any, *, depth: int = 0) -> Iterator[Block]:
    """The blocks that carry a mark, in the order in which the API meets them."""
    for item in items if isinstance(items, list) else ():
        if isinstance(item, dict):
            if _has_content(item, depth):
                yield from _marked(item["content"], depth=depth + 1)
            if item.get(_MARK):
                yield item


def _mapped(items: Any, change: Callable[[Block], Block], *, depth: int = 0) -> Any:
    """The same with each marked block changed, in the same order; the very same if none was."""
    if not isinstance(items, list):
        return items
    made: list[Any] = []
    for item in items:
        new = item
        if isinstance(item, dict):
            if _has_content(item, depth):
                inner = _mapped(item["content"], change, depth=depth + 1)
                new = item if inner is item["content"] else {**item, "content": inner}
            if item.get(_MARK):
                new = change(new)
        made.append(new)
    return items if all(new is old for new, old in zip(made, items, strict=True)) else made


def _has_content(item: Block, depth: int) -> bool:
    """Whether marks may be further inside: in a message, or in a result."""
    is_outer = "role" in item or kind_of(item) == "tool_result"
    return is_outer and depth < 2 and isinstance(item.get("content"), list)


CACHE_MARKS: Final[Rectifier] = _CacheMarks()
