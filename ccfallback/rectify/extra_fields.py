"""Any other field that a provider calls unknown: it goes, and nothing besides.

What the request is about stays, and so does what the client reads the answer by.
"""

from typing import Final

from ccfallback.policy.draft import RequestDraft
from ccfallback.rectify.betas import settled
from ccfallback.rectify.parts import Path, without
from ccfallback.rectify.paths import refused_paths, unknown_fields
from ccfallback.rectify.rule import Rectifier, Refusal, Repaired
from ccfallback.rectify.tool_fields import FIELDS as OF_TOOLS

_KEPT: Final = frozenset(
    {
        *("model", "messages", "max_tokens", "tools", "system", "stream", "tool_choice"),
        *("output_format", "thread", "compaction"),
    }
)
"""Members of a request that mean something else when they are gone."""

_CONTENT: Final = frozenset({"input", "input_schema", "schema", "data"})
"""Members whose inside is not the protocol's business."""

_OTHERS: Final = frozenset(
    {
        *("context_management", "output_config", "cache_control", "signature"),
        *("temperature", "top_p", "top_k", "stop_sequences", "block_binding", "display"),
    }
)
"""Fields for which there is a repair of their own."""


class _ExtraFields:
    name = "extra_fields"

    def repair(self, draft: RequestDraft, refusal: Refusal) -> Repaired | None:
        """Take out every field that the refusal names."""
        paths = [path for path in refused_paths(refusal.text) if _may_go(path)]
        body, gone = draft.body, []
        for path in paths:
            body, count = without(body, path)
            if count:
                gone.append(path)
        if not gone:
            return None
        names = ", ".join(".".join(path) for path in gone)
        return Repaired(settled(draft, body), f"{names} removed", unknown_fields(gone))


def _may_go(path: Path) -> bool:
    if len(path) == 1 and path[0] in _KEPT:
        return False
    if path[0] == "tools" and path[-1] in OF_TOOLS:
        return False
    return _OTHERS.isdisjoint(path) and _CONTENT.isdisjoint(path[:-1])


EXTRA_FIELDS: Final[Rectifier] = _ExtraFields()
