"""Context management that a provider does not know, or that does not go with the rest."""

import re
from typing import Final

from ccfallback.policy.draft import RequestDraft
from ccfallback.rectify.betas import settled
from ccfallback.rectify.paths import refused_paths, unknown_field
from ccfallback.rectify.rule import Rectifier, Refusal, Repaired
from ccfallback.rectify.thinking_parts import thinking_of, without_clearing

_FIELD: Final = "context_management"
_UNSUPPORTED: Final = re.compile(
    r"context_management\b.{0,20} (?:is not|not) (?:supported|allowed|available)"
    r"|(?:does not|doesnt) support context[_ ]management"
)
_WITHOUT_THINKING: Final = "clear_thinking edits go only with thinking"
_NEEDS_THINKING: Final = re.compile(r"clear_thinking\w*\b.{0,40}\brequires\b.{0,20}\bthinking")
_UNKNOWN_EDIT: Final = re.compile(r"input tag clear_thinking\w* found")
_UNKNOWN: Final = "Input tag clear_thinking found using type does not match any expected tag"


class _ContextManagement:
    name = "context_management"

    def repair(self, draft: RequestDraft, refusal: Refusal) -> Repaired | None:
        """Take out the edit that is refused, or all of it."""
        text = refusal.text
        if _is_about_clearing(draft, text):
            repaired = without_clearing(draft)
            lesson: str | None = _UNKNOWN if _UNKNOWN_EDIT.search(text) else _WITHOUT_THINKING
            if lesson == _WITHOUT_THINKING and not _is_off(draft):
                # Why it is refused is not known, then.
                lesson = None
            if repaired is draft:
                return None
            return Repaired(repaired, "clear_thinking removed", lesson)
        refused = any(path[0] == _FIELD for path in refused_paths(text))
        if _FIELD not in draft.body or not (refused or _UNSUPPORTED.search(text)):
            return None
        return Repaired(
            settled(draft, draft.body.without(_FIELD)),
            f"{_FIELD} removed",
            unknown_field((_FIELD,)),
        )


def _is_about_clearing(draft: RequestDraft, text: str) -> bool:
    """Whether only the edit that clears thinking is refused."""
    if _UNKNOWN_EDIT.search(text) or _NEEDS_THINKING.search(text):
        return True
    # Our own lesson: where there is thinking, the edit is taken.
    return text == _WITHOUT_THINKING and _is_off(draft)


def _is_off(draft: RequestDraft) -> bool:
    return thinking_of(draft.body).get("type") in (None, "disabled")


CONTEXT_MANAGEMENT: Final[Rectifier] = _ContextManagement()
