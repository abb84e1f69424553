"""A request as an attempt may change it: the body, the beta flags that unlock parts of it, and
what else is needed to send it and to read its answer.
"""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

import msgspec
from msgspec.structs import replace

from ccfallback.config.quirks import Quirks
from ccfallback.messages.body import Body

SAME_NAMES: Final[Mapping[str, str]] = MappingProxyType({})


class RequestDraft(msgspec.Struct, frozen=True):
    """A request to a provider, as repairs change it."""

    body: Body
    betas: tuple[str, ...] = ()
    """The flags of `anthropic-beta`, in the client's order."""
    names: Mapping[str, str] = SAME_NAMES
    """For each tool that has another name in the body: the client's name by that one."""
    quirks: Quirks | None = None
    """How it is translated to the provider's format; `None` if that is the client's own."""

    def with_body(self, body: Body) -> "RequestDraft":
        """The draft with another body."""
        return replace(self, body=body)
