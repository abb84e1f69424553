"""Marks of prompt caching that a provider does not know, whole or in part."""

import re
from typing import Final

from ccfallback.policy.draft import RequestDraft
from ccfallback.rectify.betas import cache_marks, settled
from ccfallback.rectify.parts import Path, counted, has, without_all
from ccfallback.rectify.paths import refused_paths, unknown_field
from ccfallback.rectify.rule import Rectifier, Refusal, Repaired

_MARK: Final = "cache_control"
_PARTS: Final = ("scope", "ttl")
_REFUSED_PART: Final = re.compile(
    r"cache_control(?:\.ephemeral)?\.(?P<part>scope|ttl)\b:? (?:is )?(?:not supported|unsupported)"
    r"|cache_control(?:\.ephemeral)?\.(?P<enum>ttl): input should be 5m"
)
_REFUSED: Final = re.compile(r"\bcache_control(?: \w+)? (?:is|are) not (?:supported|allowed)\b")


class _CacheControl:
    name = "cache_control"

    def repair(self, draft: RequestDraft, refusal: Refusal) -> Repaired | None:
        """Take out what is refused, in every mark."""
        named = _named(draft, refusal.text)
        if named is None:
            return None
        what, paths, lesson = named
        body, count = without_all(draft.body, paths)
        if not count:
            return None
        return Repaired(settled(draft, body), f"{counted(count, what)} removed", lesson)


def _named(draft: RequestDraft, text: str) -> tuple[str, tuple[Path, ...], str] | None:
    """What is refused, where that may be, and the lesson."""
    refused = [path for path in refused_paths(text) if _MARK in path]
    part = next((path[-1] for path in refused if path[-1] in _PARTS), None)
    match = _REFUSED_PART.search(text)
    if part is None and match:
        part = match["part"] or match["enum"]
    if part is not None:
        lesson = unknown_field((_MARK, "ephemeral", part))
        return f"cache_control.{part}", cache_marks((part,)), lesson
    marks = tuple(path for path in refused if path[-1] == _MARK and len(path) > 1)
    if marks and any(has(draft.body, path) for path in marks):
        return _MARK, marks, "; ".join(map(unknown_field, marks))
    if not refused and not _REFUSED.search(text):
        return None
    if any(len(path) > 2 for path in marks):
        # It said where, and there is none.
        return None
    return _MARK, cache_marks(()), f"{_MARK} is not supported"


CACHE_CONTROL: Final[Rectifier] = _CacheControl()
