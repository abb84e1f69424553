"""What a repair changed, in words; the record may be of any version, or nonsense."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ccfallback.events.repair_words import difference_of

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=6,
)
KEYS = ("removed", "added", "rewritten", "betas", "counts", "renamed", "quirks")


@pytest.mark.parametrize(
    ("data", "words"),
    [
        ({}, ""),
        ({"removed": ["top_k"]}, "removed field top_k"),
        ({"removed": ["top_k", "speed"], "betas": ["fast-mode-1"]}, "removed fields top_k, speed, "
         "beta fast-mode-1"),
        ({"betas": ["a-1", "b-2"]}, "removed betas a-1, b-2"),
        (
            {"rewritten": ["messages"], "counts": {"system_messages": -1, "thinking": -3}},
            "removed 1 system message, 3 thinking blocks",
        ),
        (
            {"rewritten": ["messages", "system"], "counts": {"system_messages": -2, "text": 1}},
            "removed 2 system messages; added 1 text block; rewrote system",
        ),
        ({"rewritten": ["messages"]}, "rewrote messages"),
        ({"added": ["tools"], "renamed": 1}, "added field tools; renamed 1 tool"),
        ({"renamed": 2, "quirks": ["sampling", "top_k"]}, "renamed 2 tools; switched sampling, "
         "top_k"),
    ],
)  # fmt: skip
def test_the_words(data: dict[str, Any], words: str) -> None:
    assert difference_of(data).words == words


def test_what_is_said_is_there_to_be_counted_too() -> None:
    it = difference_of({"betas": ["a-1"], "counts": {"thinking": -3}, "renamed": 2})
    assert (it.betas, it.counts, it.renamed, it.quirks) == (["a-1"], {"thinking": -3}, 2, [])


def test_a_terminal_has_nothing_to_obey() -> None:
    it = difference_of({"removed": ["\x1b[2J"], "counts": {"a\nb": 1}})
    assert it.words.isprintable()


@given(st.dictionaries(st.sampled_from(KEYS), JSON))
def test_nonsense_is_no_error(data: dict[str, Any]) -> None:
    it = difference_of(data)
    assert bool(it.words) == any(
        (it.removed, it.added, it.rewritten, it.betas, it.counts, it.renamed, it.quirks)
    )
