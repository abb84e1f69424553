"""Thinking between tags, in any pieces."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ccfallback.wire.openai.tags import ThinkTags


def split(*parts: str) -> tuple[str, str]:
    tags = ThinkTags()
    found = [*(tags.split(part) for part in parts), tags.rest()]
    return "".join(pair[0] for pair in found), "".join(pair[1] for pair in found)


@pytest.mark.parametrize(
    ("text", "thinking", "answer"),
    [
        ("<think>a</think>b", "a", "b"),
        ("\n <think>\na\n</think>\n\nb", "\na\n", "b"),
        ("<think></think>b", "", "b"),
        ("<think>a", "a", ""),
        ("<think>a</thi", "a</thi", ""),
        ("<think>a < b</think>c</think>", "a < b", "c</think>"),
        ("b <think>a</think>", "", "b <think>a</think>"),
        (" \n b", "", " \n b"),
        ("<thinking>a", "", "<thinking>a"),
        ("<thi", "", "<thi"),
        (" ", "", " "),
        ("", "", ""),
    ],
)
def test_split(text: str, thinking: str, answer: str) -> None:
    assert split(text) == (thinking, answer)
    assert split(*text) == (thinking, answer)


@settings(deadline=None)
@given(parts=st.lists(st.sampled_from(["<", "think", ">", "</", "<think>", "</think>", " ", "a"])))
def test_the_pieces_make_no_difference(parts: list[str]) -> None:
    assert split("".join(parts)) == split(*parts)


def test_nothing_is_held_longer_than_it_must_be() -> None:
    tags = ThinkTags()
    assert tags.split("<think>a</") == ("a", "")
    assert tags.split("b") == ("</b", "")
    assert not tags.past
    assert tags.split("</think>") == ("", "")
    assert tags.split("\n") == ("", "")
    assert tags.split("\nc\n") == ("", "c\n")
    assert tags.past
