"""Why an answer ended: the words for it, Anthropic's own and those of other providers.

An end that is not known as a good one is a failure of the model: `abort`,
`MALFORMED_FUNCTION_CALL`. The text before it would read as if it were whole.
"""

from enum import Enum
from typing import Final

from ccfallback.messages.errors import STOP_FAILURE, UpstreamError

_TURN: Final = frozenset(
    {
        *("", "stop", "end_turn", "eos", "eos_token", "end", "stop_sequence", "stop_token"),
        *("complete", "completed", "done", "finished", "null", "none", "finish_reason_stop"),
        *("tool_calls", "tool_call", "tool_use", "function_call", "function_calls"),
        *("pause_turn", "compaction"),
    }
)
_CUT: Final = frozenset(
    {
        *("length", "max_tokens", "model_length", "max_output_tokens", "max_new_tokens"),
        *("max_length", "max_completion_tokens", "token_limit", "length_limit"),
        "finish_reason_max_tokens",
    }
)
_REFUSED: Final = frozenset(
    {
        *("content_filter", "content-filter", "sensitive", "refusal", "safety", "content_filtered"),
        *("prohibited_content", "blocklist", "spii", "recitation", "guardrail_intervened"),
        *("moderation", "content_policy_violation"),
    }
)
WINDOW_FULL: Final = "model_context_window_exceeded"
_WINDOWS_FULL: Final = frozenset(
    {WINDOW_FULL, "context_window_exceeded", "context_length_exceeded"}
)


class End(Enum):
    """What a stop reason means."""

    TURN = "turn"
    CUT = "cut"
    REFUSED = "refused"
    WINDOW_FULL = "window full"
    FAILED = "failed"


_ENDS: Final = (
    (_TURN, End.TURN),
    (_CUT, End.CUT),
    (_REFUSED, End.REFUSED),
    (_WINDOWS_FULL, End.WINDOW_FULL),
)


def read_end(reason: str | None) -> End:
    """What a stop reason means, in whatever words; none means a good end."""
    # Some providers add details: `content_filter: violence`.
    word = (reason or "").strip().lower().partition(":")[0].strip()
    return next((end for words, end in _ENDS if word in words), End.FAILED)


def stop_failure(reason: str | None) -> UpstreamError | None:
    """The error that a stop reason stands for; `None` if the end is a good one."""
    if read_end(reason) is not End.FAILED:
        return None
    return UpstreamError(STOP_FAILURE, f"the answer ended with {(reason or '')[:64]}")
