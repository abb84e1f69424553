"""An answer for which the conversation leaves no room: a shorter one would fit.

Only where the refusal says all numbers, and the room is worth having. Otherwise the conversation
is too long, and that is for the client to know.
"""

import re
from typing import Final

from ccfallback.policy.draft import RequestDraft
from ccfallback.rectify.max_tokens import shortened
from ccfallback.rectify.rule import Rectifier, Refusal, Repaired
from ccfallback.rectify.thinking_parts import max_tokens_of

LEAST: Final = 2048
"""Tokens with which an agent can do something."""

_MARGIN: Final = 256
"""Tokens of a template around the prompt, beside a hundredth of it for counts that are guesses."""

_IN: Final = r"(?P<prompt>\d[\d,]{0,11})"
_OUT: Final = r"(?P<output>\d[\d,]{0,11})"
_ALL: Final = r"(?P<asked>\d[\d,]{0,11})"
_MOST: Final = r"(?P<most>\d[\d,]{0,11})"
_CONTEXT: Final = rf"maximum context length is {_MOST} tokens"

_COUNTS: Final = tuple(
    re.compile(pattern)
    for pattern in (
        rf"input length and max_tokens exceed context limit: {_IN} \+ {_OUT} > {_MOST}",
        # vLLM
        rf"{_CONTEXT} and your request has {_IN} input tokens",
        rf"{_CONTEXT}.{{0,40}}requested {_OUT} output tokens"
        rf".{{0,80}}prompt contains at least {_IN}\b",
        # OpenAI, OpenRouter
        rf"{_CONTEXT}.{{0,40}}requested (?:about )?{_ALL} tokens"
        rf" \(.{{0,80}}?\b{_OUT} (?:in|for) (?:the|your) (?:completion|output)",
    )
)


class _ContextLimit:
    name = "context_limit"

    def repair(self, draft: RequestDraft, refusal: Refusal) -> Repaired | None:
        """Ask for an answer that fits."""
        text = refusal.text
        match = next((found for counts in _COUNTS if (found := counts.search(text))), None)
        if match is None:
            return None
        sizes = {name: int(size.replace(",", "")) for name, size in match.groupdict().items()}
        prompt = sizes["prompt"] if "prompt" in sizes else sizes["asked"] - sizes["output"]
        room = sizes["most"] - prompt - prompt // 100 - _MARGIN
        wanted = max_tokens_of(draft.body)
        if prompt < 0 or not LEAST <= room < wanted:
            return None
        # Another request of the same model may have room enough.
        return Repaired(shortened(draft, room), f"max_tokens changed from {wanted} to {room}")


CONTEXT_LIMIT: Final[Rectifier] = _ContextLimit()
