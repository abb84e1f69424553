"""The attribution line."""

import pytest

from ccfallback.rectify.billing_text import BILLING_TEXT
from tests.rectify.drafts import after, draft, refused, text

REFUSAL = "x-anthropic-billing-header is a reserved keyword"


def test_the_line_goes() -> None:
    system = [text("x-anthropic-billing-header: cc_version=2"), text("Be good.")]
    assert after(BILLING_TEXT, draft(system=system), REFUSAL)["system"] == [text("Be good.")]


@pytest.mark.parametrize("system", [None, "Be good.", [text("Be good.")]])
def test_nothing_to_do(system: object) -> None:
    assert refused(BILLING_TEXT, draft(system=system), REFUSAL)
