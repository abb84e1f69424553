"""Members of tools that a provider does not know.

Without deferred loading all tools are there from the start, and the stand-in for the others goes.
"""

import re
from typing import Final

from ccfallback.messages.body import Body
from ccfallback.policy.draft import RequestDraft
from ccfallback.rectify.betas import settled
from ccfallback.rectify.deferred_tools import has_deferred, loaded
from ccfallback.rectify.parts import ANY, without
from ccfallback.rectify.paths import refused_paths, unknown_fields
from ccfallback.rectify.rule import Rectifier, Refusal, Repaired

FIELDS: Final = frozenset(
    {"input_examples", "defer_loading", "eager_input_streaming", "strict", "allowed_callers"}
)

_DEFERRED: Final = "defer_loading"
_UNSUPPORTED: Final = re.compile(
    r"\b(?P<field>input_examples|defer_loading|eager_input_streaming|allowed_callers)"
    r"(?: \w+){0,2} (?:is|are) (?:not|un)"
    r"|(?:does not|doesnt|not) support (?P<named>input_examples|defer_loading"
    r"|eager_input_streaming|allowed_callers)\b"
)
_NO_REFERENCES: Final = re.compile(
    r"input tag tool_reference found|tool_reference\w* .{0,20}not su"
)


class _ToolFields:
    name = "tool_fields"

    def repair(self, draft: RequestDraft, refusal: Refusal) -> Repaired | None:
        """Take the refused members out of all tools."""
        fields = _fields(refusal.text)
        body, gone = draft.body, []
        for field in fields:
            changed = _without(body, field)
            if changed is not body:
                body = changed
                gone.append(field)
        if not gone:
            return None
        return Repaired(
            settled(draft, body),
            f"{', '.join(gone)} removed from tools",
            unknown_fields([("tools", ANY, field) for field in fields]),
        )


def _without(body: Body, field: str) -> Body:
    if field == _DEFERRED:
        return loaded(body) if has_deferred(body) else body
    return without(body, ("tools", ANY, field))[0]


def _fields(text: str) -> list[str]:
    """The members that a refusal names, each once."""
    found = [
        path[-1]
        for path in refused_paths(text)
        if path[-1] in FIELDS and (path[0] == "tools" or len(path) == 1)
    ]
    found += [match["field"] or match["named"] for match in _UNSUPPORTED.finditer(text)]
    if _NO_REFERENCES.search(text):
        found.append(_DEFERRED)
    return list(dict.fromkeys(found))


TOOL_FIELDS: Final[Rectifier] = _ToolFields()
