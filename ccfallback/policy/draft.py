"""A request as an attempt may change it: the body, the beta flags that unlock parts of it, and
what else is needed to send it and to read its answer.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Final

from ccfallback.config.quirks import Quirks
from ccfallback.messages.body import Body

SAME_NAMES: Final[Mapping[str, str]] = MappingProxyType({})


@dataclass(slots=True)
class RequestDraft:
    """A request to a provider, as repairs change it. Never mutated.

    Not frozen, because every request makes one: a frozen dataclass takes twice as long to make.
    """

    body: Body
    betas: tuple[str, ...] = ()
    """The flags of `anthropic-beta`, in the client's order."""
    names: Mapping[str, str] = field(default_factory=lambda: SAME_NAMES)
    """For each tool that has another name in the body: the client's name by that one."""
    quirks: Quirks | None = None
    """How it is translated to the provider's format; `None` if that is the client's own."""

    def with_body(self, body: Body) -> "RequestDraft":
        """The draft with another body."""
        return replace(self, body=body)
