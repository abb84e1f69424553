"""Two tools of the same name: the first one stays."""

import re
from typing import Final

from ccfallback.policy.draft import RequestDraft
from ccfallback.rectify.rule import Rectifier, Refusal, Repaired
from ccfallback.rectify.turns import counted, word

_TRIGGER: Final = re.compile(
    r"tool names must be unique|duplicate (?:tool|function) (?:name|declaration)s?\b"
)


class _ToolNames:
    name = "tool_names"

    def repair(self, draft: RequestDraft, refusal: Refusal) -> Repaired | None:
        """Every tool has a name of its own."""
        tools = draft.body.get("tools")
        if not _TRIGGER.search(refusal.text) or not isinstance(tools, list):
            return None
        seen: set[str] = set()
        kept = []
        for tool in tools:
            name = word(tool, "name")
            if name not in seen:
                kept.append(tool)
            # A toolset has no name, and there may be several.
            if name:
                seen.add(name)
        if len(kept) == len(tools):
            return None
        body = draft.body.with_items("tools", kept)
        changed = counted(len(tools) - len(kept), "tool", "of a name already taken removed")
        return Repaired(draft.with_body(body), changed)


TOOL_NAMES: Final[Rectifier] = _ToolNames()
