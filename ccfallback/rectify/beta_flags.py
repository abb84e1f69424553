"""Flags of `anthropic-beta` that a provider does not know: they go, with the fields they unlock."""

import re
from typing import Final

from ccfallback.policy.draft import RequestDraft
from ccfallback.rectify.betas import without_betas
from ccfallback.rectify.parts import counted
from ccfallback.rectify.rule import Rectifier, Refusal, Repaired

_ABOUT_FLAGS: Final = re.compile(r"anthropic[-_]beta|beta (?:flag|header|feature)s?\b")
_REFUSED: Final = re.compile(
    r"unexpected|unsupported|unknown|unrecognized|invalid|not (?:supported|allowed|permitted|valid)"
)
_KNOWN: Final = re.compile(
    r"(?:supported|allowed|valid|accepted|expected|available) (?:\w+ ){0,2}are"
)
_NAMING_NONE: Final = re.compile(r"\binvalid beta flags?\b")
_LOGIN: Final = "oauth-"
"""Without this flag the login itself is refused."""


class _BetaFlags:
    name = "beta_flags"

    def repair(self, draft: RequestDraft, refusal: Refusal) -> Repaired | None:
        """Take out the flags that the refusal names; some gateways refuse them all unnamed."""
        text = refusal.text
        if not (_ABOUT_FLAGS.search(text) and _REFUSED.search(text)):
            return None
        said = _KNOWN.split(text)[0]
        named = frozenset(beta for beta in draft.betas if _names(said, beta))
        if not named and _NAMING_NONE.search(text):
            named = frozenset(beta for beta in draft.betas if not beta.startswith(_LOGIN))
        if not named:
            return None
        repaired, fields = without_betas(draft, named)
        names = sorted(named)
        without = f", and {', '.join(fields)}" if fields else ""
        return Repaired(
            repaired,
            f"{counted(len(names), 'beta flag')} removed: {', '.join(names)}{without}",
            f"Unexpected value(s) {', '.join(names)} for the anthropic-beta header",
        )


def _names(text: str, beta: str) -> bool:
    return re.search(rf"(?<![\w-]){re.escape(beta.lower())}(?![\w-])", text) is not None


BETA_FLAGS: Final[Rectifier] = _BetaFlags()
