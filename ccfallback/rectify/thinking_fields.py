"""Members of `thinking` that a provider does not know yet."""

import re
from typing import Final

from ccfallback.policy.draft import RequestDraft
from ccfallback.rectify.betas import settled
from ccfallback.rectify.parts import without_all
from ccfallback.rectify.paths import refused_paths, unknown_field
from ccfallback.rectify.rule import Rectifier, Refusal, Repaired

_MEMBERS: Final = ("display", "block_binding")
_REFUSED: Final = re.compile(
    r"\bthinking\.(?:\w+\.)?(?P<member>display|block_binding)(?:\.\w+)*:"
    r" (?:input should be|\w+ input)"
    r"|\bthinking\.(?:\w+\.)?(?P<other>display|block_binding)\b.{0,20} not supported"
)


class _ThinkingFields:
    name = "thinking_fields"

    def repair(self, draft: RequestDraft, refusal: Refusal) -> Repaired | None:
        """Take them out."""
        text = refusal.text
        refused = [step for path in refused_paths(text) for step in path]
        refused += [match["member"] or match["other"] for match in _REFUSED.finditer(text)]
        members = [member for member in _MEMBERS if member in refused]
        body, count = without_all(draft.body, [("thinking", member) for member in members])
        if not count:
            return None
        return Repaired(
            settled(draft, body),
            f"{', '.join(members)} removed from thinking",
            "; ".join(unknown_field(("thinking", member)) for member in members),
        )


THINKING_FIELDS: Final[Rectifier] = _ThinkingFields()
