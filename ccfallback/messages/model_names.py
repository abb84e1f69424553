"""What the name of a Claude model says of it, wherever it stands in a platform's id."""

import re
from functools import lru_cache
from typing import Final

import msgspec

from ccfallback.messages.patterns import lazy_re

Version = tuple[int, int]

LONGEST_ID: Final = 2048
"""Characters of the longest id that a platform has: that of an inference profile at AWS."""

_NAME: Final = lazy_re(
    r"(?<![a-z0-9-])claude-(?:"
    r"(?P<family>[a-z]+)-(?P<major>\d{1,2})(?!\d)(?:-(?P<minor>\d{1,2})(?!\d))?"
    # Before version 4 the family comes last.
    r"|(?P<old_major>\d)(?:-(?P<old_minor>\d))?-(?P<old_family>[a-z]+)"
    r")",
    re.IGNORECASE,
)
_LONGEST: Final = 512


class ClaudeName(msgspec.Struct, frozen=True):
    """The family and version of a model: `opus` and `(4, 8)`."""

    family: str
    version: Version


def find_name(model: str) -> ClaudeName | None:
    """The name of a Claude model in a platform's id; `None` if there is none in it."""
    # A cache keeps what it is called with.
    return _find_name(model[:_LONGEST])


@lru_cache(maxsize=256)
def _find_name(model: str) -> ClaudeName | None:
    found = _NAME.search(model)
    if found is None:
        return None
    family = found["family"] or found["old_family"]
    minor = found["minor"] or found["old_minor"] or 0
    return ClaudeName(family.lower(), (int(found["major"] or found["old_major"]), int(minor)))
