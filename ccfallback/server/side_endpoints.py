"""The endpoints beside the messages: token counts, models, and the proxy's own pages."""

import os
from collections.abc import Mapping
from time import time
from typing import Any, Final

import msgspec

from ccfallback import __version__
from ccfallback.config.model import Config, Provider
from ccfallback.messages import tokens
from ccfallback.messages.errors import UpstreamError
from ccfallback.policy.breaker import Phase, limits_of, phase, sane
from ccfallback.policy.failover import Admission, only_answers
from ccfallback.policy.outcome import Outcome
from ccfallback.server import respond
from ccfallback.server.attempts import Attempts
from ccfallback.server.chain import chain_for
from ccfallback.server.context import Context, Services, context_of
from ccfallback.server.health import RequestHealth
from ccfallback.server.messages import Refused, read_request
from ccfallback.server.passthrough import PassThrough, Unavailable, carry
from ccfallback.server.record import milliseconds
from ccfallback.server.request import ClientGone, Receive, Scope, Send, while_connected
from ccfallback.wire import FORMATS
from ccfallback.wire.format import Whole, WireFormat
from ccfallback.wire.headers import response_headers

COUNT_WAIT: Final = 10.0
"""Seconds that a count may take: `/context` waits for 26 of them, and an estimate is at hand."""

_COUNT: Final = msgspec.json.Decoder(dict[str, Any])


def _count(raw: bytes, _asked: object, _provider: object) -> Whole:
    try:
        value = _COUNT.decode(raw)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        value = {}
    counted = isinstance(value.get("input_tokens"), int)
    return Whole(raw, None if counted else UpstreamError(message="the answer is no count"))


COUNTS: Final = WireFormat(
    name="count",
    request=FORMATS["anthropic"].request,
    stream=FORMATS["anthropic"].stream,
    whole=_count,
    refusal=FORMATS["anthropic"].refusal,
)
"""The Anthropic format, where the answer is a count."""


class ReadOnly:
    """Breakers that a request may look at, and not change."""

    def __init__(self, turn: RequestHealth) -> None:
        self._turn = turn

    def admission(self, provider: Provider) -> Admission:
        """A probe that is under way says nothing against a count."""
        found = self._turn.admission(provider)
        return Admission.OPEN if found is Admission.BUSY else found

    def cooldown_until(self, provider: Provider) -> float:
        """As it is."""
        return self._turn.cooldown_until(provider)

    def begin(self, provider: Provider) -> None:
        """Takes no place."""

    def settle(self, provider: Provider, outcome: Outcome | None) -> None:
        """Counts nothing."""


class CountTokens:
    """`POST /v1/messages/count_tokens`: somebody's count, or an estimate; no upstream's error."""

    def __init__(self, services: Services) -> None:
        self._services = services

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        context, services = context_of(scope), self._services
        if scope["method"] != "POST":
            await respond.wrong_method(send, context, "POST")
            return
        try:
            body = await read_request(context, receive)
            health = ReadOnly(
                RequestHealth(services.breakers, limits_of(context.config), body.model, context.id)
            )
            talk = Attempts(
                services,
                context,
                health,
                path="/v1/messages/count_tokens",
                query=scope["query_string"].decode("latin-1"),
                wire=COUNTS,
                wait=COUNT_WAIT,
                level="debug",
            )
            with while_connected(scope):
                await services.breakers.refresh()
                # Whoever cools down is not asked as a last resort either: an estimate will do.
                chain = [
                    provider
                    for provider in chain_for(context)
                    if provider.format == "anthropic"
                    and health.admission(provider) is Admission.OPEN
                ]
                reply = await talk.run(body, chain, only_answers, 0.0)
        except ClientGone:
            return
        except Refused as refused:
            await respond.error(send, context, refused.status, refused.kind, refused.message)
            return
        attempts = (b"x-ccfallback-attempts", str(talk.attempts).encode())
        if reply is None:
            headers = [attempts, (b"x-ccfallback-estimate", b"1")]
            await respond.document(send, {"input_tokens": tokens.estimate(body)}, headers)
            return
        headers = response_headers(reply.headers, reply.provider, decoded=reply.decoded)
        named = (b"x-ccfallback-provider", reply.provider.name.encode())
        await respond.whole(send, reply.status or 200, [*headers, named, attempts], reply.body)


class Models:
    """`GET /v1/models`: the primary's list; where it has none to give, the mapped names."""

    def __init__(self, services: Services) -> None:
        self._services = services

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        context = context_of(scope)
        if scope["method"] != "GET":
            await PassThrough(self._services)(scope, receive, send)
            return
        try:
            await carry(self._services, context, scope, receive, send, only_success=True)
        except Unavailable:
            # Then the list is made of what is known here.
            await self._own(scope["path"], context, send)

    async def _own(self, path: str, context: Context, send: Send) -> None:
        models = mapped_models(context.config)
        wanted = path.removeprefix("/v1/models").strip("/")
        if not wanted:
            ids = [model["id"] for model in models]
            page = {
                "data": models,
                "has_more": False,
                "first_id": ids[0] if ids else None,
                "last_id": ids[-1] if ids else None,
            }
            await respond.document(send, page)
            return
        found = next((model for model in models if model["id"] == wanted), None)
        if found is None:
            await respond.error(send, context, 404, "not_found_error", f"model: {wanted}")
        else:
            await respond.document(send, found)


def mapped_models(config: Config) -> list[Mapping[str, Any]]:
    """The models that the enabled providers' mappings name, globs aside."""
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


class Home:
    """`/`: who is here."""

    def __init__(self, services: Services) -> None:
        self._services = services

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        context = context_of(scope)
        if scope["method"] not in ("GET", "HEAD"):
            await respond.wrong_method(send, context, "GET, HEAD")
            return
        count = len(context.config.active)
        text = f"ccfallback {__version__}: {count} provider{'' if count == 1 else 's'}\n"
        await respond.whole(send, 200, [respond.TEXT], text.encode())


class HealthPage:
    """`/health`: is it up, and who may be asked; no secret and no URL."""

    def __init__(self, services: Services) -> None:
        self._services = services

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        context, services = context_of(scope), self._services
        if scope["method"] not in ("GET", "HEAD"):
            await respond.wrong_method(send, context, "GET, HEAD")
            return
        await services.breakers.refresh()
        limits, now = limits_of(context.config), services.breakers.clock()
        providers = []
        for provider in context.config.chain:
            state = sane(services.breakers.of(provider.name), now, limits)
            available = not provider.disabled and phase(state, now, limits) is not Phase.OPEN
            until = milliseconds(state.cooldown_until)
            providers.append(
                {
                    "name": provider.name,
                    "available": available,
                    "disabled": provider.disabled,
                    "cooldownUntil": until,
                }
            )
        page = {
            "status": "ok",
            "version": __version__,
            "pid": os.getpid(),
            "uptime": round(time() - services.started, 3),
            "providers": providers,
        }
        await respond.document(send, page)
