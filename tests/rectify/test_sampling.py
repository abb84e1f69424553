"""What steers the choice of words."""

from typing import Any

import pytest

from ccfallback.rectify.sampling import SAMPLING
from tests.rectify.drafts import draft, refused, repaired

ALL: Any = {"temperature": 0.7, "top_p": 0.9, "top_k": 5}
BOTH = "`temperature` and `top_p` cannot both be specified for this model."


@pytest.mark.parametrize(
    ("message", "left"),
    [
        (BOTH, {"temperature", "top_k"}),
        ("`temperature` is deprecated for this model.", set()),
        ("`top_k` must be unset when thinking is enabled.", set()),
        ("Unsupported parameter: 'top_p' is not supported with this model.",
         {"temperature", "top_k"}),
        ("top_k: Extra inputs are not permitted", {"temperature", "top_p"}),
        ("Unsupported value: 'temperature' does not support 0.7", {"top_p", "top_k"}),
    ],
)  # fmt: skip
def test_what_is_left(message: str, left: set[str]) -> None:
    made = repaired(SAMPLING, draft(**ALL), message)
    assert {name for name in ALL if name in made.draft.body} == left


def test_what_depends_on_thinking_is_not_learned() -> None:
    message = "`temperature` may only be set to 1 when thinking is enabled."
    assert repaired(SAMPLING, draft(**ALL), message).lesson is None


def test_nothing_to_do() -> None:
    assert refused(SAMPLING, draft(top_p=1), BOTH)
    assert refused(SAMPLING, draft(), "`temperature` is deprecated for this model.")
    assert refused(SAMPLING, draft(**ALL), "temperature: Input should be less than or equal to 1")
