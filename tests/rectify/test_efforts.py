"""How hard to think, said in several places."""

import pytest

from ccfallback.policy.draft import RequestDraft
from ccfallback.rectify.efforts import effort_of, with_effort_among, without_effort
from tests.rectify.drafts import HI, draft, members

LOW = {"role": "system", "content": [], "output_config": {"effort": "low"}}


@pytest.mark.parametrize(
    ("before", "effort"),
    [
        (draft(HI), ""),
        (draft(HI, output_config={"effort": "high"}), "high"),
        (draft(HI, LOW, output_config={"effort": "high"}), "low"),
        (draft(HI, output_config=7), ""),
    ],
)
def test_the_last_word_counts(before: RequestDraft, effort: str) -> None:
    assert effort_of(before.body) == effort


def test_nothing_is_left_of_it() -> None:
    before = draft(HI, LOW, output_config={"effort": "high"})
    after = members(RequestDraft(without_effort(before.body)))
    assert after["messages"] == [HI]
    assert "output_config" not in after


def test_the_rest_of_a_config_stays() -> None:
    before = draft(HI, output_config={"effort": "high", "format": {}})
    assert members(RequestDraft(without_effort(before.body)))["output_config"] == {"format": {}}


@pytest.mark.parametrize(
    ("effort", "known", "expected"),
    [
        ("max", ("low", "high"), "high"),
        ("medium", ("low", "high"), "low"),
        ("low", ("medium", "high"), "medium"),
        ("low", ("low",), "low"),
        ("strange", ("low",), "strange"),
    ],
)
def test_the_next_lower_effort(effort: str, known: tuple[str, ...], expected: str) -> None:
    message = {**LOW, "output_config": {"effort": effort}}
    before = draft(HI, message, output_config={"effort": effort})
    after = members(RequestDraft(with_effort_among(before.body, known)))
    assert after["output_config"]["effort"] == expected
    assert after["messages"][1]["output_config"]["effort"] == expected
