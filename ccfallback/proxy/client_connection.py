"""One connection from a client: uvicorn's, which takes no request that is slow, endless or broken.

Whoever sends none within bounds gets an error in Anthropic's envelope, as everybody does, and
costs a few kilobytes and a timer until then. An answer that is under way is not disturbed by
what comes behind its request.
"""

import asyncio
from collections.abc import Callable
from http import HTTPStatus
from typing import Any, Final

import httptools
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from ccfallback.core import envelope
from ccfallback.proxy.alarm import Alarm
from ccfallback.proxy.gate import request_id
from ccfallback.proxy.request import CLIENT_KEY

SILENT_SECONDS: Final = 120.0
"""How long a connection may be open before its first byte: clients connect ahead of time."""

HEAD_SECONDS: Final = 15.0
"""From the first byte of a request to the end of its head."""

BODY_SECONDS: Final = 60.0
"""How long no byte of a body may come."""

MAX_HEAD: Final = 64 * 1024
"""Bytes of a head; of trailers and of chunk sizes in a row too."""

_KIND: Final = {408: "timeout_error", 431: "request_too_large"}


class _Unwanted(Exception):
    """A request that is not taken: status and message."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.message = message


class ClientConnection(HttpToolsProtocol):
    """A connection from a client; `on_refusal` is told what was answered to what is no request."""

    def __init__(
        self, *args: Any, on_refusal: Callable[[int, str, str], None], **kwargs: Any
    ) -> None:
        super().__init__(*args, **kwargs)
        self._on_refusal = on_refusal
        self._alarm = Alarm(self._late)
        self.gone = False
        self.on_gone: Callable[[], None] | None = None
        self._in_head = True
        self._begun = False
        """Whether any of the head that is expected has come."""
        self._unread = 0
        """Bytes that came since something was over: a head, a piece of a body, a request."""
        self._head_size = 0
        self._deaf = False

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """The loop has accepted it."""
        super().connection_made(transport)
        self._alarm.set(SILENT_SECONDS)

    def connection_lost(self, exc: Exception | None) -> None:
        """The loop has closed it."""
        self._alarm.close()
        self.gone = True
        super().connection_lost(exc)
        if self.on_gone is not None:
            self.on_gone()

    def data_received(self, data: bytes) -> None:
        """The loop has read."""
        if self._deaf or self.transport.is_closing():
            return
        if self._in_head and not self._begun:
            self._begun = True
            self._alarm.set(HEAD_SECONDS)
        self._unread += len(data)
        self._unset_keepalive_if_required()
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserError as error:
            self._refuse_broken(error)
        else:
            if self._unread > MAX_HEAD:
                self._refuse(431, "Request head is too long")

    def on_message_begin(self) -> None:
        """The parser found the start of a request."""
        super().on_message_begin()
        self._head_size = 0
        if not self._begun:
            # Behind another request, in the same read.
            self._begun = True
            self._alarm.set(HEAD_SECONDS)

    def on_url(self, url: bytes) -> None:
        """The parser found a piece of the target."""
        self._count(len(url))
        super().on_url(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        """The parser found a header; a trailer is none: it came past all that looks at headers."""
        self._count(len(name) + len(value))
        if self._in_head:
            super().on_header(name, value)

    def on_headers_complete(self) -> None:
        """The parser found the end of a head."""
        if self.parser.should_upgrade():
            # The parser takes what follows for the other protocol, a body too.
            raise _Unwanted(400, "Only HTTP/1.1 is spoken here: send it without `upgrade`")
        super().on_headers_complete()
        self.scope[CLIENT_KEY] = self  # type: ignore[typeddict-unknown-key]  # beside ASGI's own
        self._in_head = self._begun = False
        self._unread = self._head_size = 0
        self._alarm.set(BODY_SECONDS)

    def on_body(self, body: bytes) -> None:
        """The parser found a piece of a body."""
        super().on_body(body)
        self._unread = self._head_size = 0
        self._alarm.set(BODY_SECONDS)

    def on_message_complete(self) -> None:
        """The parser found the end of a request: the next one may begin."""
        super().on_message_complete()
        self._in_head = True
        self._unread = 0
        self._alarm.stop()

    def on_response_complete(self) -> None:
        """The answer is out."""
        super().on_response_complete()
        if self._alarm.waiting:
            # The rest of a body or the next head is on its way, and has a timer of its own.
            self._unset_keepalive_if_required()

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
        cycle = self.cycle
        answering = cycle is not None and not cycle.response_complete
        if answering and not cycle.more_body:
            self._end_with_answer()
            return
        given = request_id(())
        self._on_refusal(status, message, given)
        if not self.pipeline and not (answering and cycle.response_started):
            body = envelope.encode(_KIND.get(status, "invalid_request_error"), message, given)
            head = (
                f"HTTP/1.1 {status} {HTTPStatus(status).phrase}\r\n"
                f"content-type: application/json\r\ncontent-length: {len(body)}\r\n"
                f"ccr-request-id: {given}\r\nconnection: close\r\n\r\n"
            )
            self.transport.write(head.encode() + body)
        self._deaf = True
        self.transport.close()

    def _end_with_answer(self) -> None:
        self._deaf = True
        if self.cycle is not None:
            self.cycle.keep_alive = False

    def _late(self) -> None:
        if self._begun:
            self._refuse(408, "Request head did not come in time")
        elif self._in_head:
            self.transport.close()
        elif self.flow.read_paused:
            # It is we who don't read on.
            self._alarm.set(BODY_SECONDS)
        else:
            self._refuse(408, "Request body did not come in time")
