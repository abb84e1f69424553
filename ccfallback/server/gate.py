"""Admits requests: request id, `Host`, `Origin` and access token, before anything else happens.

Every response leaves through here too: each gets its request id, and an unexpected exception
becomes an error response instead of a traceback.
"""

import re
from collections.abc import Awaitable, Sequence
from contextlib import suppress
from hmac import compare_digest
from random import getrandbits
from time import time
from typing import Final

import msgspec
from msgspec import UNSET, UnsetType

from ccfallback.addresses import TrustedProxies, is_loopback
from ccfallback.config.model import Config, Token
from ccfallback.error_codes import ErrorCode
from ccfallback.events import records as events
from ccfallback.http1 import ARRIVAL_KEY, CONNECTION_KEY, App, Message, Receive, Scope, Send
from ccfallback.server.client import send_error, send_whole
from ccfallback.server.client_headers import recall
from ccfallback.server.context import SCOPE_KEY, Context
from ccfallback.server.record import cut, describe_crash
from ccfallback.server.services import Services
from ccfallback.short_cache import short_cache
from ccfallback.wire.headers import RawHeaders, bare_credential, find

_GIVEN_ID: Final = re.compile(rb"[A-Za-z0-9._:-]{1,128}")
_HOST: Final = re.compile(r"(?:\[([0-9A-Fa-f:.]+)\]|([^\[\]:@/\s]+))(?::\d{1,5})?")
_HERE: Final = ("127.0.0.1", "::1")
"""The addresses of clients on this machine, which are not logged."""
_GUARDED: Final = ("/v1/", "/api/", "/metrics")

Refusal = tuple[int, str, str, ErrorCode]
"""Status, kind, message and code of an error."""


def request_id(given: bytes | None = None) -> str:
    """Return the id that the client gave if it is well-formed, else a new one."""
    if given is not None and _GIVEN_ID.fullmatch(given):
        return given.decode("ascii")
    return f"ccr-{int(time() * 1000)}_{getrandbits(28):07x}"


class Gate:
    """Passes a request to the app, or refuses it."""

    def __init__(self, app: App, services: Services) -> None:
        self._app = app
        self._services = services
        self._config: Config | None = None
        self._tokens: frozenset[bytes] = frozenset()
        self._proxies: TrustedProxies | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request."""
        if scope["type"] != "http":
            return
        live = self._services.live
        arrived = scope[ARRIVAL_KEY]
        config = await live.refresh(arrived) if live.is_stale(arrived) else live.current
        if config is not self._config:
            self._use(config)
        connection = scope[CONNECTION_KEY]
        headers, length = recall(connection, scope["headers"])
        context = Context(
            request_id(headers.first.get(b"ccr-request-id")),
            config,
            headers,
            self._tokens,
            arrived,
            connection.deadline,
            body_length=length,
        )
        if self._proxies or (scope["client"] or _HERE)[0] not in _HERE:
            context.client = self._find_client(scope, headers)
        scope[SCOPE_KEY] = context
        response = _Response(send, context.id)
        try:
            if headers.admitted_by is config or await self._admit(scope, context, response):
                await self._app(scope, receive, response)
        except Exception as error:
            self._services.recorder.log(events.ServerError(), describe_crash(error), context.id)
            message = f"Internal error: {type(error).__name__}"
            # The server takes no second head: a response that has begun stays as it is.
            with suppress(RuntimeError):
                await send_error(
                    response, context.id, 500, "api_error", message, ErrorCode.INTERNAL
                )

    async def _admit(self, scope: Scope, context: Context, response: "_Response") -> bool:
        """Whether the app answers a request; else it is answered here."""
        response.cors_origin = self._cors_origin(context)
        refusal = self._find_loop(context) or self._check(scope, context)
        if refusal is not None:
            status, kind, message, code = refusal
            self._services.recorder.log(
                events.AuthFailure(path=cut(scope["path"]), status=status, client=context.client),
                f"{message} [{code}]",
                context.id,
            )
            await send_error(response, context.id, status, kind, message, code)
            return False
        if scope["method"] == "OPTIONS" and response.cors_origin:
            await send_whole(response, 204, _preflight(context.headers), b"")
            return False
        if context.headers.hosts and not context.tokens and b"origin" not in context.first:
            # Neither the path nor the method has decided anything.
            context.headers.admitted_by = context.config
        return True

    def _use(self, config: Config) -> None:
        self._config = config
        self._tokens = config.token_bytes
        proxies = config.server.trusted_proxies
        self._proxies = TrustedProxies(proxies) if proxies else None

    def _find_client(self, scope: Scope, headers: RawHeaders) -> str | UnsetType:
        """The address of the client, where there is one to log."""
        peer = scope["client"][0] if scope["client"] else ""
        if self._proxies is not None:
            chain = [value for name, value in headers if name == b"x-forwarded-for"]
            peer = self._proxies.find_client(peer, b",".join(chain).decode("latin-1"))
        return peer or UNSET

    def _find_loop(self, context: Context) -> Refusal | None:
        """Return an error if the request has passed this proxy before (RFC 9110, 7.6.3)."""
        if b"via" not in context.first:
            return None
        own = self._services.instance.encode()
        if any(name == b"via" and own in value for name, value in context.headers):
            message = "Request loop: a provider's address leads back to this proxy"
            return 502, "proxy_error", message, ErrorCode.REQUEST_LOOP
        return None

    def _check(self, scope: Scope, context: Context) -> Refusal | None:
        """Return the error for a request that is not allowed."""
        config, headers = context.config, context.headers
        hosts = context.headers.hosts
        if not _are_allowed_hosts(hosts, config, scope):
            message = "This Host is not served here (server.allowed_hosts)"
            return 403, "permission_error", message, ErrorCode.FOREIGN_HOST
        origin = context.header(b"origin")
        # A page gets no Origin on the images and links that it loads.
        if (
            _is_sent_by_other_page(context.first)
            if origin is None
            else not _is_allowed_origin(origin, hosts, config)
        ):
            message = "Web pages may not call here (server.allowed_origins)"
            return 403, "permission_error", message, ErrorCode.FOREIGN_PAGE
        if scope["method"] == "OPTIONS" and origin in config.server.allowed_origins:
            # The gate itself answers it.
            return None
        guarded = scope["path"].startswith(_GUARDED)
        if guarded and context.tokens:
            context.token = find_token(headers, config.tokens)
            if context.token is None:
                message = "Invalid or missing x-ccf-api-key"
                return 401, "authentication_error", message, ErrorCode.INVALID_TOKEN
        return None

    def _cors_origin(self, context: Context) -> bytes | None:
        """Return the origin of a web page that may read the response."""
        origin = context.header(b"origin")
        if origin is None or origin not in context.config.server.allowed_origins:
            return None
        return origin.encode("latin-1")


class _Response(msgspec.Struct, eq=False):
    """Sends a response, with the headers that every one has."""

    _send: Send
    _request_id: str
    cors_origin: bytes | None = None

    def __call__(self, message: Message) -> Awaitable[None]:
        if "headers" in message:
            message["headers"].append((b"ccr-request-id", self._request_id.encode()))
            if self.cors_origin is not None:
                message["headers"].append((b"access-control-allow-origin", self.cors_origin))
                message["headers"].append((b"vary", b"origin"))
        return self._send(message)


def find_token(headers: RawHeaders, tokens: Sequence[Token]) -> Token | None:
    """The access token that a request shows, if any; takes the same time for any wrong one."""
    found = None
    for name, value in headers:
        if name in (b"x-ccf-api-key", b"authorization", b"x-api-key"):
            shown = bare_credential(value)
            for token in tokens:
                if compare_digest(shown, token.token.reveal().encode("latin-1")):
                    found = found or token
    return found


def _are_allowed_hosts(values: list[str], config: Config, scope: Scope) -> bool:
    """Whether `Host` names this server; a web page whose own name resolves to it does not."""
    if not values:
        return str(scope.get("http_version")) == "1.0"
    if len(values) > 1:
        # Two servers might each take another one (RFC 9112, 3.2).
        return False
    host, is_own = _parse_host(values[0])
    if is_own:
        return True
    own = scope.get("server") or ("", None)
    names = {config.server.host, own[0], *config.server.allowed_hosts}
    return host in {name.strip("[]").lower() for name in names if name}


@short_cache(64)
def _parse_host(value: str) -> tuple[str, bool]:
    """Return the host in a `Host` header and whether it is loopback; `"?"` if it is malformed."""
    match = _HOST.fullmatch(value.strip(" \t"))
    host = (match[1] or match[2]).lower() if match else ""
    # A name may end in the dot of the root zone.
    return (host.removesuffix("."), is_loopback(host)) if host else ("?", False)


def _is_allowed_origin(origin: str, hosts: list[str], config: Config) -> bool:
    same = any(origin.lower() == f"http://{host.lower()}" for host in hosts)
    return same or origin in config.server.allowed_origins


def _is_sent_by_other_page(first: dict[bytes, bytes]) -> bool:
    """Whether a browser says that another site's page sends this, in Fetch Metadata."""
    return first.get(b"sec-fetch-site", b"none").lower() in (b"cross-site", b"same-site")


def _preflight(headers: RawHeaders) -> list[tuple[bytes, bytes]]:
    wanted = find(headers, b"access-control-request-headers") or "*"
    return [
        (b"access-control-allow-methods", b"GET, HEAD, POST, OPTIONS"),
        (b"access-control-allow-headers", wanted.encode("latin-1")),
        (b"access-control-max-age", b"600"),
    ]
