"""`POST /v1/messages` over real sockets."""

from collections.abc import Callable

import httpx
import pytest

from ccfallback.proxy import scripted
from tests.conftest import Chain

ASK = {"model": "claude-x", "max_tokens": 10, "messages": [{"role": "user", "content": "hi"}]}


def ask(chain: Chain, *, stream: bool = False, **headers: str) -> httpx.Response:
    """Send one request with the user's credentials."""
    return httpx.post(
        f"{chain.url}/v1/messages?beta=true",
        json={**ASK, "stream": stream},
        headers={"x-api-key": "users-own-key", **headers},
        timeout=30,
    )


@pytest.mark.parametrize("stream", [False, True])
def test_the_primary_answers(chain: Callable[..., Chain], stream: bool) -> None:
    running = chain(scripted.reply("hello"), scripted.reply("no"))
    response = ask(running, stream=stream)
    assert response.status_code == 200
    assert "hello" in response.text
    assert response.headers["x-ccfallback-provider"] == "anthropic-primary"
    assert response.headers["x-ccfallback-attempts"] == "1"
    assert response.headers["ccr-request-id"].startswith("ccr-")
    assert running.fallback.received == []


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("status", [401, 403, 429, 500, 503, 529])
def test_a_failing_primary_is_passed_over(
    chain: Callable[..., Chain], status: int, stream: bool
) -> None:
    running = chain(scripted.error(status, "some_error"), scripted.reply("from the fallback"))
    response = ask(running, stream=stream)
    assert response.status_code == 200
    assert "from the fallback" in response.text
    assert response.headers["x-ccfallback-provider"] == "fallback1"
    assert response.headers["x-ccfallback-attempts"] == "2"
