"""Words of messages: counts, durations, and the known name that a mistyped one means."""

import re
from collections.abc import Iterable
from math import ceil
from typing import Final

ALIKE: Final = 0.6
"""How similar two names must be, from 0 to 1."""

_PARTS: Final = re.compile("[._]")


def plural(count: int, thing: str) -> str:
    """The noun for so many things: `request`, `requests`."""
    return thing if count == 1 else f"{thing}s"


def pluralize(count: int, thing: str) -> str:
    """A count and its noun: `1 request`, `3 requests`."""
    return f"{count:,} {plural(count, thing)}"


def format_seconds(seconds: float) -> str:
    """A duration to the hundredth of a second: `4 ms`, `0.41 s`, `5.62 s`, `93.2 s`."""
    if seconds < 0.0995:
        return f"{ceil(seconds * 1000)} ms"
    return f"{seconds:.2f} s" if seconds < 10 else f"{seconds:.1f} s"


def label(provider: str, key: int) -> str:
    """The name of a provider, with the number of the key if that is one of several."""
    return f"{provider} key {key}" if key else provider


def closest(word: str, known: Iterable[str], alike: float = ALIKE) -> str | None:
    """The known name that is most similar to `word`; `None` if none is similar."""
    # Imported here because only a mistyped name needs it: the server does without.
    from difflib import get_close_matches

    names = list(known)
    close = next(iter(get_close_matches(word, names, n=1, cutoff=alike)), None)
    # A part of a name is less similar to it than it looks: `url`, `base_url`.
    return close or next((name for name in names if word and word in _PARTS.split(name)), None)


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """The hint with the most similar known name; empty if none is similar."""
    close = closest(word, known)
    return f"did you mean {close}?" if close else ""
