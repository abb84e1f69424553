"""One connection from a client, which takes no request that is slow, endless or broken.

Whoever sends none within bounds gets an error in Anthropic's envelope, as everybody does, and
costs a few kilobytes and a timer until then. An answer that is under way is not disturbed by
what comes behind its request.

The server around it is uvicorn's. Its own connection costs a seventh of a request's CPU more: it
makes an event and a timer for each, looks twice at each header, and writes head and body apart.
"""

import asyncio
from collections import deque
from collections.abc import Callable
from functools import lru_cache
from http import HTTPStatus
from time import monotonic
from typing import Any, Final, cast
from urllib.parse import unquote

import httptools
import uvicorn
from uvicorn.protocols.http.flow_control import FlowControl
from uvicorn.server import ServerState

from ccfallback.http1.deadline import Deadline, Timer
from ccfallback.http1.server_request import App, ClientRequest
from ccfallback.messages import errors as envelope
from ccfallback.server.client import ARRIVED_KEY, CLIENT_KEY
from ccfallback.server.gate import request_id

SILENT_SECONDS: Final = 120.0
"""How long a connection may be open before a request, the first or the next: clients connect ahead
of time, and their pools should seldom find one closed under their feet."""

HEAD_SECONDS: Final = 15.0
"""From the first byte of a request to the end of its head."""

BODY_SECONDS: Final = 60.0
"""How long no byte of a body may come."""

MAX_HEAD: Final = 64 * 1024
"""Bytes of a head; of trailers and of chunk sizes in a row too."""

_SHORT: Final = 256
"""Bytes of a target that may be remembered: a client asks for the same few all the time."""

_ASGI: Final = {"version": "3.0", "spec_version": "2.3"}

MAX_TARGET: Final = 32 * 1024
"""Bytes of a target: few enough that below a provider's address it is still taken for a URL."""

_KIND: Final = {408: "timeout_error", 414: "request_too_large", 431: "request_too_large"}


class _Unwanted(Exception):
    """A request that is not taken: status and message."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.message = message


class ClientConnection(asyncio.Protocol):
    """A connection from a client; `on_refusal` is told what was answered to what is no request.

    The server makes it with the keyword arguments that uvicorn gives its protocols.
    """

    def __init__(
        self,
        config: uvicorn.Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
        *,
        on_refusal: Callable[[int, str, str], None],
    ) -> None:
        self._app: App = cast(App, config.loaded_app)
        self._state = server_state
        self.loop = _loop or asyncio.get_running_loop()
        self._on_refusal = on_refusal
        self._parser: httptools.HttpRequestParser | None = httptools.HttpRequestParser(self)
        # What comes behind a request that is the last one is a matter of the answer, not of its.
        self._parser.set_dangerous_leniencies(lenient_data_after_close=True)
        self._alarm = Timer(self._late)
        self._transport: asyncio.Transport
        self._flow: FlowControl
        self._ends: tuple[Any, Any] = (None, None)
        """The addresses of server and client."""
        self._request: ClientRequest | None = None
        """The one whose body is coming, or the last one."""
        self._running: ClientRequest | None = None
        """The one that is being answered, or was last."""
        self._waiting: deque[ClientRequest] = deque()
        """Those behind a request that is not answered yet."""
        self.watch = Deadline()
        self.gone = False
        self.on_gone: Callable[[], None] | None = None
        self._in_head = True
        self._begun = False
        """Whether any of the head that is expected has come."""
        self._unread = 0
        """Bytes that came since something was over: a head, a piece of a body, a request."""
        self._head_size = 0
        self._counts = False
        """Whether what comes of a head is counted: not where all of it is surely short enough."""
        self._deaf = False
        self._url = b""
        self._headers: list[tuple[bytes, bytes]] = []
        self._expects_continue = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The loop has accepted it."""
        # uvloop's are none by name.
        self._transport = cast(asyncio.Transport, transport)
        self._flow = FlowControl(self._transport)
        self._ends = (
            transport.get_extra_info("sockname"),
            transport.get_extra_info("peername"),
        )
        self._state.connections.add(self)  # type: ignore[arg-type]  # uvicorn's own alone, it says
        self._alarm.set(SILENT_SECONDS)

    def connection_lost(self, exc: Exception | None) -> None:
        """The loop has closed it."""
        self._alarm.close()
        self.watch.close()
        self.gone = True
        self._parser = None
        self._state.connections.discard(self)
        for request in (self._running, self._request, *self._waiting):
            if request is not None:
                request.leave()
        self._flow.resume_writing()
        if self.on_gone is not None:
            self.on_gone()

    def pause_writing(self) -> None:
        """The loop has enough to write."""
        self._flow.pause_writing()

    def resume_writing(self) -> None:
        """The loop has written."""
        self._flow.resume_writing()

    def shutdown(self) -> None:
        """The server stops: close after the answer that is under way."""
        request = self._request
        if request is None or request.complete:
            self._transport.close()
        else:
            request.keep_alive = False

    def data_received(self, data: bytes) -> None:
        """The loop has read."""
        parser = self._parser
        if self._deaf or parser is None or self._transport.is_closing():
            return
        goes_on = self._begun
        if self._in_head and not goes_on:
            self._begun = True
            self._alarm.set(HEAD_SECONDS)
        self._unread += len(data)
        if goes_on and not self._counts:
            # The beginning was too short to be counted by itself.
            pairs = ((self._url, b""), *self._headers)
            self._head_size = sum(len(name) + len(value) + 4 for name, value in pairs)
        # Where no more has come, no head in it can be too long.
        self._counts = goes_on or self._unread > MAX_HEAD
        try:
            parser.feed_data(data)
        except httptools.HttpParserError as error:
            self._refuse_broken(error)
        else:
            if self._unread > MAX_HEAD:
                self._refuse(431, "Request head is too long")

    def on_message_begin(self) -> None:
        """The parser found the start of a request."""
        self._url = b""
        self._headers = []
        self._expects_continue = False
        self._head_size = 0
        if not self._begun:
            # Behind another request, in the same read.
            self._begun = True
            self._alarm.set(HEAD_SECONDS)

    def on_url(self, url: bytes) -> None:
        """The parser found a piece of the target."""
        self._url += url
        if len(self._url) > MAX_TARGET:
            raise _Unwanted(414, f"Request target is over the limit of {MAX_TARGET} bytes")
        if self._counts:
            self._count(len(url))

    def on_header(self, name: bytes, value: bytes) -> None:
        """The parser found a header; a trailer is none: it came past all that looks at headers."""
        if self._counts:
            self._count(len(name) + len(value))
        if self._in_head:
            name = name.lower()
            if name == b"expect" and value.lower() == b"100-continue":
                self._expects_continue = True
            self._headers.append((name, value))

    def on_headers_complete(self) -> None:
        """The parser found the end of a head."""
        parser = self._parser
        assert parser is not None
        if parser.should_upgrade():
            # The parser takes what follows for the other protocol, a body too.
            raise _Unwanted(400, "Only HTTP/1.1 is spoken here: send it without `upgrade`")
        path, raw_path, query = _target(self._url)
        version = parser.get_http_version()
        before = self._request
        request = self._request = ClientRequest(
            {
                "type": "http",
                "asgi": _ASGI,
                "http_version": version,
                "server": self._ends[0],
                "client": self._ends[1],
                "scheme": "http",
                "root_path": "",
                "method": parser.get_method().decode("ascii"),
                "path": path,
                "raw_path": raw_path,
                "query_string": query,
                "headers": self._headers,
                CLIENT_KEY: self,
                ARRIVED_KEY: monotonic(),
            },
            self._transport,
            self._flow,
            keep_alive=version != "1.0" and parser.should_keep_alive(),
            expects_continue=self._expects_continue,
            on_complete=self._answered,
        )
        self._in_head = self._begun = False
        self._unread = self._head_size = 0
        self._alarm.set(BODY_SECONDS)
        if before is None or before.complete:
            self._start(request)
        else:
            self._flow.pause_reading()
            self._waiting.append(request)

    def on_body(self, body: bytes) -> None:
        """The parser found a piece of a body."""
        if self._request is not None:
            self._request.feed(body)
        self._unread = self._head_size = 0
        self._alarm.set(BODY_SECONDS)

    def on_message_complete(self) -> None:
        """The parser found the end of a request: the next one may begin."""
        request = self._request
        if request is not None:
            request.end()
        self._in_head = True
        self._unread = 0
        if request is not None and request.complete:
            # It was answered before it had come as a whole.
            self._alarm.set(SILENT_SECONDS)
        else:
            self._alarm.stop()

    def _start(self, request: ClientRequest) -> None:
        self._running = request
        request.start(self._app, self.loop, self._state.tasks)

    def _answered(self) -> None:
        """An answer is out."""
        self._state.total_requests += 1
        if self._transport.is_closing():
            return
        self._flow.resume_reading()
        if self._waiting:
            self._start(self._waiting.popleft())
        elif not self._alarm.waiting:
            self._alarm.set(SILENT_SECONDS)

    def _count(self, size: int) -> None:
        self._head_size += size + 4
        if self._head_size > MAX_HEAD:
            raise _Unwanted(431, "Request head is too long")

    def _refuse_broken(self, error: httptools.HttpParserError) -> None:
        cause: BaseException | None = error
        while cause is not None and not isinstance(cause, _Unwanted):
            cause = cause.__cause__ or cause.__context__
        if cause is None:
            self._refuse(400, "Request is not readable as HTTP/1.1")
        else:
            self._refuse(cause.status, cause.message)

    def _refuse(self, status: int, message: str) -> None:
        """Answer what is no request, and close; behind a whole request, close after its answer."""
        self._alarm.stop()
        if self._waiting and self._waiting[-1].unread:
            # It is given up, and those before it are answered.
            self._waiting.pop()
            self._request = self._waiting[-1] if self._waiting else self._running
        request = self._request
        answering = request is not None and not request.complete
        self._deaf = True
        if request is not None and answering and not request.unread:
            request.keep_alive = False
            return
        given = request_id()
        self._on_refusal(status, message, given)
        begun = answering and request is not None and request.started
        if not begun:
            body = envelope.encode(_KIND.get(status, "invalid_request_error"), message, given)
            head = (
                f"HTTP/1.1 {status} {HTTPStatus(status).phrase}\r\n"
                f"content-type: application/json\r\ncontent-length: {len(body)}\r\n"
                f"ccr-request-id: {given}\r\nconnection: close\r\n\r\n"
            )
            self._transport.write(head.encode() + body)
        self._transport.close()

    def _late(self) -> None:
        if self._begun:
            self._refuse(408, "Request head did not come in time")
        elif self._in_head:
            self._transport.close()
        elif self._flow.read_paused:
            # It is we who don't read on.
            self._alarm.set(BODY_SECONDS)
        else:
            self._refuse(408, "Request body did not come in time")


def _target(url: bytes) -> tuple[str, bytes, bytes]:
    """Path, path as it came, and query. Raises what the parser reports as an error."""
    return _known_target(url) if len(url) < _SHORT else _parsed_target(url)


def _parsed_target(url: bytes) -> tuple[str, bytes, bytes]:
    parsed = httptools.parse_url(url)
    return unquote(parsed.path.decode("ascii")), parsed.path, parsed.query or b""


_known_target = lru_cache(maxsize=256)(_parsed_target)
