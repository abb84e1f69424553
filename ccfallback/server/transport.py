"""The seam to the network: what carries an attempt to its upstream.

Two fill it: our own transport, which takes a request as it lies here, and the library's, which
wants one of its own objects around it. Whatever goes wrong on the way is an `httpx.HTTPError`.
"""

from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Protocol

import httpx


@dataclass(frozen=True, slots=True)
class UpstreamRequest:
    """A request with its whole body. Its `repr` shows no key and no content."""

    url: str = field(repr=False)
    headers: list[tuple[bytes, bytes]] = field(repr=False)
    """Without host and length."""
    content: bytes = field(repr=False)
    connect: float
    """Seconds for name, TCP and TLS together."""


class Response(Protocol):
    """An upstream's response, while its body is still coming."""

    status: int
    headers: list[tuple[bytes, bytes]]

    @property
    def ready(self) -> bool:
        """Whether the next `read` has its bytes in hand and will not wait."""

    async def read(self) -> bytes:
        """All that has come since the last time; empty at the end."""

    async def aclose(self) -> None:
        """Keep the connection when the response was over, else close it at once."""


class Transport(Protocol):
    """A way to upstreams."""

    async def post(self, post: UpstreamRequest) -> Response:
        """Send a request; the response has its head."""

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """The same for any method, and a body that comes in pieces."""

    async def aclose(self) -> None:
        """Close every connection."""


class LibraryResponse:
    """A response of the library's."""

    ready = False

    def __init__(self, response: httpx.Response) -> None:
        assert isinstance(response.stream, httpx.AsyncByteStream)
        self.status = response.status_code
        self.headers = list(response.headers.raw)
        self._response = response
        self._pieces: AsyncIterator[bytes] = response.stream.__aiter__()

    async def read(self) -> bytes:
        """The next piece; empty at the end."""
        async for piece in self._pieces:
            if piece:
                return piece
        return b""

    async def aclose(self) -> None:
        """As the library does."""
        await self._response.aclose()


async def post(transport: httpx.AsyncBaseTransport, post: UpstreamRequest) -> Response:
    """Send a request on a transport of the library's kind."""
    try:
        request = httpx.Request(
            "POST",
            post.url,
            headers=post.headers,
            content=post.content,
            extensions={"timeout": {"connect": post.connect}},
        )
    except httpx.InvalidURL as error:
        raise httpx.UnsupportedProtocol(f"not a URL: {error}") from None
    return LibraryResponse(await transport.handle_async_request(request))
