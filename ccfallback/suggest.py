"""What somebody probably meant who wrote a name that nobody knows."""

from collections.abc import Iterable
from typing import Final

ALIKE: Final = 0.6
"""How much of two names has to be the same, from 0 to 1."""


def closest(word: str, known: Iterable[str], alike: float = ALIKE) -> str | None:
    """The known name that is most like `word`; `None` where none is."""
    # Only who mistypes needs it, and the server would carry it for ever.
    from difflib import get_close_matches

    return next(iter(get_close_matches(word, list(known), n=1, cutoff=alike)), None)
