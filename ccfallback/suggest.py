"""The known name that a mistyped one probably means."""

from collections.abc import Iterable
from typing import Final

ALIKE: Final = 0.6
"""How similar two names must be, from 0 to 1."""


def closest(word: str, known: Iterable[str], alike: float = ALIKE) -> str | None:
    """The known name that is most similar to `word`; `None` if none is similar."""
    # Imported here because only a mistyped name needs it: the server does without.
    from difflib import get_close_matches

    return next(iter(get_close_matches(word, list(known), n=1, cutoff=alike)), None)
