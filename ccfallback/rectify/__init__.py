"""Rectifiers: known repairs of a refused request. Pure: an Anthropic body in, one out.

One file a rectifier, one place in `RECTIFIERS`; the switch in `[rectifier]` is its name.
"""

from collections.abc import Collection
from dataclasses import dataclass
from typing import Final, Protocol

from ccfallback.core.body import Body


@dataclass(frozen=True, slots=True)
class Refusal:
    """What an upstream said of the request that it refused."""

    status: int
    message: str


class Rectifier(Protocol):
    """One known repair."""

    name: str

    def repair(self, body: Body, refusal: Refusal) -> Body | None:
        """A new body, or `None` where this is not the repair to make. Never mutates."""


RECTIFIERS: Final[tuple[Rectifier, ...]] = ()
"""In the order in which they are considered."""


def rectify(body: Body, refusal: Refusal, *, skip: Collection[str] = ()) -> tuple[str, Body] | None:
    """The first repair that applies and is not to be skipped: its name and the new body."""
    for rectifier in RECTIFIERS:
        if rectifier.name not in skip:
            repaired = rectifier.repair(body, refusal)
            if repaired is not None:
                return rectifier.name, repaired
    return None
