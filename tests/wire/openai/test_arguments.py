"""What models write as arguments, and the object it becomes."""

from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ccfallback.wire.openai.arguments import input_of, is_object


def read(text: str, *, cut: bool = False) -> Any:
    """The input, as the client will see it."""
    value = msgspec.json.decode(msgspec.json.encode(input_of(text, cut=cut)))
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
def test_what_models_write(text: str, expected: Any) -> None:
    assert read(text) == expected


def test_an_object_stays_as_it_was_written() -> None:
    text = '{"b": 1.50, "a": 12345678901234567890123, "é": "\\u00e9"}'
    assert msgspec.json.encode(input_of(text)) == text.encode()


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
def test_what_was_cut_is_closed(text: str, expected: Any) -> None:
    assert read(text, cut=True) == expected


@settings(deadline=None)
@given(text=st.text('{}[]",:\\ua1 \n') | st.text(), cut=st.booleans())
def test_no_text_is_too_odd(text: str, cut: bool) -> None:
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
def test_a_cut_anywhere_gives_an_object_with_the_same_beginning(value: Any, place: int) -> None:
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
def test_whether_it_is_whole(text: str, expected: bool) -> None:
    assert is_object(text) is expected
