"""The upstream of the benchmark: says what the request's model asks for, as fast as it can.

`python -m tests.benchmarks.upstream PORT [CERTIFICATE KEY]` listens on loopback until it is killed.
The body begins with `{"model":"…"`; the model is one of `SCENES`, and the path chooses the format.
"""

import asyncio
import ssl
import sys
from collections.abc import Callable
from time import monotonic_ns
from typing import Final

from tests.benchmarks.loop import run

BURST: Final = 400
"""Events in a burst."""

PACED: Final = 200
PACE: Final = 0.01
"""Events of a paced stream, and seconds between two of them."""

TEXT: Final = "so many words in a delta"
WHOLE_TEXT: Final = "word " * 380

JSON_HEAD: Final = b"HTTP/1.1 %d %b\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n"
STREAM_HEAD: Final = (
    b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
)
LAST_CHUNK: Final = b"0\r\n\r\n"

ANTHROPIC_WHOLE: Final = (
    '{"id":"msg_1","type":"message","role":"assistant","model":"m","content":[{"type":"text",'
    f'"text":"{WHOLE_TEXT}"}}],"stop_reason":"end_turn","stop_sequence":null,'
    '"usage":{"input_tokens":500,"output_tokens":380}}'
).encode()
OPENAI_WHOLE: Final = (
    '{"id":"chatcmpl-1","object":"chat.completion","created":1,"model":"m","choices":[{"index":0,'
    f'"message":{{"role":"assistant","content":"{WHOLE_TEXT}"}},"finish_reason":"stop"}}],'
    '"usage":{"prompt_tokens":500,"completion_tokens":380,"total_tokens":880}}'
).encode()
OVERLOADED: Final = (
    b'{"type":"error","error":{"type":"rate_limit_error","message":"Too many requests"}}'
)


def event(name: str, data: str) -> bytes:
    """One event of Anthropic's format."""
    return f"event: {name}\ndata: {data}\n\n".encode()


MESSAGE_START: Final = event(
    "message_start",
    '{"type":"message_start","message":{"id":"msg_1","type":"message","role":"assistant","model":"m",'
    '"content":[],"stop_reason":null,"stop_sequence":null,"usage":{"input_tokens":500,'
    '"output_tokens":1}}}',
)
ANTHROPIC_BEFORE: Final = MESSAGE_START + event(
    "content_block_start",
    '{"type":"content_block_start","index":0,"content_block":{"type":"text","text":""}}',
)
ANTHROPIC_AFTER: Final = (
    event("content_block_stop", '{"type":"content_block_stop","index":0}')
    + event(
        "message_delta",
        '{"type":"message_delta","delta":{"stop_reason":"end_turn","stop_sequence":null},'
        '"usage":{"output_tokens":400}}',
    )
    + event("message_stop", '{"type":"message_stop"}')
)
OPENAI_AFTER: Final = (
    b'data: {"id":"c","object":"chat.completion.chunk","choices":[{"index":0,"delta":{},'
    b'"finish_reason":"stop"}]}\n\n'
    b'data: {"id":"c","object":"chat.completion.chunk","choices":[],"usage":{"prompt_tokens":500,'
    b'"completion_tokens":400,"total_tokens":900}}\n\ndata: [DONE]\n\n'
)


def anthropic_delta(text: str) -> bytes:
    """A piece of text in Anthropic's format."""
    return event(
        "content_block_delta",
        '{"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":"'
        + text
        + '"}}',
    )


def openai_delta(text: str) -> bytes:
    """A piece of text in OpenAI's."""
    data = (
        '{"id":"c","object":"chat.completion.chunk","created":1,"model":"m","choices":[{"index":0,'
        '"delta":{"content":"' + text + '"},"finish_reason":null}]}'
    )
    return f"data: {data}\n\n".encode()


def chunk(data: bytes) -> bytes:
    """A chunk of a chunked body."""
    return b"%x\r\n%b\r\n" % (len(data), data)


class Served(asyncio.Protocol):
    """A client's connection."""

    def __init__(self) -> None:
        self.transport: asyncio.Transport | None = None
        self.buffer = bytearray()
        self.needed = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The client is there."""
        self.transport = transport  # type: ignore[assignment]  # uvloop's do not inherit from it

    def data_received(self, data: bytes) -> None:
        """Collect a request, then answer it."""
        buffer = self.buffer
        buffer += data
        if not self.needed:
            end = buffer.find(b"\r\n\r\n")
            if end < 0:
                return
            head = bytes(buffer[:end]).lower()
            at = head.find(b"\r\ncontent-length:")
            length = int(head[at + 17 :].split(b"\r\n", 1)[0]) if at >= 0 else 0
            self.needed = end + 4 + length
        if len(buffer) < self.needed:
            return
        openai = b"/chat/completions" in buffer[:200]
        body = buffer.find(b"\r\n\r\n") + 4
        model = bytes(buffer[body : body + 60]).split(b'"model":"', 1)[1].split(b'"', 1)[0]
        self.buffer = bytearray()
        self.needed = 0
        assert self.transport is not None
        SCENES[model.decode()](self.transport, openai)


def whole(transport: asyncio.Transport, openai: bool) -> None:
    """A whole answer of 2 kB."""
    body = OPENAI_WHOLE if openai else ANTHROPIC_WHOLE
    transport.write(JSON_HEAD % (200, b"OK", len(body)) + body)


def refuse(transport: asyncio.Transport, _openai: bool) -> None:
    """A 429."""
    transport.write(JSON_HEAD % (429, b"No", len(OVERLOADED)) + OVERLOADED)


def burst(transport: asyncio.Transport, openai: bool) -> None:
    """A stream as fast as it goes, ten events a write."""
    delta = (openai_delta if openai else anthropic_delta)(TEXT)
    transport.write(STREAM_HEAD + (b"" if openai else chunk(ANTHROPIC_BEFORE)))
    for _ in range(BURST // 10):
        transport.write(chunk(delta) * 10)
    transport.write(chunk(OPENAI_AFTER if openai else ANTHROPIC_AFTER) + LAST_CHUNK)


def paced(transport: asyncio.Transport, openai: bool) -> None:
    """A stream of events that say when they were sent, by the clock that all processes share."""
    delta = openai_delta if openai else anthropic_delta
    loop = asyncio.get_running_loop()
    transport.write(STREAM_HEAD + (b"" if openai else chunk(ANTHROPIC_BEFORE)))
    begun = loop.time()

    def tick(number: int) -> None:
        if transport.is_closing():
            return
        if number == PACED:
            transport.write(chunk(OPENAI_AFTER if openai else ANTHROPIC_AFTER) + LAST_CHUNK)
            return
        transport.write(chunk(delta(f"@{monotonic_ns()}@")))
        loop.call_at(begun + (number + 1) * PACE, tick, number + 1)

    loop.call_at(begun + PACE, tick, 0)


def held(transport: asyncio.Transport, openai: bool) -> None:
    """A stream that begins, and then stays silent."""
    before = openai_delta(TEXT) if openai else ANTHROPIC_BEFORE
    transport.write(STREAM_HEAD + chunk(before))


SCENES: Final[dict[str, Callable[[asyncio.Transport, bool], None]]] = {
    "whole": whole,
    "refuse": refuse,
    "burst": burst,
    "paced": paced,
    "held": held,
}


async def main(port: int, *files: str) -> None:
    """Listen."""
    tls = None
    if files:
        tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        tls.load_cert_chain(*files)
    loop = asyncio.get_running_loop()
    server = await loop.create_server(Served, "127.0.0.1", port, ssl=tls, backlog=2048)
    await server.serve_forever()


if __name__ == "__main__":
    run(main(int(sys.argv[1]), *sys.argv[2:]))
