"""Members of `thinking` that are refused."""

import pytest

from ccfallback.rectify.thinking_fields import THINKING_FIELDS as RULE
from tests.rectify.drafts import draft, members, refused, repaired

BINDING = {"prefix_mismatch_behavior": "drop_block"}


def test_display_goes() -> None:
    before = draft(thinking={"type": "adaptive", "display": "updates", "block_binding": BINDING},
                   betas=("thinking-display-updates-2026-01-01", "a-1"))  # fmt: skip
    made = repaired(RULE, before, "thinking.adaptive.display: Input should be 'omitted'")
    assert members(made.draft)["thinking"] == {"type": "adaptive", "block_binding": BINDING}
    assert made.draft.betas == ("a-1",)


@pytest.mark.parametrize("path", ["thinking.adaptive.block_binding", "thinking.block_binding.x"])
def test_a_binding_goes_with_its_flag(path: str) -> None:
    before = draft(thinking={"type": "adaptive", "block_binding": BINDING},
                   betas=("thinking-binding-controls-2026-08-01",))  # fmt: skip
    made = repaired(RULE, before, f"{path}: Extra inputs are not permitted")
    assert members(made.draft)["thinking"] == {"type": "adaptive"}
    assert made.draft.betas == ()


def test_nothing_to_do() -> None:
    message = "thinking.adaptive.display: Extra inputs are not permitted"
    assert refused(RULE, draft(thinking={"type": "adaptive"}), message)
