"""Calls: which piece belongs to which call, what goes on when, and arguments put right."""

import sys
from itertools import pairwise
from types import FrameType
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ccfallback.messages.tools import ToolNames
from ccfallback.wire.openai.arguments import Arguments, is_object, tool_input
from tests.wire.openai import grammar
from tests.wire.openai.upstream import (
    DONE,
    Translated,
    body,
    calls,
    chunk,
    piece,
    says,
    translate,
)

END = chunk({}, "tool_calls")


def called(*reads: bytes, finish: bytes = END, **more: Any) -> list[tuple[Any, ...]]:
    """The blocks of a stream with these calls."""
    translated = translate(*reads, finish, DONE, **more)
    grammar.obey(translated)
    assert translated.stop_reason == "tool_use"
    return translated.blocks


def each(*pieces: dict[str, Any]) -> list[bytes]:
    return [calls(part) for part in pieces]


def test_no_arguments() -> None:
    for args in ("", None, "{}", " ", "null"):
        assert called(calls(piece(0, "a", "Bash", args))) == [("tool_use", "a", "Bash", "{}")]


def test_interleaved_calls_come_one_after_the_other() -> None:
    translated = translate(
        *each(piece(0, "a", "A", ""), piece(1, "b", "B", ""), piece(0, args='{"x":')),
        *each(piece(1, args='{"y"'), piece(0, args="1}"), piece(1, args=":2}")),
        END,
    )
    grammar.obey(translated)
    assert translated.brief == [
        *("message_start", "+0 tool_use", '{"x":', "1}", "-0"),
        *("+1 tool_use", '{"y"', ":2}", "-1", "tool_use", "message_stop"),
    ]


def test_fragments_go_on_as_they_come() -> None:
    seen = ""
    stream = translate(calls(piece(0, "a", "A")), ended=False).stream
    for part in ('{"x', '":"', "y", '"}'):
        out = Translated(stream.feed(calls(piece(0, args=part))), stream)
        assert [event["delta"]["partial_json"] for event in out.events] == [part]
        seen += part
    assert seen == '{"x":"y"}'


def test_the_next_call_begins_when_the_open_one_is_whole() -> None:
    stream = translate(calls(piece(0, "a", "A", '{"x":1}')), ended=False).stream
    out = Translated(stream.feed(calls(piece(1, "b", "B", "{"))), stream)
    assert out.brief == ["-0", "+1 tool_use", "{"]


def test_an_incomplete_call_delays_the_next() -> None:
    reads = each(piece(0, "a", "A", '{"x":'), piece(1, "b", "B", "{}"))
    stream = translate(reads[0], ended=False).stream
    assert stream.feed(reads[1]) == b""
    out = Translated(stream.feed(calls(piece(0, args="1}"))), stream)
    # Some say that there are no arguments first, and then what they are.
    assert out.brief == ["1}", "-0", "+1 tool_use"]


def test_all_calls_have_the_index_0() -> None:
    assert called(*each(piece(0, "a", "Read", '{"x":1}'), piece(0, "b", "Read", '{"x":2}'))) == [
        ("tool_use", "a", "Read", '{"x":1}'),
        ("tool_use", "b", "Read", '{"x":2}'),
    ]
    assert called(calls(piece(0, "a", "A", ""), piece(0, "b", "B", ""))) == [
        ("tool_use", "a", "A", "{}"),
        ("tool_use", "b", "B", "{}"),
    ]


READ, BASH = ("Read", '{"path":"/a"}'), ("Bash", '{"command":"ls"}')
OTHER = ("Read", '{"path":"/b"}')


def in_pieces(
    call: tuple[str, str], index: int | None, tool_id: str | None = None
) -> list[dict[str, Any]]:
    """A call whose first piece has no arguments."""
    name, args = call
    return [
        piece(index, tool_id, name, ""),
        piece(index, args=args[:5]),
        piece(index, args=args[5:]),
    ]


@pytest.mark.parametrize("made", [[READ, BASH], [READ, OTHER], [READ, OTHER, BASH, READ]])
@pytest.mark.parametrize("index", [0, None])
def test_calls_with_one_index_and_no_ids_in_pieces(
    made: list[tuple[str, str]], index: int | None
) -> None:
    pieces = [part for call in made for part in in_pieces(call, index)]
    assert [block[2:] for block in called(*each(*pieces))] == made


def test_calls_with_one_index_and_no_ids_in_the_old_member() -> None:
    functions = [part["function"] for call in (READ, BASH, OTHER) for part in in_pieces(call, 0)]
    reads = [chunk({"function_call": function}) for function in functions]
    assert [block[2:] for block in called(*reads)] == [READ, BASH, OTHER]


@pytest.mark.parametrize("index", [0, None])
def test_calls_with_one_index_and_one_id(index: int | None) -> None:
    pieces = [*in_pieces(READ, index, "x"), *in_pieces(BASH, index, "x")]
    blocks = called(*each(*pieces))
    assert [block[2:] for block in blocks] == [READ, BASH]
    assert blocks[0][1] == "x"


@pytest.mark.parametrize("args", ["", "{}", "null", "[]"])
def test_another_name_follows_a_call_without_arguments(args: str) -> None:
    pieces = [piece(0, None, "List", args), *in_pieces(BASH, 0)]
    assert [(block[2], block[3]) for block in called(*each(*pieces))][1:] == [BASH]
    assert called(*each(*pieces))[0][2] == "List"


def test_a_repeated_name_starts_a_call_when_arguments_follow() -> None:
    first = piece(0, "a", "A", '{"x":1}')
    again = piece(0, None, "A", "")
    one = [("tool_use", "a", "A", '{"x":1}')]
    for rest in ([], [again], [piece(0, args="")], [piece(0, args="</tool>")]):
        assert called(*each(first, again, *rest)) == one
    # The same call once more is the same call.
    assert called(*each(first, again, piece(0, args='{"x":1}'))) == one
    assert called(*each(first, again, piece(0, "a", args='{"x":2}'))) == one
    blocks = called(
        *each(first, again, piece(0, args=" "), piece(0, args='{"x"'), piece(0, args=":2}"))
    )
    assert [block[2:] for block in blocks] == [("A", '{"x":1}'), ("A", '{"x":2}')]


def test_another_name_within_arguments_starts_no_call() -> None:
    reads = each(piece(0, None, "A", '{"x"'), piece(0, None, "B", ":"), piece(0, args="1}"))
    assert [block[2:] for block in called(*reads)] == [("A", '{"x":1}')]


TOOLS = st.sampled_from(["Read", "Bash", "List"])
ARGS = st.integers(0, 10**6).map(lambda number: f'{{"n":{number},"s":"}}{{"}}')
IDS = ["none", "each", "first", "same"]


@st.composite
def written(draw: st.DrawFn) -> tuple[list[tuple[str, str]], list[bytes]]:
    """Calls, and the chunks in which an odd server writes them one after the other."""
    names, arguments = (
        draw(st.lists(TOOLS, min_size=1, max_size=5)),
        st.lists(ARGS, min_size=5, max_size=5, unique=True),
    )
    made = list(zip(names, draw(arguments), strict=False))
    index = draw(st.sampled_from(["each", 0, None]))
    ids = draw(st.sampled_from(IDS))
    if ids == "same" and index != "each":
        # The same tool under the same id is the same call.
        made = [call for at, call in enumerate(made) if not at or made[at - 1][0] != call[0]]
    has_every_name, is_split = draw(st.booleans()), draw(st.booleans())
    reads = []
    for number, (name, args) in enumerate(made):
        places = sorted(draw(st.lists(st.integers(1, len(args) - 1), max_size=3)))
        parts = [args[a:b] for a, b in pairwise([0, *places, len(args)]) if a < b]
        parts = ["", *parts] if is_split else parts
        for at, part in enumerate(parts):
            given_id = {"none": None, "same": "x"}.get(ids, f"c{number}")
            reads.append(
                piece(
                    number if index == "each" else index,  # type: ignore[arg-type]
                    None if ids == "first" and at else given_id,
                    None if at and not has_every_name else name,
                    part,
                )
            )
    return made, each(*reads)


@settings(deadline=None)
@given(stream=written())
def test_no_call_is_lost_however_its_pieces_are_named(
    stream: tuple[list[tuple[str, str]], list[bytes]],
) -> None:
    made, reads = stream
    assert [block[2:] for block in called(*reads)] == made


def test_calls_without_indexes() -> None:
    reads = each(piece(None, "a", "A", '{"x":'), piece(args="1}"))
    assert called(*reads, finish=chunk({}, "stop")) == [("tool_use", "a", "A", '{"x":1}')]


def test_calls_without_indexes_and_ids() -> None:
    pieces = [piece(name="A", args="{}"), piece(name="A", args='{"x":1}'), piece(name="B")]
    for reads in (each(*pieces), [calls(*pieces)]):
        assert [block[2:] for block in called(*reads)] == [
            ("A", "{}"),
            ("A", '{"x":1}'),
            ("B", "{}"),
        ]


def test_pieces_without_index_and_id_are_matched_by_place() -> None:
    reads = [
        calls(piece(name="A", args='{"x":'), piece(name="B", args='{"y":')),
        calls(piece(args="1}"), piece(args="2}")),
    ]
    assert [block[2:] for block in called(*reads)] == [("A", '{"x":1}'), ("B", '{"y":2}')]


def test_id_and_name_on_every_piece() -> None:
    reads = each(*(piece(0, "a", "A", part) for part in ('{"x"', ":", "1}", "")))
    assert called(*reads) == [("tool_use", "a", "A", '{"x":1}')]


def test_a_new_id_on_every_piece() -> None:
    reads = each(piece(0, "a", "A", "{"), piece(0, "b", args='"x"'), piece(0, "c", args=":1}"))
    assert called(*reads) == [("tool_use", "a", "A", '{"x":1}')]


def test_a_name_that_arrives_last() -> None:
    reads = each(piece(0, "a"), piece(0, args='{"x":'), piece(0, args="1}"), piece(0, name="A"))
    assert called(*reads) == [("tool_use", "a", "A", '{"x":1}')]


def test_a_repeated_name_starts_no_call() -> None:
    reads = each(piece(0, "a", "A", "{}"), piece(0, None, "A", ""))
    assert called(*reads) == [("tool_use", "a", "A", "{}")]


def test_a_call_without_a_name_is_dropped() -> None:
    translated = translate(says("a"), calls(piece(0, "a", args="{}")), END, DONE)
    grammar.obey(translated)
    assert translated.blocks == [("text", "a")]
    assert translated.stop_reason == "end_turn"


@pytest.mark.parametrize(
    ("fragments", "expected"),
    [
        ([{"x": 1}], '{"x":1}'),
        (["{}", '{"x":', "1}"], '{"x":1}'),
        (["{", "}"], "{}"),
        (['"{\\"x\\":', '1}"'], '{"x":1}'),
        (["[1]"], '{"input":[1]}'),
        (["null"], "{}"),
        (["nonsense"], '{"_raw_arguments":"nonsense"}'),
        ([" ", '\n{"x":1}'], '{"x":1}'),
    ],
)
def test_streamed_arguments_that_models_write(fragments: list[Any], expected: str) -> None:
    reads = each(piece(0, "a", "A"), *(piece(0, args=part) for part in fragments))
    assert called(*reads) == [("tool_use", "a", "A", expected)]


LONG = {
    "code": {"content": 'return "\\\\" + x["k"]\n\t' * 4_000},
    "quotes": {"content": '"' * 50_000},
    "other letters": {"content": "é😀" * 20_000},
    "strings": {"lines": ["a", "b"] * 20_000},
    "objects": {"edits": [{"old": "{", "new": 1}] * 5_000},
    "numbers": {"cells": [[1, 2.5, None, True]] * 20_000},
}


@pytest.mark.parametrize("as_written", [True, False], ids=["escaped", "raw"])
@pytest.mark.parametrize("name", LONG)
def test_long_arguments_in_one_piece_take_few_steps(name: str, as_written: bool) -> None:
    text = msgspec.json.encode(LONG[name]).decode()
    if not as_written:
        # Models write line ends and tabs as they are, too.
        text = text.replace("\\n", "\n").replace("\\t", "\t")
    steps = 0

    def count(frame: FrameType, event: str, argument: object) -> None:
        nonlocal steps
        steps += event == "call" and frame.f_code.co_name != "_repair"

    arguments = Arguments()
    before = sys.getprofile()
    sys.setprofile(count)
    try:
        arguments.add(text)
    finally:
        sys.setprofile(before)
    assert msgspec.json.decode(arguments.take()) == LONG[name]
    assert arguments.is_whole
    assert steps < len(text) / 100


def test_cut_arguments_stay_cut_in_a_stream() -> None:
    reads = each(piece(0, "a", "A", '{"x":1}'), piece(1, "b", "B", '{"y":"z'))
    translated = translate(*reads, chunk({}, "length"), DONE)
    assert translated.blocks[1] == ("tool_use", "b", "B", '{"y":"z')
    assert translated.stop_reason == "max_tokens"
    whole = translate(reads[0], chunk({}, "length"), DONE)
    assert whole.stop_reason == "tool_use"


def test_a_cut_of_interleaved_calls_may_be_in_an_earlier_one() -> None:
    reads = each(piece(0, "a", "A", '{"x":'), piece(1, "b", "B", "{}"))
    translated = translate(*reads, DONE)
    assert translated.stream.error is not None
    assert not translated.stream.complete
    assert translate(*reads, chunk({}, "length"), DONE).stop_reason == "max_tokens"
    # What is not an object may be all that the model wrote.
    odd = each(piece(0, "a", "A", "null"), piece(1, "b", "B", "{}"))
    assert translate(*odd, DONE).stop_reason == "tool_use"


def test_ids_of_calls() -> None:
    pieces = [
        piece(0, None, "A", "{}"),
        piece(1, "functions.Bash:0", "A", "{}"),
        piece(2, "x", "A", "{}"),
        piece(3, "x", "A", "{}"),
    ]
    ids = [block[1] for block in called(*each(*pieces))]
    assert ids[0].startswith("toolu_")
    assert ids[1:3] == ["functions_Bash_0", "x"]
    assert ids[3].startswith("toolu_")


def test_an_id_that_the_conversation_has_is_not_given_again() -> None:
    history = [{"role": "assistant", "content": [{"type": "tool_use", "id": "call_0"}]}]
    ids = [b[1] for b in called(calls(piece(0, "call_0", "A")), client_body=body(messages=history))]
    assert ids[0].startswith("toolu_")


def test_names_come_back_as_the_client_has_them() -> None:
    long = "mcp__" + "x" * 75
    given = [long, f"{long}y"]
    asked = body(tools=[{"name": name, "input_schema": {}} for name in given])
    names = ToolNames.of(asked)
    for name in given:
        assert (
            called(calls(piece(0, "a", names.to_provider(name))), client_body=asked)[0][2] == name
        )


def test_text_after_a_call() -> None:
    reads = [calls(piece(0, "a", "A", '{"x":1}')), says("\n"), says("Then"), says(" this")]
    assert called(*reads) == [("tool_use", "a", "A", '{"x":1}'), ("text", "\nThen this")]


def test_text_in_the_middle_of_a_call_follows_it() -> None:
    reads = [calls(piece(0, "a", "A", '{"x":')), says("Hm"), calls(piece(0, args="1}"))]
    assert called(*reads) == [("tool_use", "a", "A", '{"x":1}'), ("text", "Hm")]


def test_text_that_looks_like_half_a_tag_comes_before_a_call() -> None:
    call = calls(piece(0, "a", "A", "{}"))
    for thinking in (chunk({"reasoning": "Hm"}), says("<think>Hm</think>")):
        blocks = called(thinking, says("<"), call, think_tags=True)
        assert [block[0] for block in blocks] == ["thinking", "text", "tool_use"]
    assert called(says("<thi"), call, think_tags=True)[0] == ("text", "<thi")
    assert [block[0] for block in called(says("<think>Hm</"), call, think_tags=True)] == [
        "thinking",
        "tool_use",
    ]


@pytest.mark.parametrize("start", ["<think>", ""])
def test_a_call_may_cut_the_end_of_thinking_in_two(start: str) -> None:
    for parts in ([piece(0, "a", "A", "{}")], [piece(0, "a", "A", "{"), piece(0, args="}")]):
        first, *rest = each(*parts)
        reads = [says(start + "Hm</th"), first, says("ink>Then"), *rest]
        blocks = called(*reads, think_tags=True, think_start=not start)
        assert [block[:2] for block in blocks] == [
            ("thinking", "Hm"),
            ("tool_use", "a"),
            ("text", "Then"),
        ]


def test_a_tag_may_be_cut_by_a_piece_of_a_call_that_says_nothing() -> None:
    nothing = chunk({"content": "<thi", "tool_calls": [{"index": 0}]})
    blocks = translate(nothing, says("nk>Hm</think>hello"), END, DONE, think_tags=True).blocks
    assert [block[0] for block in blocks] == ["thinking", "text"]
    assert blocks[-1] == ("text", "hello")


def test_text_in_the_middle_of_a_call_comes_before_later_text() -> None:
    first, last = piece(0, "a", "A", '{"x":'), piece(0, args="1}")
    reads = [calls(first), says("Hm"), says("\n"), calls(last), says(", yes")]
    assert called(*reads) == [("tool_use", "a", "A", '{"x":1}'), ("text", "Hm\n, yes")]


def test_a_call_in_the_old_function_call_member() -> None:
    reads = [
        chunk({"function_call": {"name": "A", "arguments": ""}}),
        chunk({"function_call": {"arguments": '{"x":1}'}}),
    ]
    [block] = called(*reads, finish=chunk({}, "function_call"))
    assert block[1].startswith("toolu_")
    assert block[2:] == ("A", '{"x":1}')


def test_calls_of_other_types_are_dropped() -> None:
    custom = {"index": 0, "id": "c", "type": "custom", "custom": {"name": "X"}}
    assert called(calls(custom, piece(1, "a", "A", "{}"))) == [("tool_use", "a", "A", "{}")]


def test_many_fragments_cost_no_more_than_their_sum() -> None:
    reads = each(
        piece(0, "a", "A", '{"x":['),
        piece(1, "b", "B", "{}"),
        *(piece(0, args="{},") for _ in range(2000)),
        piece(0, args="1]}"),
    )
    assert [block[2] for block in called(*reads)] == ["A", "B"]


def read(text: str, *, cut: bool = False) -> Any:
    """The input, as the client will see it."""
    value = msgspec.json.decode(msgspec.json.encode(tool_input(text, cut=cut)))
    assert isinstance(value, dict)
    return value


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", {}),
        (" \n", {}),
        ("null", {}),
        ('{"a":1}', {"a": 1}),
        (' {"a":1} \n', {"a": 1}),
        ('"{\\"a\\":1}"', {"a": 1}),
        ('""', {}),
        ("[1,2]", {"input": [1, 2]}),
        ("3", {"input": 3}),
        ('{"a":1}{"a":1}', {"a": 1}),
        ('{}{"b":2}', {"b": 2}),
        ("{} {}", {}),
        ("{} and more", {}),
        ('{"a":1}</tool_call>', {"a": 1}),
        ('{"a":"\\ud800"}', {"a": "\ufffd"}),
        ("nonsense", {"_raw_arguments": "nonsense"}),
        ('"nonsense"', {"_raw_arguments": "nonsense"}),
        ('{"a":NaN}', {"_raw_arguments": '{"a":NaN}'}),
        ('{"a":1e999}', {"_raw_arguments": '{"a":1e999}'}),
        ('{"a": "x', {"_raw_arguments": '{"a": "x'}),
    ],
)
def test_arguments_that_models_write(text: str, expected: Any) -> None:
    assert read(text) == expected


def test_an_object_stays_as_it_was_written() -> None:
    text = '{"b": 1.50, "a": 12345678901234567890123, "é": "\\u00e9"}'
    assert msgspec.json.encode(tool_input(text)) == text.encode()


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('{"a": "x', {"a": "x"}),
        ('{"a": "x\\', {"a": "x"}),
        ('{"a": "x\\u12', {"a": "x"}),
        ('{"a": "x\\\\', {"a": "x\\"}),
        ('{"a": "[ {', {"a": "[ {"}),
        ('{"a": [1, 2', {"a": [1, 2]}),
        ('{"a": [1, 2,', {"a": [1, 2]}),
        ('{"a": {"b": [{"c": 1}, ', {"a": {"b": [{"c": 1}]}}),
        ('{"a": tr', {}),
        ('{"a":', {"a": None}),
        ('{"a": 1, "b', {"a": 1}),
        ('{"a": 1, "b":', {"a": 1, "b": None}),
        ("{", {}),
        ('{"', {}),
        ("{]", {}),
        ('{"a":1}', {"a": 1}),
        ("nonsense", {"_raw_arguments": "nonsense"}),
    ],
)
def test_cut_arguments_are_closed(text: str, expected: Any) -> None:
    assert read(text, cut=True) == expected


@settings(deadline=None)
@given(text=st.text('{}[]",:\\ua1 \n') | st.text(), cut=st.booleans())
def test_no_arguments_raise(text: str, cut: bool) -> None:
    read(text, cut=cut)


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=4),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3)
    ),
    max_leaves=6,
)
OBJECTS = st.dictionaries(st.text(max_size=3), VALUES, max_size=3)


@settings(deadline=None)
@given(value=OBJECTS, place=st.integers(0, 200))
def test_arguments_cut_anywhere_give_an_object(value: Any, place: int) -> None:
    text = msgspec.json.encode(value).decode()
    assert read(text) == value
    found = read(text[:place], cut=True)
    assert "_raw_arguments" in value or "_raw_arguments" not in found
    assert set(list(found)[:-1]) <= set(value)


@pytest.mark.parametrize("text", ['{"a": "' + "a" * 300_000, "{" * 100_000, '"' * 300_000])
def test_long_texts_take_no_longer(text: str) -> None:
    read(text, cut=True)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("{}", True),
        ('{"a":1} ', True),
        ("", False),
        ('{"a":', False),
        ("[]", False),
        ("{}}", False),
    ],
)
def test_complete_arguments_are_recognized(text: str, expected: bool) -> None:
    assert is_object(text) is expected
