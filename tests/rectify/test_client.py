"""What is left to the client."""

import pytest

from ccfallback.rectify.client import repairs_itself
from ccfallback.rectify.rule import Refusal


@pytest.mark.parametrize(
    "message",
    [
        "context_management: Extra inputs are not permitted",
        "Unexpected value(s) `foo-1`, `bar-2` for the `anthropic-beta` header. Please consult",
        "messages.1.role: Input should be 'user' or 'assistant'",
        'messages: Unexpected role "system". The Messages API accepts a top-level `system`',
        "adaptive thinking is not supported on this model",
        "This model does not support the effort parameter.",
        "max_tokens: 128000 > 64000, which is the maximum allowed number of output tokens",
        "input length and `max_tokens` exceed context limit: 1 + 2 > 3",
        "messages.1.content.0: Invalid `signature` in `thinking` block",
    ],
)
def test_what_the_client_mends_is_left_to_it(message: str) -> None:
    assert repairs_itself(Refusal(400, message))


@pytest.mark.parametrize(
    "message",
    [
        "thinking.budget_tokens: Input should be greater than or equal to 1024",
        "tools.0.custom.input_examples: Extra inputs are not permitted",
        "messages.1: `tool_use` ids were found without `tool_result` blocks immediately after",
        "",
    ],
)
def test_anything_else_is_not(message: str) -> None:
    assert not repairs_itself(Refusal(400, message))
