"""What is fuzzed: each target takes any bytes and raises only where a promise is broken.

The first bytes choose where the rest is cut, so that one input tries one way through the network.
"""

import asyncio
import tempfile
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path

from ccfallback.config.model import Privacy, Provider
from ccfallback.errors import ConfigError
from ccfallback.http1 import (
    ConnectionLimit,
    LocalProtocolError,
    Origin,
    Receive,
    Request,
    Scope,
    Send,
    Server,
    ServerProtocol,
)
from ccfallback.http1.request import RequestEncoder
from ccfallback.http1.response import ResponseParser
from ccfallback.messages.assemble import NotAMessage, to_message
from ccfallback.messages.body import Body, NotAnObject
from ccfallback.messages.sse import EventSplitter, data_of
from ccfallback.server.live_config import config_file
from ccfallback.state.file import StateFile
from ccfallback.wire import FORMATS
from ccfallback.wire.credential import Credential
from ccfallback.wire.filters import BlockStopHolder, EventFilter, ToolRenamer
from ccfallback.wire.format import Unconvertible
from ccfallback.wire.headers import response_headers
from ccfallback.wire.provider_body import adapt_body

Target = Callable[[bytes], None]

ASKED = Body.parse(b'{"model":"m","messages":[],"stream":true}')
USER = "the-raw-user-id"
SECRET = b"sk-the-clients-own"
ORIGIN = Origin("https", "b.test", 443)


def cut(data: bytes) -> list[bytes]:
    """The data behind its first three bytes, in pieces where those say."""
    places = sorted({0, *(place for place in data[:3] if place < len(data) - 3)})
    rest = data[3:]
    return [rest[a:b] for a, b in zip(places, [*places[1:], len(rest)], strict=True)]


def sse(data: bytes) -> None:
    """Events do not depend on how the network cut them, and no byte is lost."""
    pieces, whole = EventSplitter(), EventSplitter()
    events = [event for piece in cut(data) for event in pieces.feed(piece)]
    rest = data[3:]
    assert b"".join(events) + pieces.rest == rest
    assert events == whole.feed(rest)
    for event in events:
        data_of(event)


def translator(name: str) -> Target:
    """A stream of any bytes becomes the same events however it was cut, and raises nothing."""
    provider = Provider(name="b", base_url="https://b.test", format=name)

    def translate(pieces: list[bytes], *filters: EventFilter) -> tuple[bytes, bool, bool]:
        stream = FORMATS[name].stream(ASKED, provider, filters)
        events = b"".join(stream.feed(piece) for piece in pieces) + stream.finish()
        return events, stream.complete, stream.error is None

    def target(data: bytes) -> None:
        events, is_complete, is_good = translate(cut(data))
        held, *state = translate(cut(data), ToolRenamer({}), BlockStopHolder())
        assert state == [is_complete, is_good]
        assert len(held) == len(events) if is_complete else len(held) <= len(events)
        # The events before an error depend on the cuts.
        if is_good:
            assert translate([data[3:]]) == (events, is_complete, is_good)
        if is_complete:
            with suppress(NotAMessage):
                to_message(events)
        FORMATS[name].whole(data, ASKED, provider)
        FORMATS[name].refusal(400, {}, data, 0.0)

    return target


FALLBACKS = [Provider(name="b", base_url="https://b.test", format=name) for name in FORMATS]


def body(data: bytes) -> None:
    """What is read as a body goes to every provider, and to the primary as it came."""
    try:
        parsed = Body.parse(data)
    except NotAnObject:
        return
    assert parsed.raw == data
    assert Body.parse(parsed.respell().raw).names == parsed.names
    for provider in FALLBACKS:
        with suppress(Unconvertible):
            sent = FORMATS[provider.format].request(
                adapt_body(provider, parsed, Privacy()), provider
            )
            Body.parse(sent.raw)


def config(data: bytes) -> None:
    """A configuration is read or refused, and the reason is one line."""
    try:
        config_file(Path("config.toml")).check(data.decode(errors="replace"))
        said = ""
    except ConfigError as error:
        said = str(error)
    assert "\n" not in said
    assert "\x1b" not in said


def headers(data: bytes) -> None:
    """No credential of the client reaches a fallback, and no header makes another one."""
    lines = [line.partition(b":") for line in data.split(b"\n")]
    client = [(name.strip().lower(), value.strip()) for name, _, value in lines if name.strip()]
    client += [(b"authorization", b"Bearer " + SECRET), (b"x-api-key", SECRET)]
    for provider in FALLBACKS:
        sent = FORMATS[provider.format].headers(
            client, provider, Credential("its-own-key"), via="1.1 us"
        )
        if SECRET not in data:
            assert all(SECRET not in value for _, value in sent)
        try:
            head = RequestEncoder(Request(ORIGIN, "POST", b"/", sent)).head
        except LocalProtocolError:
            continue
        assert head.count(b"\r\n") == head.count(b"\n") == head.count(b"\r")
        kept = response_headers(client, provider, decoded=False)
        assert not any(value.strip(b"\t\x20").count(b"\n") for _, value in kept)


def state(data: bytes) -> None:
    """A state file of any bytes is read, or set aside and counts as empty."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "state.json"
        path.write_bytes(data)
        file = StateFile(path)
        read = file.load()
        assert read.set_aside is None or read.states == {}
        # What was read can be written, and read again.
        file.update(lambda known: dict(known))
        assert StateFile(path).load().states == read.states


def response(data: bytes) -> None:
    """A response is the same however it was cut, or an error in both cases."""

    def through(pieces: list[bytes]) -> object:
        parser = ResponseParser()
        said = b"".join(parser.feed(piece) for piece in pieces)
        parser.end()
        if parser.error is not None:
            return "broken"
        assert parser.is_done
        return parser.status, parser.headers, said

    assert through(cut(data)) == through([data[3:]])


class Wire(asyncio.Transport):
    """The server's end of a connection that goes nowhere."""

    def __init__(self) -> None:
        super().__init__()
        self.said = bytearray()
        self.closed = False

    def write(self, data: bytes | bytearray | memoryview) -> None:
        if not self.closed:
            self.said += data

    def close(self) -> None:
        self.closed = True

    def is_closing(self) -> bool:
        return self.closed

    def abort(self) -> None:
        self.closed = True

    def can_write_eof(self) -> bool:
        return True

    def write_eof(self) -> None:
        pass

    def get_write_buffer_size(self) -> int:
        return 0

    def pause_reading(self) -> None:
        pass

    def resume_reading(self) -> None:
        pass


LOOP = asyncio.new_event_loop()
ROUNDS = 8
"""Turns of the loop in which a request is read and answered, and more."""


def request(data: bytes) -> None:
    """However a client's bytes were cut, the same requests come of them until it is refused.

    Behind a request that is broken in its middle, those before it may be given up, too.
    """

    async def through(pieces: list[bytes]) -> list[tuple[str, str, bytes, object, bytes]]:
        seen = []

        async def app(scope: Scope, receive: Receive, send: Send) -> None:
            body, more = b"", True
            while more:
                message = await receive()
                if message["type"] == "http.disconnect":
                    return
                body, more = body + message["body"], message["more_body"]
            seen.append(
                (scope["method"], scope["path"], scope["query_string"], scope["headers"], body)
            )
            await send({"type": "http.response.start", "status": 204, "headers": []})
            await send({"type": "http.response.body", "body": b""})

        wire, state = Wire(), Server()
        client = ServerProtocol(app, state, lambda status, message: ([], b""), ConnectionLimit(100))
        client.connection_made(wire)
        for piece in pieces:
            client.data_received(piece)
            for _ in range(ROUNDS):
                await asyncio.sleep(0)
        while client._waiting and not wire.closed:
            await asyncio.sleep(0)
        client.connection_lost(None)
        await asyncio.gather(*state.tasks)
        assert not wire.said or wire.said.startswith(b"HTTP/1.1 ")
        return seen

    cut_up = LOOP.run_until_complete(through(cut(data)))
    in_one = LOOP.run_until_complete(through([data[3:]]))
    assert cut_up[: len(in_one)] == in_one[: len(cut_up)]
    for method, path, query, headers, _ in cut_up:
        assert method.isascii()
        assert path.startswith(("/", "*"))
        assert query.isascii()
        assert isinstance(headers, list)
        assert not any(set(name + value) & set(b"\r\n\0") for name, value in headers)
        names = [name for name, _ in headers]
        # Two ways to find the end of a body would be two bodies.
        assert names.count(b"content-length") <= (b"transfer-encoding" not in names)


TARGETS: Mapping[str, Target] = {
    "sse": sse,
    **{f"{name}-stream": translator(name) for name in FORMATS},
    "body": body,
    "config": config,
    "headers": headers,
    "state": state,
    "response": response,
    "request": request,
}
