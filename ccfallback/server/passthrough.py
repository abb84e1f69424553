"""Everything that is no message goes to the primary and comes back, unread and as it is."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from urllib.parse import urlsplit

import httpx

from ccfallback.config.model import Provider
from ccfallback.config.secrets import KeyUnavailable
from ccfallback.http1.deadline import DeadlineExceeded
from ccfallback.server import respond
from ccfallback.server.context import Context, Services, context_of
from ccfallback.server.request import ClientGone, Message, Receive, Scope, Send, while_connected
from ccfallback.server.upstream import fault_of
from ccfallback.wire.headers import end_to_end, find, is_sendable, request_headers
from ccfallback.wire.target import address, below


class Unavailable(Exception):
    """The primary can't be asked; says why."""


class PassThrough:
    """The endpoint of every other path under `/v1/` and `/api/`."""

    def __init__(self, services: Services) -> None:
        self._services = services

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Carry one request and its answer."""
        context = context_of(scope)
        try:
            await carry(self._services, context, scope, receive, send)
        except Unavailable as error:
            message = f"The primary API could not be reached: {error}"
            await respond.error(send, context, 502, "proxy_error", message)


async def carry(
    services: Services,
    context: Context,
    scope: Scope,
    receive: Receive,
    send: Send,
    *,
    only_success: bool = False,
) -> None:
    """Send a request to the primary, and its answer to the client as it comes.

    Raises `Unavailable` before anything has been sent; with `only_success`, also when the answer
    is an error. Where the upstream breaks off the answer is not ended either.
    """
    client = _Client(receive, has_body=_has_body(context))
    try:
        with while_connected(scope):
            async with _open_primary(services, context, scope, client) as response:
                if only_success and not 200 <= response.status_code < 300:
                    raise Unavailable(f"it answered {response.status_code}")
                await send(_head(response, context.config.primary))
                # Who waits for events is to see at once that there will be some.
                await send({"type": "http.response.body", "body": b"", "more_body": True})
                assert isinstance(response.stream, httpx.AsyncByteStream)
                async for chunk in response.stream:
                    await send({"type": "http.response.body", "body": chunk, "more_body": True})
        await send({"type": "http.response.body", "body": b""})
    except httpx.InvalidURL as error:
        # Nothing has been sent: there was no request yet.
        message = f"With this target the primary's address is no URL: {error}"
        await respond.error(send, context, 400, "invalid_request_error", message)
    except (ClientGone, httpx.HTTPError):
        return


@asynccontextmanager
async def _open_primary(
    services: Services, context: Context, scope: Scope, client: "_Client"
) -> AsyncIterator[httpx.Response]:
    """The primary's response to the request as it came. Raises `Unavailable`."""
    provider = context.config.primary
    if provider.disabled:
        raise Unavailable("it is disabled")
    path = scope.get("raw_path", scope["path"].encode()).decode("latin-1")
    url = below(provider.base_url, path)
    if address(url) == services.listener:
        raise Unavailable("its address is this proxy itself")
    query = scope["query_string"].decode("latin-1")
    if query:
        url += ("&" if "?" in url else "?") + query
    parts = urlsplit(url)
    request = httpx.Request(
        scope["method"],
        url,
        headers=await _headers(services, context, provider),
        content=client.chunks() if client.has_body else None,
        extensions={
            "timeout": {"connect": provider.timeouts.connect},
            # As it came: httpx would resolve the dots in a path.
            "target": f"{parts.path or '/'}{'?' if parts.query else ''}{parts.query}".encode(),
        },
    )
    try:
        response = await context.watch.wait(
            services.upstreams.transport(url).handle_async_request(request),
            "non_streaming",
            provider.timeouts.non_streaming,
        )
    except DeadlineExceeded as late:
        raise Unavailable(f"no answer within {late.seconds:.0f} s") from None
    except httpx.HTTPError as error:
        raise Unavailable(fault_of(error)[1]) from None
    if not 100 <= response.status_code < 600:
        await response.aclose()
        raise Unavailable(f"it answered {response.status_code}, which is no status")
    try:
        yield response
    finally:
        await response.aclose()


def _head(response: httpx.Response, provider: Provider) -> Message:
    headers = [pair for pair in end_to_end(response.headers.raw) if is_sendable(pair[1])]
    headers.append((b"x-ccfallback-provider", provider.name.encode()))
    return {"type": "http.response.start", "status": response.status_code, "headers": headers}


async def _headers(
    services: Services, context: Context, provider: Provider
) -> list[tuple[bytes, bytes]]:
    try:
        key = await services.keys.of(provider)
    except KeyUnavailable as error:
        raise Unavailable(f"no key: {error}") from None
    headers = request_headers(
        context.headers,
        provider,
        None if key is None else key.reveal(),
        via=services.via,
        tokens=context.tokens,
        content=False,
    )
    as_they_are = (b"accept-encoding", b"content-encoding", b"content-length")
    headers += [(name, value) for name, value in context.headers if name in as_they_are]
    return headers


def _has_body(context: Context) -> bool:
    length = find(context.headers, b"content-length")
    return length not in (None, "0") or find(context.headers, b"transfer-encoding") is not None


class _Client:
    """The client's side: its body, as it comes."""

    def __init__(self, receive: Receive, *, has_body: bool) -> None:
        self._receive = receive
        self.has_body = has_body

    async def chunks(self) -> AsyncIterator[bytes]:
        """The body as it comes."""
        more = True
        while more:
            message = await self._receive()
            if message["type"] == "http.disconnect":
                raise ClientGone
            more = message.get("more_body", False)
            if message.get("body"):
                yield message["body"]
