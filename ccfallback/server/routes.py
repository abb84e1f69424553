"""The server's routes: which endpoint answers which path.

A path is looked up by itself, and then by its beginning. Starlette's router would take 3% of a
request's CPU where patterns are tried, and 2 MiB of memory.
"""

from collections.abc import Awaitable, Mapping
from dataclasses import dataclass

from ccfallback.http1 import App, Receive, Scope, Send
from ccfallback.server.gate import Gate
from ccfallback.server.messages import Messages
from ccfallback.server.metrics import MetricsPage
from ccfallback.server.services import Services
from ccfallback.server.side_endpoints import (
    CountTokens,
    HealthPage,
    Home,
    Models,
    NotFound,
    PassThrough,
)


@dataclass(frozen=True, slots=True)
class Routes:
    """The endpoints by their paths."""

    exact: Mapping[str, App]
    members: Mapping[str, App]
    """For what is directly in a folder."""
    below: Mapping[str, App]
    """For all that is anywhere in a folder."""
    default: App

    def __call__(self, scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
        """Answer one request."""
        return self._find(scope["path"])(scope, receive, send)

    def _find(self, path: str) -> App:
        found = self.exact.get(path)
        if found is None and "\n" not in path:
            folder, _, name = path.rpartition("/")
            found = self.members.get(folder) if name else None
            starts = (app for start, app in self.below.items() if path.startswith(f"{start}/"))
            found = found or next(starts, None)
        return found or self.default


def create_app(services: Services) -> App:
    """The ASGI application. Every endpoint is raw ASGI: an object that is called."""
    models, pass_through = Models(services), PassThrough(services)
    return Gate(
        Routes(
            {
                "/v1/messages": Messages(services),
                "/v1/messages/count_tokens": CountTokens(services),
                "/v1/models": models,
                "/metrics": MetricsPage(services),
                "/health": HealthPage(services),
                "/": Home(services),
            },
            {"/v1/models": models},
            {"/v1": pass_through, "/api": pass_through},
            NotFound(services),
        ),
        services,
    )
