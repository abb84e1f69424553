"""Unknown fields that nobody else has a repair for."""

import pytest

from ccfallback.rectify.extra_fields import EXTRA_FIELDS as RULE
from tests.rectify.drafts import CALL, HI, assistant, draft, members, refused, repaired, text

EXTRA = "{}: Extra inputs are not permitted"


def test_a_field_goes_and_nothing_besides() -> None:
    before = draft(HI, assistant({**CALL, "caller": 1}, {**text("a"), "caller": 2}), foo=1, bar=2)
    made = repaired(RULE, before, EXTRA.format("messages.1.content.0.tool_use.caller"))
    assert members(made.draft) == {
        **members(before),
        "messages": [HI, assistant(CALL, {**text("a"), "caller": 2})],
    }
    assert made.lesson == EXTRA.format("messages.*.content.*.tool_use.caller")


def test_several_go_with_their_flags() -> None:
    before = draft(HI, speed="fast", foo=1, betas=("fast-mode-2026-01-01", "a-1"))
    made = repaired(RULE, before, f"{EXTRA.format('speed')}; {EXTRA.format('foo')}")
    assert made.draft.betas == ("a-1",)
    assert members(made.draft).keys() == {"model", "max_tokens", "messages"}


@pytest.mark.parametrize(
    "path",
    [
        *("model", "messages", "max_tokens", "system", "tools", "stream", "tool_choice"),
        *("output_format", "thread", "compaction", "context_management", "output_config.effort"),
        *("tools.0.strict", "tools.0.input_schema.foo", "tools.0.name", "tools.0.input_schema"),
        *("messages.1.content.0.tool_use.input.command", "messages.0.role", "messages.0.content"),
        *("messages.1.content.0.tool_use.id", "messages.1.content.0.signature", "nothing"),
        "messages.1.content.0.cache_control",
    ],
)
def test_what_is_needed_or_somebody_elses_stays(path: str) -> None:
    before = draft(
        HI,
        assistant({**CALL, "signature": "s", "cache_control": {}}),
        tools=[{"name": "a", "input_schema": {"foo": 1}, "strict": True}],
        system="s",
        stream=True,
        tool_choice={"type": "any"},
        output_format={},
        thread={},
        compaction={},
        context_management={},
        output_config={"effort": "low"},
    )
    assert refused(RULE, before, EXTRA.format(path))
