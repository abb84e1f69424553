"""What Claude Code repairs by itself.

On the primary its own ladder stays in charge: it edits the request by the wording of the refusal
and remembers for the session, which a repair on the way would keep it from.
"""

import re
from typing import Final

from ccfallback.rectify.rule import Refusal

_REPAIRED_BY_THE_CLIENT: Final = tuple(
    re.compile(form)
    for form in (
        r"context_management: extra inputs are not permitted",
        r"unexpected values?(?:\(s\))? .* for the anthropic-beta header",
        r"role: input should be user or assistant",
        r"unexpected role system",
        r"adaptive thinking is not supported",
        r"does not support the effort parameter",
        r"max_tokens: \d+ > \d+",
        r"input length and max_tokens exceed context limit",
        r"invalid signature in thinking block",
    )
)
"""Wordings (normalised, see `Refusal.text`) that the client acts on."""

THE_CLIENTS_OWN: Final = frozenset({"media", "prefill", "tool_schemas"})
"""Repairs that cost more than they mend where the client has ways of its own."""


def repairs_itself(refusal: Refusal) -> bool:
    """Whether the client knows what to do about a refusal."""
    return any(form.search(refusal.text) for form in _REPAIRED_BY_THE_CLIENT)
