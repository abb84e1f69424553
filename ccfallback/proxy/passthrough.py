"""Everything that is no message goes to the primary and comes back, unread and as it is."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import httpx

from ccfallback.core.config import Provider
from ccfallback.core.headers import end_to_end, find, request_headers
from ccfallback.core.target import address, below
from ccfallback.proxy import respond
from ccfallback.proxy.answer import Late, deadline
from ccfallback.proxy.context import Context, Services, context_of
from ccfallback.proxy.record import upstream_text
from ccfallback.proxy.request import ClientGone, Receive, Scope, Send, while_connected
from ccfallback.proxy.upstream import fault_of
from ccfallback.proxy.upstream import send as send_upstream
from ccfallback.store.secrets import KeyUnavailable


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
            async with open_primary(self._services, context, scope, receive) as response:
                await hand_on(response, self._services.live.current.primary, receive, send)
        except Unavailable as error:
            message = f"The primary API could not be reached: {error}"
            await respond.error(send, context, 502, "proxy_error", message)
        except ClientGone:
            return


@asynccontextmanager
async def open_primary(
    services: Services, context: Context, scope: Scope, receive: Receive
) -> AsyncIterator[httpx.Response]:
    """The primary's response to the request as it came. Raises `Unavailable` or `ClientGone`."""
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
    request = httpx.Request(
        scope["method"],
        url,
        headers=await _headers(services, context, provider),
        content=_chunks(receive) if _has_body(context) else None,
        extensions={"timeout": {"connect": provider.timeouts.connect}},
    )
    try:
        async with deadline("non_streaming", provider.timeouts.non_streaming):
            response = await send_upstream(services.upstreams.transport(url), request)
    except Late as late:
        raise Unavailable(f"no answer within {late.seconds:.0f} s") from None
    except httpx.HTTPError as error:
        raise Unavailable(upstream_text(fault_of(error)[1])) from None
    try:
        yield response
    finally:
        await response.aclose()


async def hand_on(
    response: httpx.Response, provider: Provider, receive: Receive, send: Send
) -> None:
    """Send a response to the client as it comes; cut it where the upstream does."""
    headers = end_to_end(response.headers.raw)
    headers.append((b"x-ccfallback-provider", provider.name.encode()))
    assert isinstance(response.stream, httpx.AsyncByteStream)
    start = {"type": "http.response.start", "status": response.status_code, "headers": headers}
    await send(start)
    try:
        async with while_connected(receive):
            async for chunk in response.stream:
                await send({"type": "http.response.body", "body": chunk, "more_body": True})
    except httpx.HTTPError:
        return
    await send({"type": "http.response.body", "body": b""})


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


async def _chunks(receive: Receive) -> AsyncIterator[bytes]:
    """The client's body as it comes."""
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ClientGone
        if message.get("body"):
            yield message["body"]
        if not message.get("more_body", False):
            return
