"""Which endpoint answers which path."""

import pytest

from ccfallback.http1 import App
from ccfallback.server.routes import Routes


def endpoint(name: str) -> App:
    def app(_scope: object, _receive: object, _send: object) -> str:
        return name

    return app  # type: ignore[return-value]  # a name instead of an answer


ROUTES = Routes(
    {"/": endpoint("home"), "/v1/models": endpoint("list")},
    {"/v1/models": endpoint("model")},
    {"/v1": endpoint("below")},
    endpoint("default"),
)


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
        ("/v1/models/a\n", "default"),
    ],
)
def test_a_path_has_one_endpoint(path: str, name: str) -> None:
    found: object = ROUTES({"path": path}, None, None)  # type: ignore[arg-type]  # not called
    assert found == name
