"""What a terminal would obey, or a reader can't see, is neither shown nor written."""

import unicodedata

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ccfallback.printable import escape_json, is_printable, printable

HIDDEN = [
    *("\x00", "\x1b", "\x7f", "\x85", "\x9b", "\u2028", "\u2029", "\ufeff", "\u00ad"),
    *("\u200b", "\u200d", "\u200e", "\u200f", "\u061c", "\u202e", "\u2066", "\u2069"),
    *("\U000e0041", "\U000e0100", "\ufe0f", "\u3164", "\u115f", "\u2800", "\ud800"),
]


@pytest.mark.parametrize("letter", HIDDEN, ids=ascii)
def test_a_hidden_character_is_replaced_on_screen_and_escaped_in_json(letter: str) -> None:
    assert not is_printable(f"a{letter}b")
    assert printable(f"a{letter}{letter}b") == "a b"
    assert printable(f"a{letter}b", "?") == "a?b"
    if letter != "\ud800":
        encoded = msgspec.json.encode({"a": f"x{letter}"})
        escaped = escape_json(encoded)
        assert escaped.isascii()
        assert b"\x7f" not in escaped
        assert msgspec.json.decode(escaped) == {"a": f"x{letter}"}


@pytest.mark.parametrize("text", ["plain", "é ü 漢字", "🙂 ok", "\U0001d400"])
def test_other_text_stays(text: str) -> None:
    assert printable(text) == text
    encoded = msgspec.json.encode(text)
    assert escape_json(encoded) is encoded


@given(text=st.text())
def test_nothing_hidden_is_left(text: str) -> None:
    assert is_printable(printable(text))
    assert not {unicodedata.category(each) for each in printable(text)} & {"Cc", "Cf", "Zl", "Zp"}
    if not any("\ud800" <= each <= "\udfff" for each in text):
        escaped = escape_json(msgspec.json.encode([text]))
        assert is_printable(escaped.decode())
        assert msgspec.json.decode(escaped) == [text]


def test_a_layout_keeps_its_line_breaks() -> None:
    laid_out = msgspec.json.format(msgspec.json.encode({"a": "\x9b", "b": 1}), indent=2)
    assert escape_json(laid_out).count(b"\n") == laid_out.count(b"\n")
