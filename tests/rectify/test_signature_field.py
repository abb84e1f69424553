"""Signatures that are refused as such."""

from typing import Any

import pytest

from ccfallback.rectify.signature_field import SIGNATURE_FIELD as RULE
from tests.rectify.drafts import CALL, HI, THOUGHT, after, assistant, draft, refused

EXTRA = "{}: Extra inputs are not permitted"
SIGNED = {**CALL, "signature": "s"}


@pytest.mark.parametrize(
    ("path", "left"),
    [
        ("messages.1.content.1.tool_use.signature", [THOUGHT, CALL]),
        ("messages.1.content.0.thinking.signature", [SIGNED]),
        ("messages.1.content.0.signature", [CALL]),
        ("signature", [CALL]),
    ],
)
def test_what_is_left(path: str, left: list[Any]) -> None:
    now = after(RULE, draft(HI, assistant(THOUGHT, SIGNED)), EXTRA.format(path))
    assert now["messages"] == [HI, assistant(*left)]


def test_nothing_to_do() -> None:
    path = EXTRA.format("messages.1.content.1.tool_use.signature")
    assert refused(RULE, draft(HI, assistant(THOUGHT, CALL)), path)
    assert refused(RULE, draft(), EXTRA.format("signature"))
