"""Results of tools: text only, with the rest attached below."""

from typing import Any

import pytest

from ccfallback.config.quirks import Quirks

from .asked import assistant, call, image, result, text, told, user


def answered(*blocks: Any, quirks: Quirks = Quirks()) -> Any:  # noqa: B008
    return told(assistant(call("t1"), call("t2")), user(*blocks), quirks=quirks)[1:]


@pytest.mark.parametrize(
    ("block", "expected"),
    [
        (result("t1", "fine"), "fine"),
        (result("t1", [text("a"), text("b")]), "a\nb"),
        (result("t1", "boom", is_error=True), "Error: boom"),
        (result("t1", "error: boom", is_error=True), "error: boom"),
        (result("t1"), "(no output)"),
        (result("t1", []), "(no output)"),
        (result("t1", " "), "(no output)"),
        (result("t1", is_error=True), "Error: (no output)"),
        (
            result("t1", [{"type": "tool_reference", "tool_name": "X"}]),
            "Tool X is available.",
        ),
    ],
)
def test_what_a_result_says(block: Any, expected: str) -> None:
    assert answered(block)[0] == {"role": "tool", "tool_call_id": "t1", "content": expected}


def test_an_image_follows_after_the_last_result() -> None:
    messages = answered(result("t1", [text("a"), image("AB\nCD")]), text("note"), result("t2", "b"))
    assert [message["role"] for message in messages] == ["tool", "tool", "user"]
    assert messages[0]["content"] == "a\n[image 1 attached below]"
    assert messages[2]["content"] == [
        text("[image 1 of tool result t1, Bash]"),
        {"type": "image_url", "image_url": {"url": "data:image/png;base64,ABCD"}},
        text("note"),
    ]


def test_an_image_is_only_mentioned_where_nothing_may_follow() -> None:
    block = result("t1", [text("a"), image()])
    assert answered(block, quirks=Quirks(user_after_tool=False))[0]["content"] == (
        "a\n[image omitted: image/png]"
    )


def test_an_image_is_only_mentioned_where_nobody_sees() -> None:
    block = result("t1", [text("a"), image()])
    messages = answered(block, quirks=Quirks(images=False))
    assert messages[0]["content"] == "a\n[image omitted: image/png]"
    assert messages[-1]["role"] == "tool"


def test_a_cache_mark_on_a_result_is_kept_where_it_is_understood() -> None:
    block = result("t1", "a", cache_control={"type": "ephemeral", "ttl": "1h"})
    assert answered(block)[0]["content"] == "a"
    assert answered(block, quirks=Quirks(cache_control=True))[0]["content"] == [
        text("a", cache_control={"type": "ephemeral"})
    ]
