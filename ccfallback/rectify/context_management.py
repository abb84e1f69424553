"""Context management that a provider does not know, or that does not go with the rest."""

import re
from typing import Final

from ccfallback.core.draft import Draft
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
_OFF: Final = (None, "disabled")


class _ContextManagement:
    name = "context_management"

    def repair(self, draft: Draft, refusal: Refusal) -> Repaired | None:
        """Take out the edit that is refused, or all of it."""
        text = refusal.text
        edit = _lesson_of_edit(draft, text)
        if edit is not None:
            repaired = without_clearing(draft)
            return None if repaired is draft else Repaired(repaired, "clear_thinking removed", edit)
        refused = any(path[0] == _FIELD for path in refused_paths(text))
        if _FIELD not in draft.body or not (refused or _UNSUPPORTED.search(text)):
            return None
        return Repaired(
            settled(draft, draft.body.without(_FIELD)),
            f"{_FIELD} removed",
            unknown_field((_FIELD,)),
        )


def _lesson_of_edit(draft: Draft, text: str) -> str | None:
    """The lesson of a refusal of the edit alone; `None` of any other."""
    if _UNKNOWN_EDIT.search(text):
        return "Input tag clear_thinking found using type does not match any expected tag"
    if _NEEDS_THINKING.search(text):
        return _WITHOUT_THINKING
    # Our own lesson: a provider that wants thinking for it takes it where there is some.
    is_off = thinking_of(draft.body).get("type") in _OFF
    return _WITHOUT_THINKING if is_off and text == _WITHOUT_THINKING else None


CONTEXT_MANAGEMENT: Final[Rectifier] = _ContextManagement()
