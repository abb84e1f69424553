"""What a rule is given, and what it reads in a refusal."""

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from ccfallback.config.quirks import Quirks
from ccfallback.messages.body import Body
from ccfallback.policy.draft import RequestDraft
from ccfallback.rectify.rule import (
    _MOST_PATHS,
    Refusal,
    Repaired,
    describe,
    difference,
    named_places,
    refused_paths,
    repaired,
    unknown_field,
)
from tests.rectify.drafts import CALL, RESULT, STRANGE, THOUGHT, assistant, draft, text, user

# --- rule ---


@pytest.mark.parametrize(
    ("message", "text"),
    [
        ("Invalid `signature` in `thinking`\n block", "invalid signature in thinking block"),
        ('Unexpected  role "system".', "unexpected role system."),
        ("\u2018curly\u2019 'quotes'", "curly quotes"),
        ("", ""),
    ],
)
def test_a_message_is_matched_without_quotes_case_and_line_ends(message: str, text: str) -> None:
    assert Refusal(400, message).text == text


# --- paths ---


@pytest.mark.parametrize(
    ("message", "paths"),
    [
        ("a_b: Extra inputs are not permitted", ["a_b"]),
        ("a: Extra inputs are not permitted; b.3.c: Extra inputs are not permitted",
         ["a", "b.*.c"]),
        ("tools.3.custom.x: Extra inputs are not permitted", ["tools.*.custom.x"]),
        ("messages.1.content.0.tool_use.i: Additional input is not allowed",
         ["messages.*.content.*.tool_use.i"]),
        ("body -> a: Extra fields not permitted", ["a"]),
        ("error for R\nbody.a\n  Extra inputs are not permitted [type=extra_forbidden]", ["a"]),
        ("[{'loc': ('body', 'm', 1, 'a'), 'msg': 'Extra inputs are not permitted'}]", ["m.*.a"]),
        ('[{"loc":["body","a"],"msg":"Extra inputs are not permitted"}]', ["a"]),
        ('{"message":"a: Extra inputs are not permitted"}', ["a"]),
        ("Unrecognized request argument supplied: a", ["a"]),
        ("Unrecognized request arguments supplied: a, b", ["a", "b"]),
        ("Unknown parameter: 'm[0].content[1].a'.", ["m.*.content.*.a"]),
        ("Unsupported parameter: 'a' is not supported with this model.", ["a"]),
        ('json: unknown field "a"', ["a"]),
        ("('m.2' : property 'a' is unsupported)", ["m.*.a"]),
        ("Unknown name \"a\" at 'm[0]': Cannot find field.", ["m.*.a"]),
        ('Unknown name "a": Cannot find field.', ["a"]),
        ("#: extraneous key [a] is not permitted, please", ["a"]),
        ("#/m/0: extraneous key [a] is not permitted", ["m.*.a"]),
        ("Additional properties are not allowed ('a', 'b' were unexpected)", ["a", "b"]),
        ("*.a: Extra inputs are not permitted", ["*.a"]),
        ("a: unexpected field", ["a"]),
        ("a is bad", []),
        ("", []),
    ],
)  # fmt: skip
def test_refused_paths_are_read_in_any_providers_words(message: str, paths: list[str]) -> None:
    found = [".".join(path) for path in refused_paths(Refusal(400, message).text)]
    assert found[: len(paths)] == paths
    assert bool(found) == bool(paths)


def test_at_most_a_few_paths_are_read() -> None:
    text = "; ".join(f"a{number}: extra inputs are not permitted" for number in range(50))
    assert len(refused_paths(text)) == _MOST_PATHS


@given(
    st.lists(
        st.lists(st.sampled_from(["messages", "*", "content", "a_b"]), min_size=1, max_size=6).map(
            tuple
        ),
        min_size=1,
        max_size=_MOST_PATHS,
        unique=True,
    )
)
def test_a_lesson_names_the_same_paths(paths: list[tuple[str, ...]]) -> None:
    assert refused_paths(Refusal(400, unknown_field(*paths)).text) == tuple(paths)


@given(
    st.text(
        st.sampled_from("ab.:*/[](),'# -> extra inputs not permitted unknown field"), max_size=300
    )
)
def test_no_text_raises(text: str) -> None:
    refused_paths(text)


def test_a_long_text_is_read_quickly() -> None:
    refused_paths("a." * 50000)
    refused_paths("unknown field " * 9000)


# --- places ---


@pytest.mark.parametrize(
    ("message", "places"),
    [
        ("messages.3.content.1: no", {(3, 1)}),
        ("messages.3.content.1.image.source.base64.data: no", {(3, 1)}),
        ("messages -> 3 -> content -> 1 -> text: no", {(3, 1)}),
        ("messages.3.content.1.tool_result.content.2.image: no", {(3, 1, 2)}),
        ("messages.3.content.1.content.2: no", {(3, 1, 2)}),
        ("messages.0.content.0: a; messages.12.content.7: b", {(0, 0), (12, 7)}),
        ("messages.3: no", set()),
        ("messages.3.role: no", set()),
        # The places of a request in another format are not those of this one.
        ("messages[3].content[1]: no", set()),
        ("messages.99999999999.content.1", set()),
        ("", set()),
    ],
)
def test_a_refusal_names_places(message: str, places: set[tuple[int, ...]]) -> None:
    assert named_places(Refusal(400, message).text) == places


def test_changes_are_reported_in_counts() -> None:
    assert describe(1, "image", "removed") == "1 image removed"
    assert describe(2, "image", "removed") == "2 images removed"
    assert describe(0, "image", "removed") == ""
    body = draft().body.without("model")
    assert repaired(draft(), body, "", "a", "b") == Repaired(draft().with_body(body), "a, b")
    assert repaired(draft(), body, "") is None
    before = draft()
    assert repaired(before, before.body, "a") is None


# --- difference ---


def test_the_same_draft_has_no_difference() -> None:
    assert difference(draft(), draft()) == {}


def test_removed_added_and_rewritten_members_are_named() -> None:
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


def test_flags_tool_names_and_quirks_are_named() -> None:
    before = replace(draft(betas=("a-1", "b-1")), quirks=Quirks())
    after = replace(before, betas=("b-1",), names={"a_b": "a.b"}, quirks=Quirks(sampling=False))
    assert difference(before, after) == {"betas": ["a-1"], "renamed": 1, "quirks": ["sampling"]}


def test_names_that_the_client_made_up_are_not_reported() -> None:
    messages = [user({"type": "My secret"})]
    before = RequestDraft(Body.parse(msgspec.json.encode({"A secret": 1, "messages": messages})))
    after = RequestDraft(Body.parse(b'{"model":"m"}'))
    said = msgspec.json.encode(difference(before, after))
    assert b"ecret" not in said


@given(STRANGE, STRANGE)
def test_no_drafts_are_too_strange_to_compare(old: object, new: object) -> None:
    before, after = (RequestDraft(Body.parse(msgspec.json.encode(each))) for each in (old, new))
    for value in difference(before, after).values():
        assert value
