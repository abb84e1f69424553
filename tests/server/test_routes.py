"""Which endpoint answers which path."""

import pytest
from starlette.routing import Route

from ccfallback.http1 import App, Message, Receive, Scope, Send
from ccfallback.server.routes import Routes


class Named:
    """An endpoint that answers with its name."""

    def __init__(self, name: str) -> None:
        self.name = name

    async def __call__(self, _scope: Scope, _receive: Receive, send: Send) -> None:
        await send({"type": self.name})


ROUTES: App = Routes(
    [
        Route("/v1/models", Named("list")),
        Route("/v1/models/{id}", Named("model")),
        Route("/v1/{path:path}", Named("below")),
        Route("/", Named("home")),
    ],
    Named("default"),
)


@pytest.mark.parametrize("method", ["GET", "POST", "OPTIONS", "DELETE"])
@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("/", "home"),
        ("/v1/models", "list"),
        ("/v1/models/a", "model"),
        ("/v1/models/", "below"),
        ("/v1/models/a/b", "below"),
        ("/v1/", "below"),
        ("/v1/x/y", "below"),
        ("/v1", "default"),
        ("/v10", "default"),
        ("//v1/x", "default"),
        ("*", "default"),
        ("", "default"),
        ("/v1/x\na", "default"),
    ],
)
async def test_a_path_has_one_endpoint(path: str, name: str, method: str) -> None:
    sent: list[str] = []

    async def receive() -> Message:
        raise AssertionError("no endpoint reads a body")

    async def send(message: Message) -> None:
        sent.append(message["type"])

    scope = {"type": "http", "path": path, "method": method, "headers": [], "root_path": ""}
    await ROUTES(scope, receive, send)
    assert sent == [name]
