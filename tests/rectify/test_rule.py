"""What a rectifier is given."""

import pytest

from ccfallback.rectify.rule import Refusal


@pytest.mark.parametrize(
    ("message", "text"),
    [
        ("Invalid `signature` in `thinking`\n block", "invalid signature in thinking block"),
        ('Unexpected  role "system".', "unexpected role system."),
        ("\u2018curly\u2019 'quotes'", "curly quotes"),
        ("", ""),
    ],
)
def test_a_message_is_matched_without_quotes_case_and_line_ends(message: str, text: str) -> None:
    assert Refusal(400, message).text == text
