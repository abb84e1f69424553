"""The endpoints beside `/v1/messages`: token counts, models, pass-through, and our own pages.

None of them changes a breaker.
"""

import asyncio
import os
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from time import time
from typing import Any, Final
from urllib.parse import urlsplit

from ccfallback import __version__
from ccfallback.addresses import address
from ccfallback.config.model import Config, Provider
from ccfallback.credentials import KeyUnavailable
from ccfallback.error_codes import ErrorCode
from ccfallback.events import records as events
from ccfallback.events.records import milliseconds
from ccfallback.http1 import DeadlineExceeded, HTTPError, Message, Receive, Scope, Send
from ccfallback.messages.body import decode_json
from ccfallback.messages.errors import is_error
from ccfallback.messages.tokens import Usage
from ccfallback.policy.breaker import Phase, as_next, phase
from ccfallback.policy.error_response import exhausted_response
from ccfallback.policy.failover import Admission, is_answer
from ccfallback.policy.outcome import Outcome
from ccfallback.policy.spend import Limit, binding
from ccfallback.server.bill import estimate_tokens, is_plan
from ccfallback.server.chain import Chains
from ccfallback.server.client import (
    JSON,
    TEXT,
    ClientGone,
    send_error,
    send_json,
    send_whole,
    while_connected,
)
from ccfallback.server.client_credentials import usable_account
from ccfallback.server.context import Context
from ccfallback.server.endpoint import Endpoint
from ccfallback.server.failover_driver import FailoverDriver, describe_missing
from ccfallback.server.health import LONGEST_MODEL, RequestHealth
from ccfallback.server.messages import RefusedRequest, read_request
from ccfallback.server.response import BrokenResponse, UpstreamResponse
from ccfallback.server.services import Services
from ccfallback.server.upstream import InvalidURL, Response, UpstreamRequest, describe_error
from ccfallback.wire import FORMATS
from ccfallback.wire.anthropic import path_url
from ccfallback.wire.format import UNCOMPRESSED
from ccfallback.wire.headers import end_to_end, is_own_header, is_sendable, response_headers

COUNT_SECONDS: Final = 10.0
"""Seconds that a count may take: `/context` waits for 26 of them, and an estimate will do."""


class ReadOnlyHealth(RequestHealth):
    """Breakers that a request may look at, and not change."""

    log_level = events.SIDE_LEVEL

    def admission(self, provider: Provider) -> Admission:
        """Whether the provider may be tried; a running probe does not forbid a count."""
        found = super().admission(provider)
        return Admission.COOLING if found is Admission.COOLING else Admission.OPEN

    def begin(self, provider: Provider) -> None:
        """Take no half-open place."""

    def settle(
        self, provider: Provider, outcome: Outcome | None, usage: Usage | None = None
    ) -> None:
        """Count nothing: a side endpoint neither teaches nor spends."""


class CountTokens(Endpoint):
    """`POST /v1/messages/count_tokens`: a provider's count, or an estimate; never an error."""

    methods = ("POST",)

    def __init__(self, services: Services) -> None:
        super().__init__(services)
        self._chains = Chains()

    async def answer(self, context: Context, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        services = self._services
        try:
            # A count is never a stream, whatever the body says.
            body = (await read_request(context, receive)).without("stream")
            chain = self._chains.get(context)
            health = ReadOnlyHealth(
                services.breakers,
                chain.limits,
                body.model[:LONGEST_MODEL],
                context.id,
                context.hash_credential,
            )
            driver = FailoverDriver(
                services,
                context,
                health,
                body,
                query=scope["query_string"].decode("latin-1"),
                counts_tokens=True,
                max_seconds=COUNT_SECONDS,
            )
            with while_connected(scope):
                await services.breakers.refresh()
                # No safety valve: an estimate is better than a provider that is cooling down.
                counting = [
                    provider
                    for provider in chain.providers
                    if FORMATS[provider.format].counting is not None
                    and health.admission(provider) is Admission.OPEN
                ]
                try:
                    result = await driver.run(counting, is_answer)
                finally:
                    await driver.close()
        except ClientGone:
            return
        except RefusedRequest as refused:
            await refused.send(send, context)
            return
        count = (b"x-ccfallback-attempts", str(driver.sent).encode())
        if result is None:
            estimate = {"input_tokens": await estimate_tokens(body)}
            await send_json(send, estimate, [count, (b"x-ccfallback-estimate", b"1")])
            return
        headers = response_headers(result.headers, result.provider, decoded=result.decoded)
        name = (b"x-ccfallback-provider", result.provider.name.encode())
        await send_whole(send, result.status or 200, [*headers, name, count], result.body)


class PrimaryUnavailable(Exception):
    """The primary gave no response that can be passed on; the message says why."""


class PassThrough(Endpoint):
    """Every other path under `/v1/` and `/api/`: to the primary and back, unread and unchanged."""

    async def answer(self, context: Context, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        limit = None if scope["method"] in ("GET", "HEAD") else await self._reached_cap(context)
        if limit is not None:
            now = self._services.breakers.clock()
            error = exhausted_response(
                (), {}, model="", request_id=context.id, now=now, capped=(limit,)
            )
            await send_whole(send, error.status, [JSON, *error.headers], error.body)
            return
        try:
            await pass_through(self._services, context, scope, receive, send)
        except PrimaryUnavailable as error:
            message = f"The primary API could not be reached: {error}"
            await send_error(send, context.id, 502, "proxy_error", message, ErrorCode.NO_FALLBACK)

    async def _reached_cap(self, context: Context) -> Limit | None:
        """The cap for which the primary's own key is not lent: what this costs is not known."""
        breakers, spending = self._services.breakers, self._services.spending
        primary = context.config.primary
        account = usable_account(primary, breakers.state(primary.name), breakers.clock())
        if (
            not account.has_credential
            or is_plan(account, context)
            or not spending.limits(account, context.token)
        ):
            return None
        await breakers.refresh()
        await spending.refresh()
        return binding(spending.limits(account, context.token))


class Models(PassThrough):
    """`GET /v1/models`: the primary's list, or the mapped models if the primary gives none."""

    async def answer(self, context: Context, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["method"] != "GET":
            await super().answer(context, scope, receive, send)
            return
        wanted = scope["path"].removeprefix("/v1/models").strip("/")
        is_answer = is_model if wanted else is_model_list
        try:
            await pass_through(self._services, context, scope, receive, send, is_answer=is_answer)
        except PrimaryUnavailable:
            await self._send_mapped_models(wanted, context, send)

    async def _send_mapped_models(self, wanted: str, context: Context, send: Send) -> None:
        """Send the model with that id; without an id, all of them."""
        models = mapped_models(context.config)
        if not wanted:
            ids = [model["id"] for model in models]
            page = {
                "data": models,
                "has_more": False,
                "first_id": ids[0] if ids else None,
                "last_id": ids[-1] if ids else None,
            }
            await send_json(send, page)
            return
        found = next((model for model in models if model["id"] == wanted), None)
        if found is None:
            code, message = ErrorCode.UNKNOWN_PATH, f"model: {wanted}"
            await send_error(send, context.id, 404, "not_found_error", message, code)
        else:
            await send_json(send, found)


def is_model_list(body: bytes) -> bool:
    """Whether the body of a success is a list of models, of Anthropic's form or a similar one."""
    value = decode_json(body)
    return isinstance(value, dict) and isinstance(value.get("data"), list) and not is_error(value)


def is_model(body: bytes) -> bool:
    """Whether the body of a success may be a model: any JSON object but an error."""
    value = decode_json(body)
    return isinstance(value, dict) and not is_error(value)


def mapped_models(config: Config) -> list[Mapping[str, Any]]:
    """List the models that the enabled providers' mappings name, except for globs."""
    names = dict.fromkeys(
        name
        for provider in config.active
        for name in provider.model_mapping
        if not set(name) & set("*?[")
    )
    return [
        {"type": "model", "id": name, "display_name": name, "created_at": "1970-01-01T00:00:00Z"}
        for name in names
    ]


async def pass_through(
    services: Services,
    context: Context,
    scope: Scope,
    receive: Receive,
    send: Send,
    *,
    is_answer: Callable[[bytes], bool] | None = None,
) -> None:
    """Send a request to the primary, and its response to the client as it comes.

    With `is_answer`, the response is read whole first, and must be a success with such a body.
    Raises `PrimaryUnavailable` before anything has been sent. If the upstream breaks off after
    that, the client's response is not ended either.
    """
    try:
        with while_connected(scope):
            async with _open_primary(
                services, context, scope, receive, is_read=is_answer is not None
            ) as response:
                if is_answer is not None:
                    await _send_answer(response, context, send, is_answer)
                    return
                await send(_response_start(response, context.config.primary))
                # Send the head at once: a client that waits for events wants to see it.
                await send({"type": "http.response.body", "body": b"", "more_body": True})
                while chunk := await response.read():
                    await send({"type": "http.response.body", "body": chunk, "more_body": True})
        await send({"type": "http.response.body", "body": b""})
    except InvalidURL as error:
        # Nothing has been sent: the request could not even be built.
        message = f"With this target the primary's address is no URL: {error}"
        code = ErrorCode.UNKNOWN_PATH
        await send_error(send, context.id, 400, "invalid_request_error", message, code)
    except (ClientGone, HTTPError):
        return


async def _send_answer(
    response: Response, context: Context, send: Send, is_answer: Callable[[bytes], bool]
) -> None:
    """Read the whole response and send it. Raises `PrimaryUnavailable` unless it is an answer."""
    primary = context.config.primary
    if not 200 <= response.status < 300:
        raise PrimaryUnavailable(f"it answered {response.status}")
    try:
        whole = UpstreamResponse(response, context.watch)
        async with asyncio.timeout(primary.timeouts.non_streaming):
            body = await whole.read_all("idle", primary.timeouts.idle)
    except DeadlineExceeded as late:
        raise PrimaryUnavailable(f"its answer stalled for {late.seconds:.0f} s") from None
    except TimeoutError:
        raise PrimaryUnavailable("its answer does not end") from None
    except BrokenResponse as error:
        raise PrimaryUnavailable(str(error)) from None
    except HTTPError as error:
        raise PrimaryUnavailable(describe_error(error)[1]) from None
    if not is_answer(body):
        raise PrimaryUnavailable("its answer is something else")
    headers = response_headers(whole.headers, primary, decoded=whole.decoded)
    name = (b"x-ccfallback-provider", primary.name.encode())
    await send_whole(send, response.status, [*headers, name], body)


@asynccontextmanager
async def _open_primary(
    services: Services, context: Context, scope: Scope, receive: Receive, *, is_read: bool
) -> AsyncIterator[Response]:
    """Send the request to the primary as it came. Raises `PrimaryUnavailable`.

    The response may have any encoding that the client takes, unless it `is_read` here.
    """
    provider = context.config.primary
    if provider.disabled:
        raise PrimaryUnavailable("it is disabled")
    path = scope.get("raw_path", scope["path"].encode()).decode("latin-1")
    url = path_url(provider.base_url, path)
    if address(url) == services.listener:
        raise PrimaryUnavailable("its address is this proxy itself")
    query = scope["query_string"].decode("latin-1")
    if query:
        url += ("&" if "?" in url else "?") + query
    parts = urlsplit(url)
    breakers = services.breakers
    account = usable_account(provider, breakers.state(provider.name), breakers.clock())
    request = UpstreamRequest(
        url,
        await _pass_through_headers(services, context, account, is_read=is_read),
        _body_chunks(receive) if _has_body(context) else b"",
        provider.timeouts.connect,
        method=scope["method"],
        # As it came: the normal form of a URL has no dots in its path.
        target=f"{parts.path or '/'}{'?' if parts.query else ''}{parts.query}".encode(),
    )
    try:
        response = await context.watch.wait(
            services.upstreams.send(request), "non_streaming", provider.timeouts.non_streaming
        )
    except DeadlineExceeded as late:
        raise PrimaryUnavailable(f"no answer within {late.seconds:.0f} s") from None
    except InvalidURL:
        raise
    except HTTPError as error:
        raise PrimaryUnavailable(describe_error(error)[1]) from None
    if not 100 <= response.status < 600:
        await response.aclose()
        raise PrimaryUnavailable(f"it answered with the invalid status {response.status}")
    services.quotas.note(account, response.headers, context)
    try:
        yield response
    finally:
        await response.aclose()


def _response_start(response: Response, provider: Provider) -> Message:
    headers = [
        (name, value)
        for name, value in end_to_end(response.headers)
        if is_sendable(value) and not is_own_header(name)
    ]
    headers.append((b"x-ccfallback-provider", provider.name.encode()))
    return {"type": "http.response.start", "status": response.status, "headers": headers}


async def _pass_through_headers(
    services: Services, context: Context, provider: Provider, *, is_read: bool
) -> list[tuple[bytes, bytes]]:
    try:
        credential = await services.keys.get(provider)
    except KeyUnavailable as error:
        raise PrimaryUnavailable(describe_missing(provider, error)) from None
    headers = FORMATS[provider.format].headers(
        context.headers, provider, credential, via=services.via, tokens=context.tokens
    )
    unchanged = (b"content-encoding",) if is_read else (b"accept-encoding", b"content-encoding")
    headers += [(name, value) for name, value in context.headers if name in unchanged]
    if is_read:
        headers.append(UNCOMPRESSED)
    if context.body_length is not None:
        headers.append((b"content-length", context.body_length))
    return headers


def _has_body(context: Context) -> bool:
    return context.body_length not in (None, b"0") or b"transfer-encoding" in context.first


async def _body_chunks(receive: Receive) -> AsyncIterator[bytes]:
    """Yield the client's body as it comes. Raises `ClientGone`."""
    more = True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ClientGone
        more = message.get("more_body", False)
        if message.get("body"):
            yield message["body"]


class Home(Endpoint):
    """`/`: the program's name and version, for a person."""

    methods = ("GET", "HEAD")

    async def answer(self, context: Context, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        count = len(context.config.active)
        text = f"ccfallback {__version__}: {count} provider{'' if count == 1 else 's'}\n"
        await send_whole(send, 200, [TEXT], text.encode())


class HealthPage(Endpoint):
    """`/health`: whether the server is up and which providers are available; no secret, no URL."""

    methods = ("GET", "HEAD")

    async def answer(self, context: Context, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        services = self._services
        await services.breakers.refresh()
        now = services.breakers.clock()
        providers = []
        for provider in context.config.chain:
            state = as_next(services.breakers.state(provider.name), provider, os.environ, now)
            available = not provider.disabled and phase(state, now) is not Phase.OPEN
            entry: dict[str, object] = {
                "name": provider.name,
                "available": available,
                "disabled": provider.disabled,
                "cooldownUntil": milliseconds(state.cooldown_until),
            }
            if provider.primary and (reports := services.quotas.reports(context.config)):
                # Of the login that was used last; without its hash, which is for its owner.
                entry["quota"] = {
                    "readAt": reports[0].read_at,
                    "action": reports[0].action,
                    "windows": reports[0].windows,
                }
            providers.append(entry)
        page = {
            "status": "ok",
            "version": __version__,
            "pid": os.getpid(),
            "uptime": round(time() - services.started, 3),
            "providers": providers,
        }
        await send_json(send, page)


class ReadyPage(Endpoint):
    """`/ready`: whether a load balancer should send requests here.

    Cooldowns do not matter: other servers would fail in the same way.
    """

    methods = ("GET", "HEAD")

    async def answer(self, context: Context, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        services = self._services
        reasons = (
            (services.is_draining(), "draining", "The server stops when its answers have ended"),
            (
                services.live.is_broken,
                "broken-config",
                "The configuration can't be used and the last good one stays; "
                "`ccfallback config validate` says why",
            ),
            (not context.config.active, "no-provider", "No provider is enabled"),
        )
        page: dict[str, object] = {"ready": True, "status": "ready"}
        for is_given, status, message in reasons:
            if is_given:
                page = {"ready": False, "status": status, "message": message}
                break
        await send_json(send, page, status=200 if page["ready"] else 503)


class NotFound(Endpoint):
    """Every other path."""

    async def answer(self, context: Context, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer 404."""
        message = f"Nothing is served at {scope['path'][:200]}"
        code = ErrorCode.UNKNOWN_PATH
        await send_error(send, context.id, 404, "not_found_error", message, code)
