"""A head that comes again is read from memory: what comes of it is what the parser would make."""

import asyncio
from itertools import chain, pairwise, zip_longest
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ccfallback.http1 import ConnectionLimit, Receive, Scope, Send, Server, ServerProtocol
from ccfallback.http1.known_head import MAX_KNOWN, KnownHead, learn_head

LINE = b"POST /v1/messages?a=b HTTP/1.1\r\n"
HEAD = LINE + b"Host: localhost\r\nContent-Length:%b\r\nX-One: two\r\n\r\n"
HEADERS = [(b"host", b"localhost"), (b"content-length", b"5"), (b"x-one", b"two")]


def learned(
    data: bytes, headers: list[tuple[bytes, bytes]] | None = None, size: int = 5
) -> KnownHead | None:
    """What is remembered of a request, of whose body so many bytes have arrived."""
    headers = HEADERS if headers is None else headers
    return learn_head(data, {"path": "/", "headers": headers}, size)


def known(length: bytes = b" 5") -> KnownHead:
    """The head above, remembered."""
    head = learned(HEAD % length + b"hello")
    assert head is not None
    return head


@pytest.mark.parametrize("spaces", [b"", b" ", b" \t"])
def test_the_same_head_is_known_whatever_the_length(spaces: bytes) -> None:
    head = known(spaces + b"5")
    for body in (b"hello", b"", b"x" * 100_000, b"\r\n\r\n"):
        found = head.match(HEAD % (spaces + b"%d" % len(body)) + body)
        assert found is not None
        scope, rest, missing = found
        assert (rest, missing) == (body, 0)
        length = b"%d" % len(body)
        assert scope == {
            "path": "/",
            "headers": [(b"host", b"localhost"), (b"content-length", length), (b"x-one", b"two")],
        }
    assert HEADERS[1] == (b"content-length", b"5")


@pytest.mark.parametrize("arrived", [b"", b"hell", b"\r\n\r\n"])
def test_the_rest_of_a_body_may_come_later(arrived: bytes) -> None:
    found = known().match(HEAD % b" 5" + arrived)
    assert found is not None
    assert found[1:] == (arrived, 5 - len(arrived))
    # The head of the first one is known too.
    assert learned(HEAD % b" 5" + arrived, size=len(arrived)) is not None


@pytest.mark.parametrize(
    "data",
    [
        HEAD % b" 5" + b"hello!",
        (HEAD % b" 5")[:-1],
        (HEAD % b" 5")[:-4] + b"\n\r\n",
        HEAD % b" " + b"hello",
        HEAD % b" +5" + b"hello",
        HEAD % b" 5 " + b"hello",
        HEAD % b" 5, 5" + b"hello",
        HEAD % b" 0x5" + b"hello",
        HEAD % b" 5_0" + b"x" * 50,
        HEAD % (b" " + b"0" * 18 + b"5") + b"hello",
        (HEAD % b" 5").replace(b"One", b"one") + b"hello",
        (HEAD % b" 5").replace(b"\r\n\r\n", b"\r\nX: y\r\n\r\n") + b"hello",
        (HEAD % b" 5").replace(b"localhost", b"127.0.0.1") + b"hello",
        b"",
        b"POST",
    ],
)
def test_another_head_or_body_is_left_to_the_parser(data: bytes) -> None:
    assert known().match(data) is None


@pytest.mark.parametrize(
    ("data", "headers", "size"),
    [
        # Less than has arrived, more than the body, no length, two lengths.
        (HEAD % b" 5" + b"hell", HEADERS, 5),
        (HEAD % b" 5" + b"hello", HEADERS, 4),
        (HEAD % b" 5" + b"hello!", HEADERS, 6),
        (HEAD % b" 5" + b"hello" + HEAD % b" 5" + b"hello", HEADERS, 5),
        (LINE + b"Host: localhost\r\n\r\n", [(b"host", b"localhost")], 0),
        (HEAD % b" 5" + b"hello", [*HEADERS, HEADERS[1]], 5),
        # The head ends elsewhere for the parser, which takes a line feed alone for a line's end.
        (LINE + b"X: y\ncontent-length: 26\n\n\r\ncontent-length: 2\r\n\r\nab",
         [(b"content-length", b"26")], 26),
        (LINE + b"content-length: 29\r\nX: y\n\na\r\ncontent-length: 00029\r\n\r\n",
         [(b"content-length", b"29")], 29),
        (LINE + b"content-length: 99\r\nX: y\n\na\r\n\r\n", [(b"content-length", b"99")], 5),
        # Too long to be kept.
        (HEAD.replace(b"two", b"t" * MAX_KNOWN) % b" 5" + b"hello", HEADERS, 5),
    ],
)  # fmt: skip
def test_a_doubtful_head_is_not_remembered(
    data: bytes, headers: list[tuple[bytes, bytes]], size: int
) -> None:
    assert learned(data, headers, size) is None


class Wire:
    """The transport of a client that reads nothing."""

    def __init__(self) -> None:
        self.written = b""
        self.closed = False

    def write(self, data: bytes) -> None:
        self.written += data

    def get_extra_info(self, _name: str) -> object:
        return ("127.0.0.1", 1)

    def is_closing(self) -> bool:
        return self.closed

    def close(self) -> None:
        self.closed = True

    def can_write_eof(self) -> bool:
        return True

    def write_eof(self) -> None:
        self.closed = True

    def get_write_buffer_size(self) -> int:
        return 0

    def pause_reading(self) -> None:
        pass

    def resume_reading(self) -> None:
        pass


async def read(pieces: list[bytes], *, remembers: bool = True) -> tuple[list[Any], bytes]:
    """The requests that arrive in some pieces, and what is sent back."""
    seen: list[Any] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        body, more = b"", True
        while more:
            message = await receive()
            if message["type"] == "http.disconnect":
                return
            body, more = body + message["body"], message["more_body"]
        own = {key: value for key, value in scope.items() if not key.startswith("http1.")}
        seen.append((own, body))
        # What an application does with its scope is its own affair.
        scope["path"] = "/changed"
        await send({"type": "http.response.start", "status": 204, "headers": [], "body": b""})

    wire, server = Wire(), Server()
    client = ServerProtocol(app, server, lambda *_: ([], b""), ConnectionLimit(9))
    client.connection_made(wire)  # type: ignore[arg-type]  # all that the protocol uses of one
    for piece in pieces:
        client.data_received(piece)
        if not remembers:
            client._known_head = None
        while server.tasks and not client._reading.is_arriving:  # type: ignore[union-attr]  # begun
            await asyncio.sleep(0)
    client.connection_lost(None)
    await asyncio.gather(*server.tasks)
    return seen, wire.written


REQUESTS = st.sampled_from(
    [
        HEAD % b" 5" + b"hello",
        HEAD % b" 0",
        HEAD % b" 12" + b"hello, world",
        HEAD % b" 007" + b"\r\n\r\n\r\n\r",
        HEAD % b" 5",
        HEAD % b" 5" + b"hello" + b"G",
        (HEAD % b" 5").replace(b"Host", b"Expect: 100-continue\r\nHost") + b"hello",
        (HEAD % b" 5").replace(b"Host", b"Upgrade: h2c\r\nHost") + b"hello",
        (HEAD % b" 5").replace(b"Host", b"Transfer-Encoding: chunked\r\nHost") + b"0\r\n\r\n",
        (HEAD % b" 5").replace(b"/1.1", b"/1.0") + b"hello",
        (HEAD % b" 5").replace(b"Host", b"Connection: close\r\nHost") + b"hello",
        (HEAD % b" 5").replace(b"\r\n", b"\n") + b"hello",
        b"\r\n" + HEAD % b" 5" + b"hello",
        b"GET / HTTP/1.1\r\nhost: localhost\r\n\r\n",
        HEAD % b" 9999999999999999999",
    ]
)


def cut(request: bytes, places: list[int]) -> list[bytes]:
    ends = sorted(place % (len(request) + 1) for place in places)
    pieces = [request[begin:end] for begin, end in pairwise([0, *ends, len(request)])]
    return [piece for piece in pieces if piece]


HEAD_SIZE = len(HEAD % b" 5")
CUTS = st.lists(st.integers(0, 200) | st.integers(HEAD_SIZE, HEAD_SIZE + 4), max_size=3)


@settings(max_examples=100, deadline=None)
@given(st.lists(st.builds(cut, REQUESTS, CUTS), max_size=6), st.booleans())
def test_requests_are_the_same_with_and_without_a_memory(
    requests: list[list[bytes]], are_joined: bool
) -> None:
    pieces = list(chain.from_iterable(requests))
    if are_joined:
        # The end of a request and the start of the next one come at once.
        pieces = [b"".join(pair) for pair in zip_longest(pieces[::2], pieces[1::2], fillvalue=b"")]
    assert asyncio.run(read(pieces)) == asyncio.run(read(pieces, remembers=False))


async def test_a_head_that_comes_again_is_not_parsed(monkeypatch: pytest.MonkeyPatch) -> None:
    parsed: list[bytes] = []
    on_url = ServerProtocol.on_url

    def parse_url(self: ServerProtocol, url: bytes) -> None:
        parsed.append(url)
        on_url(self, url)

    monkeypatch.setattr(ServerProtocol, "on_url", parse_url)
    whole = [HEAD % b" 5" + b"hello", HEAD % b" 10" + b"hello" * 2]
    seen, _ = await read(whole * 3)
    assert [body for _, body in seen] == [b"hello", b"hello" * 2] * 3
    assert len(parsed) == 1
    seen, _ = await read(
        [HEAD % b" 15", b"hello" * 2, b"hello", *whole, HEAD % b" 5" + b"h", b"ello"]
    )
    assert [len(body) for _, body in seen] == [15, 5, 10, 5]
    assert len(parsed) == 2
