"""Answers for which there is no room."""

import pytest

from ccfallback.rectify.context_limit import CONTEXT_LIMIT, LEAST
from tests.rectify.drafts import after, draft, refused, repaired
from tests.rectify.refusals import REFUSALS

LIMIT = "input length and `max_tokens` exceed context limit: {} + {} > {}, decrease input length"


@pytest.mark.parametrize("message", REFUSALS["context_limit"])
def test_what_is_asked_for_fits(message: str) -> None:
    left = after(CONTEXT_LIMIT, draft(max_tokens=128000), message)["max_tokens"]
    prompt = 100000 if "100000" in message else 3073 if "3073" in message else 12000
    context = 200000 if "200000" in message else 131072
    assert 0.95 * (context - prompt) < left < context - prompt


def test_nothing_is_learned() -> None:
    before = draft(max_tokens=128000)
    assert repaired(CONTEXT_LIMIT, before, LIMIT.format(100, 128000, 128000)).lesson is None


@pytest.mark.parametrize(
    "message",
    [
        LIMIT.format(198000, 32000, 200000),
        LIMIT.format(210000, 32000, 200000),
        LIMIT.format(100, 32000, 200000),
        "prompt is too long: 210000 tokens > 200000 maximum",
    ],
)
def test_a_conversation_that_is_too_long_is_not_repaired(message: str) -> None:
    assert LEAST == 2048
    assert refused(CONTEXT_LIMIT, draft(max_tokens=32000), message)
