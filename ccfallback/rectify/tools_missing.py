"""Calls in the history of a request that brings no tools: stubs stand in for them."""

import re
from typing import Final

from ccfallback.policy.draft import RequestDraft
from ccfallback.rectify.rule import Rectifier, Refusal, Repaired
from ccfallback.rectify.turns import counted, kind_of, messages_of, places, word

_TRIGGER: Final = re.compile(
    r"requests which include tool_use or tool_result blocks must define tools"
    r"|toolconfig field must be defined when using tooluse and toolresult"
    r"|expects the tools= param(?:eter)? to be passed"
)
_LESSON: Final = "requests which include tool_use or tool_result blocks must define tools"

_DESCRIPTION: Final = "No longer available. Do not call it."


class _ToolsMissing:
    name = "tools_missing"

    def repair(self, draft: RequestDraft, refusal: Refusal) -> Repaired | None:
        """Every tool that was called is defined."""
        if not _TRIGGER.search(refusal.text) or draft.body.get("tools"):
            return None
        called = dict.fromkeys(
            name
            for _, block in places(messages_of(draft))
            if kind_of(block) == "tool_use" and (name := word(block, "name"))
        )
        if not called:
            return None
        stubs = [
            {"name": name, "description": _DESCRIPTION, "input_schema": {"type": "object"}}
            for name in called
        ]
        body = draft.body.with_members(tools=stubs)
        return Repaired(draft.with_body(body), counted(len(stubs), "tool", "stubbed"), _LESSON)


TOOLS_MISSING: Final[Rectifier] = _ToolsMissing()
