"""Messages and blocks, read and rebuilt."""

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ccfallback.messages.body import Body
from ccfallback.messages.turns import (
    blocks_of,
    content_list,
    is_same,
    kind_of,
    last_index,
    map_blocks,
    map_messages,
    reminder,
    role_of,
    string,
    text_block,
    texts_in,
    without_empty_messages,
)
from tests.rectify.drafts import assistant, result, system, text, user

EMPTY_USER = {"role": "user", "content": []}
EMPTY_ASSISTANT = {"role": "assistant", "content": []}
EMPTY_SYSTEM = {"role": "system", "content": []}
HI = user(text("hi"))
OK = assistant(text("ok"))
FILLER = text("(no content)")


@pytest.mark.parametrize(
    ("messages", "expected"),
    [
        ([HI, OK], [HI, OK]),
        ([HI, EMPTY_USER, OK], [HI, OK]),
        ([EMPTY_USER, HI], [HI]),
        ([HI, OK, EMPTY_USER], [HI, OK, user(FILLER)]),
        ([HI, EMPTY_ASSISTANT], [HI]),
        ([HI, EMPTY_ASSISTANT, HI], [HI, assistant(FILLER), HI]),
        ([HI, EMPTY_ASSISTANT, system("s")], [HI, system("s")]),
        ([HI, EMPTY_SYSTEM, OK], [HI, OK]),
        ([HI, {**EMPTY_SYSTEM, "output_config": {}}, OK], [HI, OK]),
        (
            [HI, {**EMPTY_SYSTEM, "output_config": {"effort": "low"}}],
            [HI, {**EMPTY_SYSTEM, "output_config": {"effort": "low"}}],
        ),
        ([EMPTY_ASSISTANT], [user(FILLER)]),
        ([EMPTY_USER, EMPTY_USER], [user(FILLER)]),
        ([], []),
        ([5, None], [5, None]),
    ],
)
def test_no_message_is_left_empty(messages: list[object], expected: list[object]) -> None:
    assert without_empty_messages(messages) == expected


def test_results_are_blocks_like_others() -> None:
    assert without_empty_messages([user(result("a", []))]) == [user(result("a", []))]


def test_messages_that_stay_keep_their_bytes() -> None:
    raw = b'{"model": "m", "messages": [{"role":"user", "content": "\\u00e9 1.50"}, {"a" : 1.50}]}'
    body = Body.parse(raw)
    first, second = body.messages
    made = body.with_items("messages", [first, {**second, "b": 2}, second])
    assert made.member("messages") == (
        b'[{"role":"user", "content": "\\u00e9 1.50"},{"a":1.5,"b":2},{"a" : 1.50}]'
    )


def test_what_is_not_a_list_has_no_messages() -> None:
    body = Body.parse(b'{"messages":{"a":1}}')
    assert body.messages == []
    assert msgspec.json.decode(body.with_items("messages", [HI]).raw) == {"messages": [HI]}


@pytest.mark.parametrize(
    ("content", "read", "rewritten"),
    [
        ("a", [text("a")], [text("a")]),
        # An empty text has nothing to be rewritten.
        ("", [text("")], []),
        # Odd items can't be read, but stay where they are.
        ([text("a"), 5, None], [text("a")], [text("a"), 5, None]),
        ([], [], []),
        (None, [], []),
        ({"type": "text"}, [], []),
    ],
)
def test_blocks_to_read_and_blocks_to_rewrite(content: Any, read: Any, rewritten: Any) -> None:
    assert blocks_of(content) == read
    assert content_list({"role": "user", "content": content}) == rewritten


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(max_size=3),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(st.sampled_from(["content", "role", "type", "text"]), inner)
        ),
        max_leaves=8,
    )
)
def test_no_value_raises(value: Any) -> None:
    for each in (role_of(value), kind_of(value), string(value, "text")):
        assert isinstance(each, str)
    assert all(isinstance(block, dict) for block in blocks_of(value))
    assert isinstance(content_list(value), list)
    assert all(isinstance(each, str) for each in texts_in(value))


def test_blocks_are_changed_removed_or_kept() -> None:
    def change(block: dict[str, Any]) -> dict[str, Any] | None:
        return {"a": text("b"), "drop": None}.get(block["text"], block)

    content = [text("a"), text("drop"), None, text("c")]
    assert map_blocks(content, change) == [text("b"), None, text("c")]
    same = [text("c"), 5]
    assert map_blocks(same, change) is same
    messages = [user(*same), {"role": "user", "content": "a"}, 5]
    assert is_same(map_messages(messages, change), messages)


def test_a_text_block_keeps_the_cache_mark_of_the_one_that_it_replaces() -> None:
    mark = {"cache_control": {"type": "ephemeral"}}
    assert text_block("a", like={"type": "image", **mark}) == text("a", **mark)
    assert text_block("a", like={"type": "image"}) == text_block("a") == text("a")


def test_the_last_message_of_a_role_is_found() -> None:
    assert last_index([HI, OK, HI, 5], "user") == 2
    assert last_index([HI], "assistant") == -1


def test_a_reminder_is_marked_as_a_reminder() -> None:
    assert reminder("a") == "<system-reminder>\na\n</system-reminder>"
