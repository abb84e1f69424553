"""Rectifiers: known repairs of a refused request. Pure: an Anthropic draft in, one out.

One file a rectifier, one place in `RECTIFIERS`; the switch in `[rectifier]` is its name.
"""

from collections.abc import Collection
from typing import Final

from ccfallback.core.draft import Draft
from ccfallback.rectify.rule import Rectifier, Refusal, Repaired

RECTIFIERS: Final[tuple[Rectifier, ...]] = ()
"""In the order in which they are considered."""


BY_NAME: Final = {rectifier.name: rectifier for rectifier in RECTIFIERS}


def rectify(
    draft: Draft, refusal: Refusal, *, skip: Collection[str] = ()
) -> tuple[str, Repaired] | None:
    """The first repair that applies and is not to be skipped: its name and what it made."""
    for rectifier in RECTIFIERS:
        if rectifier.name not in skip:
            repaired = rectifier.repair(draft, refusal)
            if repaired is not None:
                return rectifier.name, repaired
    return None
