"""The tokens of an answer: OpenAI counts cached ones in, Anthropic counts them apart."""

from collections.abc import Iterable, Mapping
from typing import Any, Final

from ccfallback.messages import tokens
from ccfallback.messages.body import Body
from ccfallback.messages.tokens import Usage

BYTES_A_TOKEN: Final = 4
"""About so many, where nobody counted an answer."""

NOTHING_YET: Final[Mapping[str, int]] = {
    "input_tokens": 0,
    "cache_creation_input_tokens": 0,
    "cache_read_input_tokens": 0,
    "output_tokens": 0,
}
"""What the beginning of a stream says; its end says better, and the last word counts."""

_PROMPT: Final = (("prompt_tokens",), ("input_tokens",))
_ANSWER: Final = (("completion_tokens",), ("output_tokens",))
_CACHED: Final = (
    ("prompt_tokens_details", "cached_tokens"),
    ("prompt_cache_hit_tokens",),
    ("cached_tokens",),
    ("cache_read_input_tokens",),
)
_WRITTEN: Final = (
    ("prompt_tokens_details", "cache_write_tokens"),
    ("prompt_tokens_details", "cache_creation_tokens"),
    ("cache_creation_input_tokens",),
)
_REASONING: Final = (
    ("completion_tokens_details", "reasoning_tokens"),
    ("reasoning_tokens",),
)
_TOTAL: Final = (("total_tokens",),)


def take(usage: Usage, value: object) -> int | None:
    """Put what a usage object says into `usage`; returns the tokens of thinking, where it says."""
    if not isinstance(value, Mapping):
        return None
    prompt, answer = _first(value, _PROMPT), _first(value, _ANSWER)
    cached, written = _first(value, _CACHED), _first(value, _WRITTEN)
    reasoning = _first(value, _REASONING)
    # A prompt without tokens is a relay that does not count.
    if prompt:
        usage.input_tokens = max(0, prompt - (cached or 0) - (written or 0))
        usage.cache_read, usage.cache_write = cached or 0, written or 0
    if answer is not None and (answer or prompt):
        total = _first(value, _TOTAL)
        # xAI and some others count the reasoning apart.
        apart = total is not None and prompt is not None and total - prompt - answer == reasoning
        usage.output_tokens = answer + (reasoning or 0 if apart else 0)
    return reasoning


def in_llama_timings(value: object) -> dict[str, int] | None:
    """A usage object for the `timings` of llama.cpp."""
    if not isinstance(value, Mapping):
        return None
    cached, prompt = _count(value.get("cache_n")) or 0, _count(value.get("prompt_n"))
    answer = _count(value.get("predicted_n"))
    if prompt is None or answer is None:
        return None
    return {
        "prompt_tokens": prompt + cached,
        "cached_tokens": cached,
        "completion_tokens": answer,
    }


def told(usage: Usage, thinking: int | None, asked: Body, sent_bytes: int) -> dict[str, Any]:
    """The usage to tell the client; estimated where the upstream did not count."""
    prompt = usage.input_tokens
    answer = usage.output_tokens
    counts: dict[str, Any] = {
        "input_tokens": tokens.estimate(asked) if prompt is None else prompt,
        "cache_creation_input_tokens": usage.cache_write or 0,
        "cache_read_input_tokens": usage.cache_read or 0,
        "output_tokens": -(-sent_bytes // BYTES_A_TOKEN) if answer is None else answer,
    }
    if thinking is not None:
        counts["output_tokens_details"] = {"thinking_tokens": thinking}
    return counts


def _first(value: Mapping[str, Any], places: Iterable[tuple[str, ...]]) -> int | None:
    for path in places:
        found: Any = value
        for key in path:
            found = found.get(key) if isinstance(found, Mapping) else None
        if (count := _count(found)) is not None:
            return count
    return None


def _count(value: object) -> int | None:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return max(0, int(value))
