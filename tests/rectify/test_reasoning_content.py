"""Thinking that a provider wants back."""

from typing import Any

import pytest

from ccfallback.config.quirks import Quirks
from ccfallback.rectify.reasoning_content import REASONING_CONTENT as RULE
from ccfallback.wire.openai.request import to_openai
from tests.rectify.drafts import (
    CALL,
    HI,
    RESULT,
    THOUGHT,
    assistant,
    draft,
    refused,
    repaired,
    text,
    user,
)

REFUSAL = "The `reasoning_content` in the thinking mode must be passed back to the API."
SHOWN = {"type": "thinking", "thinking": "(omitted)", "signature": "omitted"}


@pytest.mark.parametrize(
    ("message", "expected"),
    [
        (assistant(CALL), assistant(SHOWN, CALL)),
        ({"role": "assistant", "content": "a"}, assistant(SHOWN, text("a"))),
        (assistant({**THOUGHT, "thinking": ""}, CALL), assistant(SHOWN, CALL)),
        (assistant({**THOUGHT, "thinking": " "}, CALL), assistant(SHOWN, CALL)),
    ],
)
def test_that_there_was_some_is_said(message: Any, expected: Any) -> None:
    made = repaired(RULE, draft(HI, message, user(RESULT)), REFUSAL)
    assert made.draft.body.get("messages") == [HI, expected, user(RESULT)]


def test_it_arrives_in_the_other_format() -> None:
    made = repaired(RULE, draft(HI, assistant(CALL), user(RESULT)), REFUSAL)
    sent = to_openai(made.draft.body, Quirks(reasoning_content="all"), "m").get("messages")
    assert sent[1]["reasoning_content"] == "(omitted)"


@pytest.mark.parametrize("message", [assistant(THOUGHT, CALL), assistant(), HI])
def test_nothing_to_do(message: Any) -> None:
    assert refused(RULE, draft(HI, message), REFUSAL)
