"""Why an answer ended, in Anthropic's words."""

from collections.abc import Mapping
from typing import Final

from ccfallback.messages.body import Body
from ccfallback.messages.errors import UpstreamError
from ccfallback.wire.openai import errors

_FAILURES: Final[Mapping[str, int]] = {
    "error": 500,
    "network_error": 502,
    "insufficient_system_resource": 529,
}
"""No end of an answer at all: the status that it comes to."""

_CUT: Final = frozenset({"length", "max_tokens", "model_length", "max_output_tokens"})
_REFUSED: Final = frozenset({"content_filter", "content-filter", "sensitive", "refusal", "safety"})
_WINDOW_FULL: Final = "model_context_window_exceeded"


def failure(finish: str | None, error: object) -> UpstreamError | None:
    """The failure that a choice tells of, if it does."""
    if error:
        told = errors.inside({"error": error})
        if told is not None:
            return told
    status = _FAILURES.get((finish or "").lower())
    return None if status is None else errors.of_status(status, f"the answer ended with {finish}")


def is_cut(finish: str | None) -> bool:
    """Whether an answer was too long."""
    return (finish or "").lower() in _CUT


def reason(finish: str | None, *, calls: bool, whole: bool, refused: bool) -> str:
    """The stop reason; whether there are calls counts more than what is said about them.

    `whole` says that the arguments of the last call are.
    """
    finish = (finish or "").lower()
    if finish in _REFUSED:
        return "refusal"
    if finish == _WINDOW_FULL:
        return _WINDOW_FULL
    if finish in _CUT and not (calls and whole):
        return "max_tokens"
    if calls:
        return "tool_use"
    return "refusal" if refused else "end_turn"


def sequence(said: object, asked: Body) -> str | None:
    """The stop sequence that ended an answer, where the upstream names it and the client gave it.

    vLLM does; from everybody else, such an end looks like any other.
    """
    if not isinstance(said, str) or not said:
        return None
    sequences = asked.get("stop_sequences")
    return said if isinstance(sequences, list) and said in sequences else None
