"""A head is made of lines, and nothing in one of them makes another."""

import pytest

from ccfallback.http1.head import whole_head


@pytest.mark.parametrize(
    "lines",
    [
        [b"GET / HTTP/1.1", b"host: localhost"],
        [b"POST /v1/messages?beta=true HTTP/1.1", b"x: ", b"y:\xc3\xa4\t z"],
        [b"HTTP/1.1 200 OK"],
        [b"HTTP/1.1 529 ", b"content-length: 0"],
    ],
)
def test_lines_become_a_head(lines: list[bytes]) -> None:
    assert whole_head(lines) == b"".join(line + b"\r\n" for line in lines) + b"\r\n"


@pytest.mark.parametrize(
    "line",
    [
        b"x: a\r\ny: b",
        b"x: a\ry: b",
        b"x: a\ny: b",
        b"x: a\r\n\r\nGET / HTTP/1.1",
        b"x: a\x00b",
        b"x y: a",
        b"x\xe4: a",
        b": a",
        b"no colon",
        b"",
    ],
)
@pytest.mark.parametrize("first", [b"GET / HTTP/1.1", b"HTTP/1.1 200 OK"])
def test_what_is_no_header_makes_no_head(first: bytes, line: bytes) -> None:
    with pytest.raises(ValueError, match="illegal character"):
        whole_head([first, line, b"last: one"])


@pytest.mark.parametrize(
    "first",
    [
        b"GET /a b HTTP/1.1",
        b"GET /\x7f HTTP/1.1",
        b"GET / HTTP/1.0",
        b"HTTP/1.1 20 OK",
        b"HTTP/1.1 200 \xe4",
        b"",
    ],
)
def test_what_is_no_first_line_makes_no_head(first: bytes) -> None:
    with pytest.raises(ValueError, match="illegal character"):
        whole_head([first, b"host: localhost"])
