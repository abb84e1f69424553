"""Two hundred streams at once: none waits for another, and all that fails is counted."""

import asyncio
from collections.abc import Callable

import httpx
import msgspec

from ccfallback.proxy import scripted
from ccfallback.proxy.scripted import Connection, Received, Script
from tests.conftest import Chain

STREAMS = 200


def meeting(then: Callable[[Received], Script]) -> Script:
    """Answers nobody until all are there."""
    there: list[Received] = []
    all_there = asyncio.Event()

    async def script(request: Received, connection: Connection) -> None:
        there.append(request)
        if len(there) == STREAMS:
            all_there.set()
        await all_there.wait()
        await then(request)(request, connection)

    return script


def echo(request: Received) -> Script:
    """An answer that echoes the question."""
    text = request.json["messages"][0]["content"]
    return scripted.stream(scripted.events_of(msgspec.json.encode(scripted.message(text))))


async def ask(client: httpx.AsyncClient, url: str, number: int) -> tuple[str, str]:
    asked = {
        "model": "m",
        "max_tokens": 1,
        "stream": True,
        "messages": [{"role": "user", "content": f"question {number}"}],
    }
    response = await client.post(f"{url}/v1/messages", json=asked)
    return response.headers["x-ccfallback-provider"], response.text


def test_streams_that_fail_and_go_on_together_are_all_counted_and_none_waits(
    chain: Callable[..., Chain],
) -> None:
    refuse = meeting(lambda _request: scripted.error(500, "api_error"))
    running = chain(refuse, meeting(echo))

    async def story() -> list[tuple[str, str]]:
        limits = httpx.Limits(max_connections=None)
        async with httpx.AsyncClient(limits=limits, timeout=60, trust_env=False) as client:
            return await asyncio.gather(*(ask(client, running.url, n) for n in range(STREAMS)))

    for number, (provider, text) in enumerate(asyncio.run(story())):
        assert provider == "fallback1"
        assert f'"question {number}"' in text
        assert "message_stop" in text
    state = running.proxy.state["anthropic-primary"]
    assert state["consecutiveFailures"] == STREAMS
    # Those that were under way together begin one cooldown, of the first tier.
    assert state["cooldownUntil"] - state["cooldownBegan"] <= 30_000
    assert len(running.proxy.events("request.complete")) == STREAMS
