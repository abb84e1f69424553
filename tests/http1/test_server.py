"""A request and its answer on a real connection, with small apps behind it."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from itertools import pairwise
from typing import Any, cast

import pytest

from ccfallback.http1 import (
    CONNECTION_KEY,
    App,
    ConnectionLimit,
    Headers,
    Message,
    Receive,
    Scope,
    Send,
    Server,
    ServerProtocol,
)
from ccfallback.http1 import server as protocol
from ccfallback.http1.request import HIGH_WATER, ONE_WRITE
from ccfallback.http1.server import MAX_HEAD
from tests.network import until

GET = b"GET / HTTP/1.1\r\nhost: localhost\r\n\r\n"
POST = b"POST / HTTP/1.1\r\nhost: localhost\r\ncontent-length: %d\r\n\r\n"
CLOSE = b"GET / HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n"

Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]


def start(status: int = 200, *headers: tuple[bytes, bytes]) -> Message:
    return {"type": "http.response.start", "status": status, "headers": list(headers)}


def piece(body: bytes, *, more: bool = False) -> Message:
    return {"type": "http.response.body", "body": body, "more_body": more}


def saying(*messages: Message) -> App:
    """An app that answers with these."""

    async def app(_scope: Scope, _receive: Receive, send: Send) -> None:
        for message in messages:
            await send(message)

    return app


@asynccontextmanager
async def connected_to(app: App) -> AsyncIterator[Streams]:
    """A connection whose requests go to `app`."""
    state = Server()
    loop = asyncio.get_running_loop()
    server = await loop.create_server(
        lambda: ServerProtocol(app, state, lambda *_: ([], b""), ConnectionLimit(100)),
        "127.0.0.1",
        0,
    )
    reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
    try:
        yield reader, writer
    finally:
        writer.close()
        server.close()
        await server.wait_closed()
        while state.tasks or state.connections:
            await asyncio.sleep(0.001)


async def answer_to(app: App, sent: bytes) -> bytes:
    """All that comes back until the connection ends."""
    async with connected_to(app) as (reader, writer):
        writer.write(sent)
        return await reader.read()


OK = b"HTTP/1.1 200 OK\r\n"
CLOSES = b"connection: close\r\n"


@pytest.mark.parametrize(
    ("sent", "messages", "expected"),
    [
        (
            CLOSE,
            [start(200, (b"content-length", b"5")), piece(b"hello")],
            OK + b"content-length: 5\r\n" + CLOSES + b"\r\nhello",
        ),
        (
            CLOSE,
            [{**start(200, (b"content-length", b"5")), "body": b"hello"}],
            OK + b"content-length: 5\r\n" + CLOSES + b"\r\nhello",
        ),
        (
            CLOSE,
            [{**start(), "body": b"hello"}],
            OK + CLOSES + b"transfer-encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
        ),
        (
            CLOSE.replace(b"GET", b"HEAD"),
            [{**start(200, (b"content-length", b"5")), "body": b"hello"}],
            OK + b"content-length: 5\r\n" + CLOSES + b"\r\n",
        ),
        (
            CLOSE,
            [start(), piece(b"one", more=True), piece(b"", more=True), piece(b"three")],
            OK + CLOSES + b"transfer-encoding: chunked\r\n\r\n3\r\none\r\n5\r\nthree\r\n0\r\n\r\n",
        ),
        (
            CLOSE,
            [start(), piece(b"")],
            OK + CLOSES + b"transfer-encoding: chunked\r\n\r\n0\r\n\r\n",
        ),
        (CLOSE, [start(204), piece(b"")], b"HTTP/1.1 204 No Content\r\n" + CLOSES + b"\r\n"),
        (
            CLOSE,
            [start(529, (b"content-length", b"0")), piece(b"")],
            b"HTTP/1.1 529 \r\ncontent-length: 0\r\n" + CLOSES + b"\r\n",
        ),
        (
            CLOSE.replace(b"GET", b"HEAD"),
            [start(200, (b"content-length", b"5")), piece(b"hello")],
            OK + b"content-length: 5\r\n" + CLOSES + b"\r\n",
        ),
        (
            b"GET / HTTP/1.0\r\n\r\n",
            [start(), piece(b"one", more=True), piece(b"two")],
            OK + CLOSES + b"\r\nonetwo",
        ),
    ],
)
async def test_a_response_is_framed(sent: bytes, messages: list[Message], expected: bytes) -> None:
    assert await answer_to(saying(*messages), sent) == expected


@pytest.mark.parametrize(
    "headers",
    [[], [(b"content-length", b"%d" % (2 * ONE_WRITE))]],
    ids=["chunked", "content-length"],
)
async def test_long_pieces_arrive_whole(headers: list[tuple[bytes, bytes]]) -> None:
    long = bytes(range(256)) * (ONE_WRITE // 256)
    app = saying(start(200, *headers), piece(long, more=True), piece(long))
    body = (await answer_to(app, CLOSE)).partition(b"\r\n\r\n")[2]
    expected = long + long
    if not headers:
        size = b"%x\r\n" % len(long)
        expected = size + long + b"\r\n" + size + long + b"\r\n0\r\n\r\n"
    assert body == expected


@pytest.mark.parametrize(
    "messages",
    [
        [start(200, (b"content-length", b"5")), piece(b"four")],
        [start(200, (b"content-length", b"5")), piece(b"longer")],
        [{**start(200, (b"content-length", b"5")), "body": b"longer"}],
        [start(200, (b"x", b"a\r\ny: b")), piece(b"")],
        [start(200, (b"transfer-encoding", b"chunked")), piece(b"")],
        [start(200, (b"connection", b"upgrade")), piece(b"")],
        [start(), start(), piece(b"")],
        [piece(b"")],
    ],
)
async def test_an_invalid_response_is_not_sent(messages: list[Message]) -> None:
    failures: list[RuntimeError] = []

    async def app(_scope: Scope, _receive: Receive, send: Send) -> None:
        try:
            for message in messages:
                await send(message)
        except RuntimeError as error:
            failures.append(error)

    assert await answer_to(app, GET) == b""
    assert len(failures) == 1


async def test_the_head_is_sent_together_with_the_first_piece() -> None:
    begun = asyncio.Event()
    go_on = asyncio.Event()

    async def app(_scope: Scope, _receive: Receive, send: Send) -> None:
        await send(start())
        begun.set()
        await go_on.wait()
        await send(piece(b"", more=True))
        await send(piece(b"end"))

    async with connected_to(app) as (reader, writer):
        writer.write(GET)
        await begun.wait()
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.05):
                await reader.read(1)
        go_on.set()
        head = await reader.readuntil(b"\r\n\r\n")
        assert head == OK + b"transfer-encoding: chunked\r\n\r\n"
        assert await reader.readuntil(b"0\r\n\r\n") == b"3\r\nend\r\n0\r\n\r\n"


async def echo(_scope: Scope, receive: Receive, send: Send) -> None:
    """Answers what was sent."""
    body, more = b"", True
    while more:
        message = await receive()
        assert message["type"] == "http.request"
        body += message["body"]
        more = message["more_body"]
    await send(start(200, (b"content-length", b"%d" % len(body))))
    await send(piece(body))


async def test_pipelined_requests_are_answered_in_order() -> None:
    sent = b"".join(POST % len(body) + body for body in (b"one", b"", b"three"))
    heard = await answer_to(echo, sent + CLOSE)
    assert [part.rpartition(b"\r\n\r\n")[2] for part in heard.split(OK)[1:]] == [
        b"one",
        b"",
        b"three",
        b"",
    ]


async def test_a_long_body_reaches_a_slow_app_whole() -> None:
    long = bytes(range(256)) * (8 * HIGH_WATER // 256)

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        for _ in range(20):
            await asyncio.sleep(0)
        await echo(scope, receive, send)

    async with connected_to(app) as (reader, writer):
        writer.write(POST % len(long) + long)
        await reader.readuntil(b"\r\n\r\n")
        assert await reader.readexactly(len(long)) == long


async def test_a_client_that_expects_100_continue_gets_it() -> None:
    async with connected_to(echo) as (reader, writer):
        head = (POST % 5).replace(b"host", b"expect: 100-continue\r\nhost", 1)
        writer.write(head)
        assert await reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
        writer.write(b"hello")
        assert (await reader.readuntil(b"\r\n\r\n")).startswith(OK)
        assert await reader.readexactly(5) == b"hello"


async def test_a_response_before_the_body_sends_no_100_continue() -> None:
    sent = (POST % 5).replace(b"host", b"connection: close\r\nexpect: 100-continue\r\nhost", 1)
    app = saying(start(413, (b"content-length", b"0")), piece(b""))
    assert (await answer_to(app, sent)).startswith(b"HTTP/1.1 413 ")


async def test_the_app_receives_the_disconnect() -> None:
    heard: list[Message] = []
    over = asyncio.Event()

    async def app(_scope: Scope, receive: Receive, send: Send) -> None:
        heard.append(await receive())
        heard.append(await receive())
        # Nobody is there to get it.
        await send(start())
        await send(piece(b"late"))
        over.set()

    async with connected_to(app) as (_reader, writer):
        writer.write(GET)
        while not heard:
            await asyncio.sleep(0.001)
        writer.close()
        await over.wait()
    assert [message["type"] for message in heard] == ["http.request", "http.disconnect"]


async def test_an_incomplete_response_ends_with_the_connection() -> None:
    app = saying(start(), piece(b"half", more=True))
    heard = await answer_to(app, GET)
    assert heard.endswith(b"4\r\nhalf\r\n")


class Wire(asyncio.Transport):
    """Takes what is written, at once."""

    def __init__(self) -> None:
        super().__init__({})
        self.written = b""
        self.closed = asyncio.Event()

    def write(self, data: Any) -> None:
        self.written += data

    def is_closing(self) -> bool:
        return self.closed.is_set()

    def close(self) -> None:
        self.closed.set()

    def pause_reading(self) -> None:
        pass

    def resume_reading(self) -> None:
        pass

    def can_write_eof(self) -> bool:
        return False

    def get_write_buffer_size(self) -> int:
        return 0


@pytest.mark.parametrize("before", [b"", GET], ids=["alone", "behind another"])
@pytest.mark.parametrize("places", [[], [MAX_HEAD // 2], [10, MAX_HEAD // 2], [MAX_HEAD - 10]])
@pytest.mark.parametrize("long", [False, True])
async def test_a_head_is_counted_as_a_whole_however_it_is_cut(
    before: bytes, places: list[int], long: bool
) -> None:
    header = b"x: " + b"y" * 96 + b"\r\n"
    head = CLOSE[:-2] + header * (MAX_HEAD // 101 + (1 if long else -1)) + b"\r\n"
    cuts = [0, *places, len(head)]
    parts = [head[start:end] for start, end in pairwise(cuts)]
    parts[0] = before + parts[0]

    refused: list[int] = []
    app = saying(start(200, (b"content-length", b"0")), piece(b""))

    def refuse(status: int, _message: str) -> tuple[Headers, bytes]:
        refused.append(status)
        return [], b""

    connection = ServerProtocol(app, Server(), refuse, ConnectionLimit(100))
    wire = Wire()
    connection.connection_made(wire)
    for part in parts:
        connection.data_received(part)
    await wire.closed.wait()
    connection.connection_lost(None)
    assert refused == ([431] if long else [])
    assert wire.written.count(OK) == bool(before) + (not long)


@pytest.mark.parametrize("offer", [b"h2c", b"TLS/1.0", b"HTTP/2.0"])
@pytest.mark.parametrize("size", [1, 7, 10_000])
async def test_an_offer_of_another_protocol_is_ignored(offer: bytes, size: int) -> None:
    seen: list[tuple[bytes, list[bytes]]] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        body = b""
        while (message := await receive()).get("more_body"):
            body += message["body"]
        seen.append((body + message["body"], [name for name, _ in scope["headers"]]))
        await saying(start(200, (b"content-length", b"0")), piece(b""))(scope, receive, send)

    head = b"POST / HTTP/1.1\r\nhost: localhost\r\ncontent-length: 5\r\n"
    offers = b"connection: Upgrade, HTTP2-Settings\r\nupgrade: %b\r\nhttp2-settings: AAMA\r\n"
    sent = head + offers % offer + b"\r\nhello" + CLOSE

    async with connected_to(app) as (reader, writer):
        for begin in range(0, len(sent), size):
            writer.write(sent[begin : begin + size])
            await asyncio.sleep(0)
        assert (await reader.read()).count(b"HTTP/1.1 200 OK") == 2
    assert seen == [(b"hello", [b"host", b"content-length"]), (b"", [b"host", b"connection"])]


async def test_an_http_1_0_client_gets_no_100_continue() -> None:
    app = reading(saying(start(200, (b"content-length", b"0")), piece(b"")))
    sent = b"POST / HTTP/1.0\r\ncontent-length: 1\r\nexpect: 100-continue\r\n\r\nx"
    assert b"100 Continue" not in await answer_to(app, sent)


async def test_white_space_after_a_header_value_is_removed() -> None:
    heads: list[Any] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        heads.append(scope["headers"])
        await reading(saying(start(200, (b"content-length", b"0")), piece(b"")))(
            scope, receive, send
        )

    sent = b"POST / HTTP/1.1\r\nhost: a \t\r\nexpect: 100-continue \r\ncontent-length: 1 \r\n"
    answer = await answer_to(app, sent + b"connection: close \r\n\r\nx")
    assert b"100 Continue" in answer
    assert (b"host", b"a") in heads[0]
    assert (b"content-length", b"1") in heads[0]


def reading(then: App) -> App:
    """An app that reads the body first."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        while (await receive()).get("more_body"):
            pass
        await then(scope, receive, send)

    return app


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        (b"GET / HTTP/2.0\r\nhost: a\r\n\r\n", 505),
        (b"GET / HTTP/0.9\r\nhost: a\r\n\r\n", 505),
        (b"GET / RTSP/1.0\r\n\r\n", 400),
        (b"SOURCE / ICE/1.0\r\n\r\n", 400),
        (POST.replace(b"%d", b"0" * 5000 + b"3") + b"abc", 400),
        (POST.replace(b"content-length: %d", b"transfer-encoding: gzip, chunked"), 400),
        (
            POST.replace(b"content-length: %d", b"transfer-encoding: identity")[:-2]
            + b"transfer-encoding: chunked\r\n\r\n0\r\n\r\n",
            400,
        ),
        (GET[:-2] + b"connection: upgrade\r\nupgrade: websocket\r\n\r\n", 400),
        (b"CONNECT a:1 HTTP/1.1\r\nhost: a\r\n\r\n", 400),
        (GET[:-2] + b"x: y\r\n" * 1001 + b"\r\n", 431),
    ],
)
async def test_ambiguous_requests_are_refused(sent: bytes, status: int) -> None:
    answer = await answer_to(saying(start(), piece(b"")), sent)
    assert answer.startswith(b"HTTP/1.1 %d " % status)
    assert answer.count(b"HTTP/1.1") == 1


@pytest.mark.parametrize("line", [b"GET / RTSP/1.0\r\n", b"SOURCE / ICE/1.0\r\n"])
async def test_another_protocol_is_refused_wherever_its_line_is_cut(line: bytes) -> None:
    for place in range(1, len(line)):
        async with connected_to(saying(start(), piece(b""))) as (reader, writer):
            writer.write(line[:place])
            await writer.drain()
            # The first part is read alone.
            await asyncio.sleep(0.01)
            writer.write(line[place:] + b"host: a\r\n\r\n")
            answer = await reader.read()
        assert answer.startswith(b"HTTP/1.1 400 "), line[:place]


async def test_a_bad_pipelined_request_is_refused_after_the_response_before() -> None:
    app = saying(start(200, (b"content-length", b"2")), piece(b"ok"))
    answer = await answer_to(app, GET + b"\x00\r\n\r\n")
    first, _, second = answer.partition(b"ok")
    assert first == OK + b"content-length: 2\r\n\r\n"
    assert second.startswith(b"HTTP/1.1 400 ")


async def test_a_client_that_is_still_sending_receives_its_refusal() -> None:
    async with connected_to(saying(start(), piece(b""))) as (reader, writer):
        writer.write(b"GET / HTTP/1.1\r\nx: ")
        for _ in range(100):
            writer.write(b"y" * 100_000)
        assert (await reader.read()).startswith(b"HTTP/1.1 431 ")


async def test_a_torn_response_to_http_1_0_resets_the_connection() -> None:
    async def app(_scope: Scope, _receive: Receive, send: Send) -> None:
        await send(start())
        await send(piece(b"half of it", more=True))

    async with connected_to(app) as (reader, writer):
        writer.write(b"GET / HTTP/1.0\r\n\r\n")
        with pytest.raises(ConnectionResetError):
            await reader.read()


async def test_a_client_that_reads_nothing_is_dropped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(protocol, "STALL_SECONDS", 0.2)
    dropped = asyncio.Event()

    async def app(_scope: Scope, _receive: Receive, send: Send) -> None:
        await send(start())
        # More than any buffer holds: a writer that never has to wait would go on for ever.
        for _ in range(2000):
            if _scope[CONNECTION_KEY].is_gone:
                dropped.set()
                return
            await send(piece(b"x" * 100_000, more=True))

    async with connected_to(app) as (_, writer):
        cast(asyncio.Transport, writer.transport).pause_reading()
        writer.write(GET)
        async with asyncio.timeout(30):
            await dropped.wait()


async def test_a_slow_reader_is_not_dropped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(protocol, "STALL_SECONDS", 0.3)
    size = 8 << 20
    app = saying(start(200, (b"content-length", b"%d" % size)), piece(b"x" * size))

    async with connected_to(app) as (reader, writer):
        writer.write(CLOSE)
        count = 0
        while data := await reader.read(400_000):
            count += len(data)
            await asyncio.sleep(0.03)
        assert count > size


async def test_the_longest_idle_connection_is_closed_to_make_room() -> None:
    state = Server()
    limit = ConnectionLimit(3)
    app = saying(start(200, (b"content-length", b"2")), piece(b"ok"))
    server = await asyncio.get_running_loop().create_server(
        lambda: ServerProtocol(app, state, lambda *_: ([], b""), limit), "127.0.0.1", 0
    )
    address = server.sockets[0].getsockname()
    clients = []
    for _ in range(3):
        clients.append(await asyncio.open_connection(*address))
        await until(lambda: len(state.connections) == len(clients))
    # The first one is used, so that the second is idle longest.
    clients[0][1].write(GET)
    await clients[0][0].readuntil(b"ok")
    clients.append(await asyncio.open_connection(*address))
    with suppress(ConnectionResetError):
        assert await clients[1][0].read() == b""
    for index in (0, 2, 3):
        clients[index][1].write(GET)
        assert (await clients[index][0].readuntil(b"ok")).startswith(OK)
    for _, writer in clients:
        writer.close()
    server.close()
    await until(lambda: not state.connections)
    assert not limit.idle


async def test_a_connection_keeps_nothing_of_a_body_that_the_app_has_read() -> None:
    kept: list[bool] = []
    body = b"x" * 5000

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        assert (await receive())["body"]
        connection = scope[CONNECTION_KEY]
        values = [getattr(connection, name) for name in type(connection).__slots__]
        kept.append(any(body[:1000] in each for each in values if isinstance(each, bytes)))
        await send(start())
        await send(piece(b"done"))

    sent = POST.replace(b"\r\n\r\n", b"\r\nconnection: close\r\n\r\n") % len(body) + body
    assert (await answer_to(app, sent)).endswith(b"\r\n4\r\ndone\r\n0\r\n\r\n")
    assert kept == [False]
