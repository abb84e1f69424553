"""System messages that are refused."""

import pytest

from ccfallback.rectify.rule import Refusal
from ccfallback.rectify.system_role import SYSTEM_ROLE
from tests.rectify.drafts import BETAS, HI, captured, draft, members, refused, repaired, text, user

REFUSAL = "messages.1.role: Input should be 'user' or 'assistant'"
NOTE = {"role": "system", "content": "A", "output_config": {"effort": "low"}}


def test_a_user_says_what_the_system_said() -> None:
    made = repaired(SYSTEM_ROLE, draft(HI, NOTE, betas=BETAS), REFUSAL)
    said = text("<system-reminder>\nA\n</system-reminder>")
    assert members(made.draft)["messages"] == [user(text("hi"), said)]
    assert members(made.draft)["output_config"] == {"effort": "low"}
    assert set(BETAS) - set(made.draft.betas) == {"per-turn-control-2026-07-01"}
    assert made.changed == "1 system message folded into user messages"


def test_by_code() -> None:
    refusal = Refusal(400, "no", "mid_conversation_system_not_supported")
    assert SYSTEM_ROLE.repair(draft(HI, NOTE), refusal) is not None


@pytest.mark.parametrize("before", captured())
def test_the_real_clients_messages(before: object) -> None:
    assert isinstance(before, type(draft()))
    roles = [message["role"] for message in members(before)["messages"]]
    if "system" not in roles:
        assert refused(SYSTEM_ROLE, before, REFUSAL)
        return
    now = members(repaired(SYSTEM_ROLE, before, REFUSAL).draft)["messages"]
    assert [message["role"] for message in now] == [role for role in roles if role != "system"]


def test_the_system_prompt_is_not_meant() -> None:
    assert refused(SYSTEM_ROLE, draft(HI, system="A"), REFUSAL)
