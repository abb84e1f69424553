"""The map of the server: which path leads where."""

from collections.abc import Awaitable

from starlette.routing import Route, Router

from ccfallback.server.client import Receive, Scope, Send, send_error
from ccfallback.server.context import Services, get_context
from ccfallback.server.gate import App, Gate
from ccfallback.server.messages import Messages
from ccfallback.server.metrics import MetricsPage
from ccfallback.server.side_endpoints import (
    CountTokens,
    HealthPage,
    Home,
    Models,
    PassThrough,
)


class NotFound:
    """Every path that is none of ours."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Say so."""
        message = f"Nothing is served at {scope['path'][:200]}"
        await send_error(send, get_context(scope).id, 404, "not_found_error", message)


def create_app(services: Services) -> App:
    """The ASGI app, behind its gate. Every endpoint is raw ASGI: a class that is called."""
    models, pass_through, nothing = Models(services), PassThrough(services), NotFound()
    # A bare router: the gate turns errors into answers, and answers into our envelope.
    messages = Messages(services)
    router = Router(
        redirect_slashes=False,
        routes=[
            Route("/v1/messages", messages),
            Route("/v1/messages/count_tokens", CountTokens(services)),
            Route("/v1/models", models),
            Route("/v1/models/{id}", models),
            Route("/v1/{path:path}", pass_through),
            Route("/api/{path:path}", pass_through),
            Route("/metrics", MetricsPage(services)),
            Route("/health", HealthPage(services)),
            Route("/", Home(services)),
            Route("/{path:path}", nothing),
        ],
        # What no route can match: `OPTIONS *`, or a path with an escaped line end.
        default=nothing,
    )
    return Gate(_Shortcut(messages, router), services)


class _Shortcut:
    """The router, but that nearly every request goes past it.

    It takes as long to find the endpoint as its answer takes to be sent.
    """

    def __init__(self, messages: Messages, router: Router) -> None:
        self._messages = messages
        self._router = router
        self.routes = router.routes

    def __call__(self, scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
        app = self._messages if scope["path"] == "/v1/messages" else self._router
        return app(scope, receive, send)
