"""Patterns that are compiled when they are used."""

import re

from ccfallback.messages.patterns import lazy_re


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
