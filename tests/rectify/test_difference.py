"""What a repair did, in names and counts."""

from dataclasses import replace

import msgspec
from hypothesis import given, settings

from ccfallback.config.quirks import Quirks
from ccfallback.messages.body import Body
from ccfallback.policy.draft import RequestDraft
from ccfallback.rectify.difference import difference
from tests.rectify.drafts import CALL, RESULT, THOUGHT, assistant, draft, text, user
from tests.rectify.structure import STRANGE


def test_nothing_changed_is_nothing_to_say() -> None:
    assert difference(draft(), draft()) == {}


def test_members_that_went_came_or_changed_are_named() -> None:
    before, after = draft(temperature=1, thinking={}), draft(thinking={"a": 1}, top_k=3)
    assert difference(before, after) == {
        "removed": ["temperature"],
        "added": ["top_k"],
        "rewritten": ["thinking"],
    }


def test_messages_and_blocks_are_counted() -> None:
    before = draft(
        user(text("hi")),
        {"role": "system", "content": "secret"},
        assistant(THOUGHT, THOUGHT, CALL),
        user(text("on")),
    )
    after = draft(user(text("hi")), assistant(CALL), user(RESULT, text("on")))
    assert difference(before, after) == {
        "rewritten": ["messages"],
        "counts": {"system_messages": -1, "thinking": -2, "tool_result": 1},
    }


def test_flags_names_of_tools_and_switches_are_named_too() -> None:
    before = replace(draft(betas=("a-1", "b-1")), quirks=Quirks())
    after = replace(before, betas=("b-1",), names={"a_b": "a.b"}, quirks=Quirks(sampling=False))
    assert difference(before, after) == {"betas": ["a-1"], "renamed": 1, "quirks": ["sampling"]}


def test_what_the_client_made_up_is_not_said() -> None:
    messages = [user({"type": "My secret"})]
    before = RequestDraft(Body.parse(msgspec.json.encode({"A secret": 1, "messages": messages})))
    after = RequestDraft(Body.parse(b'{"model":"m"}'))
    said = msgspec.json.encode(difference(before, after))
    assert b"ecret" not in said


@settings(max_examples=40, deadline=None)
@given(STRANGE, STRANGE)
def test_nothing_is_too_strange(old: object, new: object) -> None:
    before, after = (RequestDraft(Body.parse(msgspec.json.encode(each))) for each in (old, new))
    for value in difference(before, after).values():
        assert value
