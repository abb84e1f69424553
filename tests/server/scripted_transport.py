"""Upstreams without sockets: a transport whose responses a test writes down."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field

from ccfallback.server.upstream import Response, UpstreamRequest

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

    async def aclose(self) -> None:
        """Note that the connection is given back."""
        self.closed = True


class ScriptedTransport:
    """Answers each request with the next response, raises the next error, or stays silent."""

    def __init__(self, *responses: ScriptedResponse | Exception | None) -> None:
        self._responses = list(responses)
        self.requests: list[UpstreamRequest] = []

    async def send(self, request: UpstreamRequest) -> Response:
        """Note the request, and return the next response."""
        self.requests.append(request)
        response = self._responses.pop(0)
        if response is None:
            await asyncio.Event().wait()
        if isinstance(response, Exception):
            raise response
        assert response is not None
        return response

    async def aclose(self) -> None:
        """Do nothing: there is no connection."""
