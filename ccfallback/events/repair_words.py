"""What a repair did to a request, read from its log record and put into words. Nothing raises."""

from collections.abc import Iterable, Mapping
from math import isfinite
from typing import Any, Final

from ccfallback.events.explanation import Difference
from ccfallback.events.story import printable

_MESSAGES: Final = "_messages"
"""How the counts name messages of a role: `system_messages`. The others are blocks of a kind."""


def difference_of(data: Mapping[str, Any]) -> Difference:
    """What the record of a repair says that it changed; empty where it says nothing."""
    counts = data.get("counts")
    it = Difference(
        removed=_names(data, "removed"),
        added=_names(data, "added"),
        rewritten=_names(data, "rewritten"),
        betas=_names(data, "betas"),
        counts={
            name: count
            for key, value in (counts.items() if isinstance(counts, Mapping) else ())
            if (name := printable(key)) and (count := _whole(value))
        },
        renamed=max(0, _whole(data.get("renamed"))),
        quirks=_names(data, "quirks"),
    )
    it.words = _words(it)
    return it


def _words(it: Difference) -> str:
    """`removed field top_k, 3 thinking blocks, beta context-1m-2025-08-07; renamed 2 tools`."""
    gone = {name: -count for name, count in it.counts.items() if count < 0}
    come = {name: count for name, count in it.counts.items() if count > 0}
    betas = [_several("beta", it.betas)] if it.betas else []
    # That the messages are others goes without saying where some of them, or of their blocks, went.
    rewritten = [name for name in it.rewritten if not (name == "messages" and it.counts)]
    tools = "tool" if it.renamed == 1 else "tools"
    parts = (
        ("removed", [*_fields(it.removed), *_times(gone), *betas]),
        ("added", [*_fields(it.added), *_times(come)]),
        ("rewrote", rewritten),
        ("renamed", [f"{it.renamed} {tools}"] if it.renamed else []),
        ("switched", it.quirks),
    )
    return "; ".join(f"{did} {', '.join(what)}" for did, what in parts if what)


def _fields(names: list[str]) -> list[str]:
    return [_several("field", names)] if names else []


def _several(thing: str, names: list[str]) -> str:
    return f"{thing}{'' if len(names) == 1 else 's'} {', '.join(names)}"


def _times(counts: Mapping[str, int]) -> Iterable[str]:
    for name, count in counts.items():
        role = name.removesuffix(_MESSAGES)
        thing = f"{name} block" if role == name else f"{role} message"
        yield f"{count} {thing}{'' if count == 1 else 's'}"


def _names(data: Mapping[str, Any], key: str) -> list[str]:
    found = data.get(key)
    return [name for each in found if (name := printable(each))] if isinstance(found, list) else []


def _whole(value: object) -> int:
    """A number as a whole one, 0 for anything else."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not isfinite(value):
        return 0
    return round(value)
