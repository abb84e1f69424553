"""Checks of single values: what each accepts, and what it expects otherwise."""

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ccfallback.config import checks
from ccfallback.config.checks import Expected, describe

ACCEPTED: list[tuple[Callable[[Any], Any], Any, Any]] = [
    (checks.boolean, True, True),
    (checks.integer(0, 5), 0, 0),
    (checks.integer(0, 5), 5, 5),
    (checks.seconds(0, 5), 5, 5.0),
    (checks.seconds(0.05, 5), 0.05, 0.05),
    (checks.text, "x", "x"),
    (checks.note, "", ""),
    (checks.note, "a\tb", "a\tb"),
    (checks.pattern("[a-z]+", "w"), "abc", "abc"),
    (checks.choice(["a", "b"]), "b", "b"),
    (checks.texts, ["a"], ("a",)),
    (checks.texts, [], ()),
    (checks.command, ["pass", "show", ""], ("pass", "show", "")),
    (checks.text_map, {"a": "b"}, {"a": "b"}),
    (checks.header_map, {"X-A": "é b"}, {"X-A": "é b"}),
    (checks.header_name, "x-api-key", "x-api-key"),
    (checks.key_text, " k ", "k"),
    (checks.http_url, "http://h", "http://h"),
    (checks.http_url, " HTTPS://h:1/x?a=b ", "HTTPS://h:1/x?a=b"),
    (checks.http_url, "http://[::1]:80/", "http://[::1]:80/"),
    (checks.proxy_url, "http://name:password@h:1", "http://name:password@h:1"),
    (checks.proxy_url, "socks5h://h:1", "socks5h://h:1"),
    (checks.statuses, [], frozenset()),
    (checks.statuses, ["429", 500, "4XX"], frozenset({500, *range(400, 500)})),
]

REFUSED: list[tuple[Callable[[Any], Any], Any]] = [
    *((checks.boolean, value) for value in (1, 0, "true", None)),
    *((checks.integer(0, 5), value) for value in (-1, 6, 1.0, "1", True, None)),
    *((checks.seconds(0, 5), v) for v in (-0.1, 5.1, "1", True, float("nan"), float("inf"))),
    *((checks.text, value) for value in ("", "  ", 5, None)),
    *((checks.note, value) for value in ("a\nb", "\x1b[0m", 5)),
    *((checks.pattern("[a-z]+", "w"), value) for value in ("", "abc\n", "a b", 5)),
    *((checks.choice(["a", "b"]), value) for value in ("", "c", "A", ["a"])),
    *((checks.texts, value) for value in ("a", [""], [5], {"a": "b"})),
    *((checks.command, value) for value in ("pass", [], [""], ["a", 5])),
    (checks.text_map, []),
    *((checks.text_map, value) for value in ({"a": ""}, {"a": 5}, {"": "a"})),
    *((checks.header_map, value) for value in ({"a b": "c"}, {"a:": "c"}, {"a": 5}, ["a"])),
    *((checks.header_map, value) for value in ({"a": "b\r\nc: d"}, {"a": "漢"}, {"": "b"})),
    *((checks.header_name, value) for value in ("", "a b", "a: b", "é", 5)),
    *((checks.key_text, value) for value in ("", " ", "a\nb", "漢", 5, ["k"])),
    *((checks.http_url, v) for v in ("", "h", "ftp://h", "http://", "http://h:x", "http://h:99999")),
    *((checks.http_url, v) for v in ("http://a:b@h", "http://a@h", "http://h h", "http://h\n", 5)),
    *((checks.http_url, v) for v in ("http://h/#x", "http://[::1", "//h", "http://h\th", ["h"])),
    *((checks.proxy_url, v) for v in ("", "h:1", "ftp://h", "socks4://h", "http://h:x", 5)),
    *((checks.statuses, v) for v in ("429", ["200"], ["600"], ["3xx"], ["4x"], [True], [429.5])),
]  # fmt: skip


@pytest.mark.parametrize(("check", "value", "meaning"), ACCEPTED)
def test_a_good_value_has_its_meaning(
    check: Callable[[Any], Any], value: Any, meaning: Any
) -> None:
    assert check(value) == meaning


@pytest.mark.parametrize(("check", "value"), REFUSED)
def test_a_refused_value_raises(check: Callable[[Any], Any], value: Any) -> None:
    with pytest.raises(Expected) as refused:
        check(value)
    assert refused.value.expected


CHECKS = sorted({check for check, *_ in (*ACCEPTED, *REFUSED)}, key=repr)
ANY = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.dates(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=4,
)


@given(check=st.sampled_from(CHECKS), value=ANY | st.text().map("http://{}".format))
def test_a_check_takes_a_value_or_says_what_it_expected(
    check: Callable[[Any], Any], value: Any
) -> None:
    expected = "nothing else"
    try:
        check(value)
    except Expected as refused:
        expected = refused.expected
    assert expected
    assert expected.isprintable()


@given(value=ANY)
def test_a_value_is_described_on_one_short_line(value: Any) -> None:
    shown = describe(value)
    assert shown.isprintable()
    assert len(shown) <= 400


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (True, "true"),
        ("x", '"x"'),
        ("a\nb\x1b", '"a\ufffdb\ufffd"'),
        (5, "5"),
        ({}, "a table"),
        ([], "an array"),
        (None, "a NoneType"),
    ],
)
def test_how_a_value_is_described(value: Any, shown: str) -> None:
    assert describe(value) == shown


@pytest.mark.parametrize(
    "pasted",
    [
        "sk-1",
        " sk-1 ",
        '"sk-1"',
        "'sk-1'",
        "export OPENAI_API_KEY=sk-1",
        'export key="sk-1"',
        "OPENAI_API_KEY='sk-1';",
        "set OPENAI_API_KEY=sk-1",
        '$env:OPENAI_API_KEY = "sk-1"',
        "OPENROUTER_API_KEY = sk-1",
    ],
)
def test_what_is_pasted_around_a_key_is_removed(pasted: str) -> None:
    assert checks.clean_key(pasted) == "sk-1"
    assert checks.key_text(pasted) == "sk-1"


@pytest.mark.parametrize(
    "key", ["Bearer sk-1", "a2V5", "a2V5=", "A_B==", "key=value", "sk-a'b", '"', "a;b"]
)
def test_a_key_that_only_looks_like_one_is_kept(key: str) -> None:
    assert checks.clean_key(key) == key


@pytest.mark.parametrize("nothing", ['""', "' '", " "])
def test_quotes_around_nothing_are_no_key(nothing: str) -> None:
    with pytest.raises(checks.Expected):
        checks.key_text(nothing)
