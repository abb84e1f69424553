"""A curl command to repeat a request with, without its secrets."""

import shlex

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ccfallback.server.curl import debug_curl, masked_url

SECRET = "the-providers-own-key"


def test_the_command_repeats_the_request() -> None:
    command = debug_curl(
        "https://h/v1/messages?beta=true",
        [(b"x-api-key", SECRET.encode()), (b"anthropic-version", b"2023-06-01")],
    )
    assert shlex.split(command) == [
        *("curl", "-sS", "-X", "POST", "https://h/v1/messages?beta=true"),
        *("-H", "x-api-key: ***", "-H", "anthropic-version: 2023-06-01"),
        *("--data-binary", "@request.json"),
    ]


@given(
    name=st.sampled_from([b"authorization", b"x-api-key", b"x-title", b"cookie", b"x-other"]),
    before=st.text("ab '\"$`\\;&é", max_size=5),
    where=st.sampled_from(["https://h/", "https://h/?code={}", "https://h/?api-key={}&x=1"]),
)
def test_no_secret_is_in_the_command(name: bytes, before: str, where: str) -> None:
    headers = [(name, f"{before}{SECRET}".encode("latin-1"))]
    command = debug_curl(where.format(SECRET), headers, [SECRET])
    assert SECRET not in command


@given(value=st.text(st.characters(max_codepoint=255), max_size=20))
def test_a_shell_reads_every_header_as_one_word(value: str) -> None:
    words = shlex.split(debug_curl("https://h/", [(b"x-a", value.encode("latin-1"))]))
    assert len(words) == 9
    assert words[-1] == "@request.json"


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("https://h/x", "https://h/x"),
        ("https://h/x?beta=true", "https://h/x?beta=true"),
        ("https://h/x?key=abc", "https://h/x?key=***"),
        (
            "https://h/x?api-version=1&access_token=abc",
            "https://h/x?api-version=1&access_token=***",
        ),
        ("https://h/x?a=12345678901234567890", "https://h/x?a=***"),
        ("https://h/x?a=1", "https://h/x?a=***"),
    ],
)
def test_a_url_shows_no_secret_of_its_query(url: str, shown: str) -> None:
    assert masked_url(url) == shown
