"""Patterns that are compiled when they are used."""

import re

from hypothesis import given
from hypothesis import strategies as st

from ccfallback.messages import reset_hints
from ccfallback.messages.patterns import has_any, lazy_re
from ccfallback.policy import outcome


def test_it_does_what_a_compiled_pattern_does() -> None:
    lazy, compiled = (
        lazy_re(r"(?P<word>\w+)-(\d+)", re.ASCII),
        re.compile(r"(?P<word>\w+)-(\d+)", re.A),
    )
    for text in ("", "a-1", "x a-1 b-22", "é-1"):
        assert [found.groupdict() for found in lazy.finditer(text)] == [
            found.groupdict() for found in compiled.finditer(text)
        ]
        assert (lazy.fullmatch(text) is None) == (compiled.fullmatch(text) is None)
        assert lazy.sub(r"\2", text) == compiled.sub(r"\2", text)
    assert (lazy.pattern, lazy.flags, lazy.groups) == (
        compiled.pattern,
        compiled.flags,
        compiled.groups,
    )


def test_it_works_on_bytes() -> None:
    assert lazy_re(rb"a+").findall(b"baac a") == [b"aa", b"a"]


@given(
    pattern=st.sampled_from(
        [
            (outcome._MODEL_QUOTA, outcome._MODEL_QUOTA_WORDS),
            (reset_hints._REGAIN, reset_hints._REGAIN_WORDS),
        ]
    ),
    data=st.data(),
)
def test_every_match_has_one_of_the_words(
    pattern: tuple[re.Pattern[str], tuple[str, ...]], data: st.DataObject
) -> None:
    expression, words = pattern
    compiled = re.compile(expression.pattern, expression.flags)
    assert has_any(data.draw(st.from_regex(compiled)), words)
