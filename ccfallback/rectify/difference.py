"""What a repair did to a request, measured rather than told: names and counts, never content."""

import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import fields
from typing import Any, Final

from ccfallback.policy.draft import RequestDraft
from ccfallback.rectify.turns import kind_of, messages_of, places, role_of

_NAME: Final = re.compile(r"[a-z][a-z0-9_-]{0,63}")
"""What a member, a flag or a kind of block is called; anything else may be content."""

_ROLES: Final = ("user", "assistant", "system")


def difference(before: RequestDraft, after: RequestDraft) -> dict[str, Any]:
    """What is another in `after`; a key only where there is something to say.

    `removed`, `added` and `rewritten` are members of the body, `betas` the flags that went,
    `counts` how many more or fewer messages there are of a role and blocks of a kind, `renamed`
    how many tools have other names, and `quirks` the switches that are set otherwise.
    """
    old, new = before.body, after.body
    found: dict[str, Any] = {
        "removed": _known(name for name in old.names if name not in new),
        "added": _known(name for name in new.names if name not in old),
        "rewritten": _known(
            name for name in new.names if name in old and old.member(name) != new.member(name)
        ),
        "betas": _known(beta for beta in before.betas if beta not in after.betas),
        "counts": _counts(before, after),
        "renamed": len(after.names.keys() - before.names.keys()),
        "quirks": _quirks(before, after),
    }
    return {key: value for key, value in found.items() if value}


def _known(names: Iterable[str]) -> list[str]:
    return [name for name in names if _NAME.fullmatch(name)]


def _counts(before: RequestDraft, after: RequestDraft) -> dict[str, int]:
    if before.body.member("messages") == after.body.member("messages"):
        return {}
    change = _sizes(after)
    change.subtract(_sizes(before))
    return {name: count for name, count in sorted(change.items()) if count}


def _sizes(draft: RequestDraft) -> Counter[str]:
    messages = messages_of(draft)
    roles = Counter(f"{role}_messages" for role in map(role_of, messages) if role in _ROLES)
    return roles + Counter(_known(kind_of(block) for _, block in places(messages)))


def _quirks(before: RequestDraft, after: RequestDraft) -> list[str]:
    if before.quirks is None or after.quirks is None:
        return []
    names = (field.name for field in fields(after.quirks))
    return [name for name in names if getattr(before.quirks, name) != getattr(after.quirks, name)]
