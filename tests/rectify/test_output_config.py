"""Parts of `output_config` that are refused."""

from typing import Any

import pytest

from ccfallback.rectify.output_config import OUTPUT_CONFIG as RULE
from tests.rectify.drafts import BETAS, HI, after, draft, refused, repaired

FORMAT = {"type": "json_schema", "schema": {}}
NOTE = {"role": "system", "content": "x"}
LOW: Any = {"output_config": {"effort": "low"}}
EXTRA = "{}: Extra inputs are not permitted"


@pytest.mark.parametrize(
    ("config", "message", "left"),
    [
        ({"effort": "high"}, EXTRA.format("output_config"), None),
        ({"effort": "high"}, EXTRA.format("output_config.effort"), None),
        ({"effort": "high", "format": FORMAT}, "does not support the effort parameter",
         {"format": FORMAT}),
        ({"effort": "high", "task_budget": {}}, EXTRA.format("output_config.task_budget"),
         {"effort": "high"}),
        ({"effort": "max"}, "output_config.effort: Input should be 'low', 'medium' or 'high'",
         {"effort": "high"}),
        ({"effort": "xhigh"}, "'reasoning_effort' does not support 'xhigh' with this model. "
         "Supported values are: 'low', 'medium', and 'high'.", {"effort": "high"}),
        ({"effort": "low"}, "reasoning_effort must be one of medium, high", {"effort": "medium"}),
    ],
)  # fmt: skip
def test_what_is_left(config: Any, message: str, left: Any) -> None:
    assert (
        after(RULE, draft(HI, betas=BETAS, output_config=config), message).get("output_config")
        == left
    )


def test_the_flag_goes_with_the_effort() -> None:
    made = repaired(RULE, draft(betas=BETAS, **LOW), "does not support the effort parameter")
    assert set(BETAS) - set(made.draft.betas) == {"effort-2025-11-24"}


def test_the_effort_of_a_message_moves_to_the_top() -> None:
    before = draft(HI, {**NOTE, **LOW}, betas=BETAS, output_config={"effort": "high"})
    made = repaired(RULE, before, EXTRA.format("messages.1.output_config"))
    assert made.draft.body.get("messages") == [HI, NOTE]
    assert made.draft.body.get("output_config") == {"effort": "low"}
    assert set(BETAS) - set(made.draft.betas) == {"per-turn-control-2026-07-01"}


def test_an_unknown_effort_goes_from_messages_too() -> None:
    before = draft(HI, {**NOTE, **LOW}, {"role": "system", "content": "", **LOW})
    now = after(RULE, before, "does not support the effort parameter")
    assert now["messages"] == [HI, {**NOTE, "output_config": {}}]


@pytest.mark.parametrize(
    "message",
    [
        EXTRA.format("output_config"),
        EXTRA.format("output_config.format"),
        "output_config.format requires a model that supports structured outputs",
    ],
)
def test_a_format_stays(message: str) -> None:
    assert refused(RULE, draft(output_config={"format": FORMAT}), message)


def test_an_effort_that_is_known_stays() -> None:
    assert refused(RULE, draft(**LOW), "output_config.effort: Input should be 'low' or 'high'")
