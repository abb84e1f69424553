"""Upstreams without sockets: a test writes down the responses."""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from ccfallback.server.upstream import Response, UpstreamRequest, Upstreams

Chunk = bytes | Exception | None
"""Bytes, an error of the connection, or silence for ever."""


@dataclass
class ScriptedResponse:
    """A response whose body comes in the given chunks, one for each read."""

    chunks: Sequence[Chunk] = ()
    status: int = 200
    headers: list[tuple[bytes, bytes]] = field(default_factory=list)
    is_ready: bool = False
    reads: int = 0
    closed: bool = False

    async def read(self) -> bytes:
        """Return the next chunk, or nothing after the last one."""
        self.reads += 1
        if self.reads > len(self.chunks):
            return b""
        chunk = self.chunks[self.reads - 1]
        if chunk is None:
            await asyncio.Event().wait()
        if isinstance(chunk, Exception):
            raise chunk
        assert chunk is not None
        return chunk

    def take_whole(self) -> None:
        """Nothing has arrived before it is read."""

    async def aclose(self) -> None:
        """Note that the connection is given back."""
        self.closed = True


class ScriptedUpstreams(Upstreams):
    """Answers each request with the next response, raises the next error, or stays silent."""

    def __init__(self, *responses: ScriptedResponse | Exception | None) -> None:
        super().__init__()
        self._responses = list(responses)
        self.requests: list[UpstreamRequest] = []
        self.on_send: Callable[[], None] = lambda: None
        """Called before each request."""

    async def send(self, request: UpstreamRequest) -> Response:
        """Note the request, and return the next response."""
        self.requests.append(request)
        self.on_send()
        response = self._responses.pop(0)
        if response is None:
            await asyncio.Event().wait()
        if isinstance(response, Exception):
            raise response
        assert response is not None
        return response
