"""A request as an attempt may change it: the body, and the flags that unlock parts of it."""

from dataclasses import dataclass

from ccfallback.core.body import Body


@dataclass(frozen=True, slots=True)
class Draft:
    """What is repaired when a provider refuses it. Never mutated."""

    body: Body
    betas: tuple[str, ...] = ()
    """The flags of `anthropic-beta`, in the client's order."""
