"""A request as an attempt may change it: the body, the flags that unlock parts of it, and what
else has to be known to send it and to read its answer.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Final

from ccfallback.config.quirks import Quirks
from ccfallback.messages.body import Body

SAME_NAMES: Final[Mapping[str, str]] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class RequestDraft:
    """What is repaired when a provider refuses it. Never mutated."""

    body: Body
    betas: tuple[str, ...] = ()
    """The flags of `anthropic-beta`, in the client's order."""
    names: Mapping[str, str] = field(default_factory=lambda: SAME_NAMES)
    """The client's name of each tool that goes by another one in the body."""
    quirks: Quirks | None = None
    """How it is put into the provider's format; `None` where that is the client's own."""

    def with_body(self, body: Body) -> "RequestDraft":
        """The draft with another body."""
        return replace(self, body=body)
