"""System messages among the messages, for a provider that knows only users and assistants."""

import re
from typing import Final

from ccfallback.policy.draft import RequestDraft
from ccfallback.rectify.betas import settled
from ccfallback.rectify.inline_system import folded, has_system
from ccfallback.rectify.parts import counted, messages_of, role_of
from ccfallback.rectify.rule import Rectifier, Refusal, Repaired

_CODE: Final = "mid_conversation_system_not_supported"
_REFUSED: Final = re.compile(
    r"(?:unexpected|unsupported|unknown|invalid) role:? system\b"
    r"|\brole:? system (?:is )?(?:not (?:supported|allowed)|unsupported|invalid)"
    r"|\bsystem role (?:is )?not supported"
    r"|\brole: input should be user or assistant"
    r"|\brole: unknown variant system\b|\brole: .{0,20}must be (?:either )?user or assistant"
    r"|only user(?:,| and)(?: and)? assistant roles are supported"
    r"|system messages? must be (?:at|in) the (?:beginning|start)"
    r"|system messages? (?:is|are) (?:only|not) (?:allowed|supported)"
    rf"|{_CODE}"
)


class _SystemRole:
    name = "system_role"

    def repair(self, draft: RequestDraft, refusal: Refusal) -> Repaired | None:
        """Let the user's turns say what the system messages said."""
        refused = refusal.code == _CODE or _REFUSED.search(refusal.text)
        if not refused or not has_system(draft.body):
            return None
        count = sum(role_of(message) == "system" for message in messages_of(draft.body))
        return Repaired(
            settled(draft, folded(draft.body)),
            f"{counted(count, 'system message')} folded into user messages",
            "messages.*.role: Input should be 'user' or 'assistant'",
        )


SYSTEM_ROLE: Final[Rectifier] = _SystemRole()
