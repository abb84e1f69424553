"""Why an answer ended: the words for it, Anthropic's own and those of other providers.

An end that is not known as a good one is a failure of the model: `abort`,
`MALFORMED_FUNCTION_CALL`. The text before it would read as if it were whole.
"""

from enum import Enum
from typing import Final

from ccfallback.messages.errors import STOP_FAILURE, UpstreamError

_ABSENT: Final = frozenset({"", "null", "none"})
"""What some servers write into each chunk of a stream for a reason that is still absent."""

_TURN: Final = frozenset(
    {
        *("stop", "end_turn", "eos", "eos_token", "end", "stop_sequence", "stop_token"),
        *("complete", "completed", "done", "finished", "finish_reason_stop"),
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


_ENDS: Final = {
    word: end
    for words, end in (
        (_ABSENT | _TURN, End.TURN),
        (_CUT, End.CUT),
        (_REFUSED, End.REFUSED),
        (_WINDOWS_FULL, End.WINDOW_FULL),
    )
    for word in words
}


def is_absent(reason: str | None) -> bool:
    """Whether a stop reason stands for none, and so does not show that a stream has ended."""
    return _first_word(reason) in _ABSENT


def read_end(reason: str | None) -> End:
    """What the stop reason of an answer that has ended means; an absent one means a good end."""
    return _ENDS.get(_first_word(reason), End.FAILED)


def _first_word(reason: str | None) -> str:
    # Some providers add details: `content_filter: violence`.
    return (reason or "").strip().lower().partition(":")[0].strip()


def stop_failure(reason: str | None) -> UpstreamError | None:
    """The error that a stop reason stands for; `None` if the end is a good one."""
    if read_end(reason) is not End.FAILED:
        return None
    return UpstreamError(STOP_FAILURE, f"the answer ended with {(reason or '')[:64]}")
