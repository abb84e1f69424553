"""What a rectifier is given, and what it gives back."""

import re
from dataclasses import dataclass
from typing import Final, Protocol

from ccfallback.policy.draft import RequestDraft

_NOISE: Final = re.compile(r"[`'\"\u2018\u2019\u201c\u201d]")
_SPACE: Final = re.compile(r"\s+")


@dataclass(frozen=True, slots=True)
class Refusal:
    """What an upstream said of the request that it refused."""

    status: int
    message: str
    code: str = ""
    """A machine-readable code, where it gave one."""

    @property
    def text(self) -> str:
        """The message for matching: lower case, no quotes, single spaces."""
        return _SPACE.sub(" ", _NOISE.sub("", self.message)).lower().strip()


@dataclass(frozen=True, slots=True)
class Repaired:
    """A repair that was made."""

    draft: RequestDraft
    changed: str
    """What was changed, in counts and names, never content: `3 thinking blocks removed`."""
    lesson: str | None = None
    """A refusal's message by which the same repair can be made on any later request of that
    provider and model, before it is refused; `None` where the fault lay in this request alone.
    Made of names and numbers only, because it is kept."""


class Rectifier(Protocol):
    """One known repair."""

    name: str

    def repair(self, draft: RequestDraft, refusal: Refusal) -> Repaired | None:
        """A new draft, or `None` where this is not the repair to make or nothing would change."""
