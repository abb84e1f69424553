"""A body: the client's bytes until a member is changed."""

import json
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ccfallback.messages.body import Body, NotAnObject

DEEP = b"[" * 100_000 + b"]" * 100_000


def test_untouched_is_the_very_same_bytes() -> None:
    raw = b' { "b" : 1.0e0 ,\n"a":[ ],"b":"\\u00e9" } '
    body = Body.parse(raw)
    assert body.get("b") == "é"
    assert body.raw is raw
    assert body.without("nothing") is body
    assert Body.parse(raw).raw is raw


def test_keys_keep_their_order() -> None:
    body = Body.parse(b'{"z":1,"a":2,"m":3}').with_members(a=9, new=0)
    assert body.raw == b'{"z":1,"a":9,"m":3,"new":0}'
    assert body.without("z").raw == b'{"a":9,"m":3,"new":0}'


def test_the_last_of_two_members_of_one_name_counts() -> None:
    body = Body.parse(b'{"model":"a","x":1,"model":"b"}')
    assert body.model == "b"
    assert body.with_members(x=2).raw == b'{"model":"b","x":2}'


def test_a_change_leaves_the_body_it_began_with() -> None:
    body = Body.parse(b'{"model":"a"}')
    changed = body.with_members(model="b")
    assert (body.model, changed.model) == ("a", "b")
    assert body.raw == b'{"model":"a"}'


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b" ",
        b"null",
        b"[]",
        b'"text"',
        b"1",
        b"{",
        b'{"a":1',
        b'{"a":1}}',
        b'{"a":1} {"b":2}',
        b'{"a":}',
        b'{"a":01}',
        b'{"a":[1,]}',
        b'{"a":NaN}',
        b"{'a':1}",
        b"{1:2}",
        b'{"a\xff":1}',
        b"\xff\xfe{\x00}\x00",
        DEEP,
        b'{"a":' * 100_000,
    ],
    ids=lambda raw: repr(raw[:20]),
)
def test_a_value_that_is_not_a_json_object_is_refused(raw: bytes) -> None:
    with pytest.raises(NotAnObject):
        Body.parse(raw)


def test_a_member_that_cannot_be_read_is_none_and_is_forwarded() -> None:
    body = Body.parse(b'{"a":1,"b":"\xff"}')
    assert "b" in body
    assert body.get("b") is None
    assert body.with_members(a=2).raw == b'{"a":2,"b":"\xff"}'


def test_a_member_nested_too_deep_for_some_parsers_is_refused_or_readable() -> None:
    body = Body.parse(b'{"a":' + b"[" * 200 + b"]" * 200 + b"}")
    assert body.get("a") is not None


def test_huge_numbers_pass_as_they_are() -> None:
    raw = b'{"n":123456789012345678901234567890,"x":1}'
    body = Body.parse(raw)
    assert body.get("n") == 123456789012345678901234567890
    changed = body.with_members(x=body.get("n"))
    assert changed.raw.count(b"123456789012345678901234567890") == 2


def test_a_number_beyond_all_bounds_passes_unread() -> None:
    raw = b'{"n":' + b"9" * 5000 + b',"x":1}'
    body = Body.parse(raw)
    assert body.get("n") is None
    assert body.with_members(x=2).raw == raw.replace(b'"x":1', b'"x":2')


@pytest.mark.parametrize(
    ("raw", "model", "stream"),
    [
        (b'{"model":"m","stream":true}', "m", True),
        (b'{"model":"m"}', "m", False),
        (b'{"model":5,"stream":1}', "", False),
        (b'{"model":null,"stream":"true"}', "", False),
        (b"{}", "", False),
    ],
)
def test_model_and_stream(raw: bytes, model: str, stream: bool) -> None:
    body = Body.parse(raw)
    assert (body.model, body.stream) == (model, stream)


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=["Cs"])),
    lambda children: st.lists(children, max_size=4)
    | st.dictionaries(st.text(st.characters(exclude_categories=["Cs"])), children, max_size=4),
    max_leaves=8,
)  # fmt: skip
KEYS = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
STYLES = st.sampled_from([{"indent": 1}, {"separators": (" , ", "\t:\n")}, {"ensure_ascii": True}])


def in_style(value: Any, style: dict[str, Any]) -> bytes:
    return json.JSONEncoder(**style).encode(value).encode()


@given(members=st.dictionaries(KEYS, VALUES, min_size=1, max_size=6), style=STYLES, data=st.data())
def test_a_splice_keeps_the_other_members_bytes(
    members: dict[str, Any], style: dict[str, Any], data: st.DataObject
) -> None:
    changed = data.draw(st.sampled_from(sorted(members)))
    value = data.draw(VALUES)
    body = Body.parse(in_style(members, style))
    spliced = body.with_members(**{changed: value})
    before = msgspec.json.decode(body.raw, type=dict[str, msgspec.Raw])
    after = msgspec.json.decode(spliced.raw, type=dict[str, msgspec.Raw])
    assert list(after) == list(before)
    for key in members:
        if key == changed:
            assert json.loads(bytes(after[key])) == value
        else:
            assert bytes(after[key]) == bytes(before[key])
    assert changed not in body.without(changed)


@given(members=st.dictionaries(KEYS, VALUES, max_size=6), style=STYLES)
def test_every_member_reads_as_any_parser_reads_it(
    members: dict[str, Any], style: dict[str, Any]
) -> None:
    body = Body.parse(in_style(members, style))
    assert {key: body.get(key) for key in members} == members


@given(raw=st.binary(max_size=80) | st.binary(max_size=40).map(lambda b: b'{"a":' + b + b"}"))
def test_any_bytes_are_a_body_or_refused(raw: bytes) -> None:
    try:
        body = Body.parse(raw)
    except NotAnObject:
        return
    assert body.raw is raw
    body.get("a")
    assert body.with_members(b=1).raw


def test_half_a_letter_is_read_as_none_and_sent_as_it_came() -> None:
    raw = b'{"a":"x\\ud800y","b":"\\ud83d\\ude00","c":"\\udc00"}'
    body = Body.parse(raw)
    assert (body.get("a"), body.get("b"), body.get("c")) == ("x\ufffdy", "\U0001f600", "\ufffd")
    assert body.raw == raw
    assert b'"b":"\\ud83d\\ude00"' in body.with_members(d=1).raw


def test_items_keep_their_own_bytes_where_a_list_is_changed() -> None:
    body = Body.parse(b'{"a":[1.50, {"b" : 2},"x"],"c":3}')
    values, raws = body.get("a"), body.items("a")
    changed = body.with_items("a", [values[1], {"new": 1}, raws[0]])
    assert changed.raw == b'{"a":[{"b" : 2},{"new":1},1.50],"c":3}'
    assert changed.get("a") == [{"b": 2}, {"new": 1}, 1.5]
    assert [bytes(raw) for raw in changed.items("a")] == [b'{"b" : 2}', b'{"new":1}', b"1.50"]
    assert changed.member("a") == b'[{"b" : 2},{"new":1},1.50]'
    assert body.raw == b'{"a":[1.50, {"b" : 2},"x"],"c":3}'
    assert changed.with_items("a", []).raw == b'{"a":[],"c":3}'
    assert body.with_items("d", ["e"]).get("d") == ["e"]


@pytest.mark.parametrize("raw", [b"{}", b'{"a":3}', b'{"a":{"b":[1]}}', b'{"a":null}'])
def test_a_value_that_is_not_a_list_has_no_items(raw: bytes) -> None:
    assert Body.parse(raw).items("a") == []


def test_what_was_parsed_is_not_parsed_again_for_a_body_made_of_it() -> None:
    body = Body.parse(b'{"a":[{"b":2}],"c":3}')
    value = body.get("a")
    for made in (body.with_members(c=4), body.without("c"), body.respell()):
        assert made.get("a") is value
    assert body.with_members(a=[5]).get("a") == [5]
    assert body.without("a").get("a") is None
    assert body.with_items("a", value).get("a")[0] is value[0]


def test_bodies_made_of_each_other_say_what_differs() -> None:
    body = Body.parse(b'{"a":[1],"b":2,"c":3}')
    made = body.with_members(b=3).without("c").with_items("a", [1])
    assert body.differs(made) == {"a", "b", "c"}
    assert body.differs(body.with_members(d=1)) == {"d"}
    assert body.differs(body) == frozenset()
