"""Kinds of blocks that a provider does not know."""

from typing import Any

import pytest

from ccfallback.rectify.block_types import BLOCK_TYPES
from tests.rectify.structure import (
    CAPTURED,
    MARK,
    assistant,
    call,
    captured,
    made,
    repaired,
    result,
    server_call,
    server_result,
    text,
    tool,
    user,
)

HI = user(text("hi"))


def unknown(kind: str) -> str:
    return (
        f"messages.2.content.0: Input tag '{kind}' found using 'type' does not match any of the"
        " expected tags: 'text'"
    )


FOUND = {
    "type": "search_result",
    "title": "T",
    "source": "https://a",
    "content": [text("one"), text("two")],
}
WORDS = text("T\n\nhttps://a\n\none\n\ntwo")


@pytest.mark.parametrize("kind", ["server_tool_use", "web_search_tool_result"])
def test_server_tools_go_with_their_results(kind: str) -> None:
    one = "srvtoolu_1"
    messages = [
        HI,
        assistant(server_call(one), server_result(one), text("ok")),
        HI,
        assistant(server_call(one), server_result(one)),
        HI,
    ]
    repair = repaired(BLOCK_TYPES, {"messages": messages}, unknown(kind))
    assert repair is not None
    assert repair.changed == "4 blocks of an unknown kind removed"
    body = made(BLOCK_TYPES, {"messages": messages}, repair.lesson or "")
    assert body["messages"] == [HI, assistant(text("ok")), HI, assistant(text("(no content)")), HI]


def test_what_was_found_is_said_in_words() -> None:
    messages = [
        user({**FOUND, **MARK}),
        assistant(call("a")),
        user(result("a", [FOUND, text("x")]), {"type": "search_result"}),
    ]
    for words in (unknown("search_result"), "unknown variant `search_result`, expected `text`"):
        body = made(BLOCK_TYPES, {"messages": messages}, words)
        assert body["messages"] == [
            user({**WORDS, **MARK}),
            assistant(call("a")),
            user(result("a", [WORDS, text("x")]), text("[search result]")),
        ]


@pytest.mark.parametrize("words", [unknown("tool_reference"), "Unexpected item type in content."])
def test_tools_that_were_found_are_loaded(words: str) -> None:
    found = {"type": "tool_reference", "tool_name": "Web"}
    body = {
        "messages": [HI, assistant(call("a")), user(result("a", [found]))],
        "tools": [tool("Bash"), {**tool("Web"), "defer_loading": True}],
    }
    after = made(BLOCK_TYPES, body, words)
    assert after["tools"] == [tool("Bash"), tool("Web")]
    assert after["messages"][2] == user(result("a", [text("Tool Web is available now.")]))


def test_the_clients_own_search_is_understood() -> None:
    (case,) = [case for case in CAPTURED if case.stem == "tool_reference"]
    after: Any = made(BLOCK_TYPES, captured(case), unknown("tool_reference"))
    assert all("defer_loading" not in one for one in after["tools"])
    assert b"tool_reference" not in repr(after["messages"]).encode()


@pytest.mark.parametrize(
    "kind", ["adaptive", "text", "tool_use", "tool_result", "thinking", "compaction", "fallback"]
)
def test_other_kinds_are_not_its_business(kind: str) -> None:
    messages = [HI, assistant({"type": "thinking"}, call("a")), user(result("a"), FOUND)]
    messages.append(assistant({"type": "compaction", "content": "x"}, {"type": "adaptive"}))
    assert repaired(BLOCK_TYPES, {"messages": messages}, unknown(kind)) is None
