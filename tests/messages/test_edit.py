"""Edits of a body that leave everything else as it was."""

from typing import Any

import msgspec
import pytest

from ccfallback.messages.body import Body
from ccfallback.messages.edit import has, without, without_all, without_blocks
from tests.rectify.drafts import CALL, HI, THOUGHT, assistant, draft, members, user

RAW = (
    b'{"model":"m" , "messages":[{"role":"user", "content":"h\\u00e9"},'
    b'{"role":"assistant","content":[{"type":"thinking","thinking":"x","signature":"s","a":1.0},'
    b'{"type":"tool_use", "id":"t", "name":"n","input":{"a":1e0},"a":2}]}],'
    b'"tools":[{"name":"n","input_schema":{"a":1},"a":3},{"type":"custom","name":"o","a":4}],'
    b'"thinking":{"type":"adaptive","display":"omitted"}}'
)


@pytest.mark.parametrize(
    ("path", "gone"),
    [
        ("messages.*.content.*.a", [b',"a":1.0', b',"a":2']),
        ("messages.*.content.*.tool_use.a", [b',"a":2']),
        ("messages.*.content.*.thinking.a", [b',"a":1.0']),
        ("tools.*.custom.a", [b',"a":3', b',"a":4']),
        ("tools.*.function.a", [b',"a":3', b',"a":4']),
        ("thinking.adaptive.display", [b',"display":"omitted"']),
        ("thinking.display", [b',"display":"omitted"']),
        ("thinking.enabled.display", []),
        ("messages.*.content.*.text.a", []),
        ("messages.*.content.*.thinking.thinking", []),
        ("messages.*.content.*.tool_use.input", []),
        ("messages.*.role", []),
        ("messages.*", []),
        ("tools.*.name", []),
        ("tools.*.input_schema", []),
        ("model.a", []),
        ("nothing", []),
        ("self.a", []),
    ],
)
def test_a_part_goes_alone(path: str, gone: list[bytes]) -> None:
    body = Body.parse(RAW)
    steps = tuple(path.split("."))
    left, count = without(body, steps)
    assert count == len(gone)
    if not gone:
        assert left is body
        return
    expected = RAW
    for part in gone:
        expected = expected.replace(part, b"")
    for key in ("model", "messages", "tools", "thinking"):
        assert squeezed(left.member(key)) == squeezed(Body.parse(expected).member(key))
    assert b"1e0" in left.raw
    assert b"h\\u00e9" in left.raw
    assert not has(left, steps)


def squeezed(raw: bytes) -> bytes:
    return raw.replace(b", ", b",")


def test_several_parts_go_together() -> None:
    body, count = without_all(
        Body.parse(RAW), [("tools", "*", "a"), ("thinking", "display"), ("b",)]
    )
    assert count == 3
    assert b"display" not in body.raw


@pytest.mark.parametrize(
    "body",
    [b"{}", b'{"messages":1}', b'{"messages":[1,null,{"content":"x"}]}', b'{"tools":{"*":1}}'],
)
@pytest.mark.parametrize("path", ["messages.*.content.*.a", "tools.*.a", "messages.*.a"])
def test_what_is_not_there_does_not_go(body: bytes, path: str) -> None:
    before = Body.parse(body)
    steps = tuple(path.split("."))
    assert without(before, steps) == (before, 0)
    assert not has(before, steps)


def test_deep_nesting_is_left_alone() -> None:
    body = Body.parse(b'{"tools":[{"x":' + b"[" * 400 + b"]" * 400 + b'}],"messages":[]}')
    assert without(body, ("tools", "*", "x", "*", "y"))[1] == 0


def is_thought(_index: int, block: Any) -> bool:
    return bool(block.get("type") == "thinking")


@pytest.mark.parametrize(
    ("messages", "expected"),
    [
        ([HI, assistant(THOUGHT, CALL), user()], [HI, assistant(CALL), user()]),
        (
            [HI, assistant(THOUGHT), HI],
            [HI, assistant({"type": "text", "text": "(no content)"}), HI],
        ),
        ([HI, assistant(THOUGHT)], [HI]),
        ([assistant(THOUGHT)], [assistant({"type": "text", "text": "(no content)"})]),
    ],
)
def test_blocks_go_and_messages_stay(messages: list[Any], expected: list[Any]) -> None:
    before = draft(*messages)
    body, count = without_blocks(before.body, is_thought)
    assert count == 1
    assert msgspec.json.decode(body.member("messages")) == expected


def test_a_body_without_such_blocks_is_the_same() -> None:
    before = draft(HI, assistant(CALL))
    assert without_blocks(before.body, is_thought) == (before.body, 0)
    assert members(before)["messages"][0] == HI
