"""Two hundred streams at once: none waits for another, and all that fails is counted."""

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import msgspec
import pytest

from ccfallback.proxy import breakers, scripted
from ccfallback.proxy.scripted import Connection, Received, Script
from ccfallback.store.journal import Journal
from ccfallback.store.state_file import StateFile
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


async def torn(request: Received, connection: Connection) -> None:
    """An answer that breaks in its middle."""
    events = scripted.events_of(msgspec.json.encode(scripted.message("never to its end")))

    async def cut(_request: Received, broken: Connection) -> None:
        broken.reset()

    await scripted.stream(events[:3], then=cut)(request, connection)


FAULTS = (
    scripted.error(500, "api_error"),
    scripted.error(529, "overloaded_error"),
    scripted.error(429, "rate_limit_error", headers={"retry-after-ms": "50"}),
    scripted.error(401, "authentication_error"),
    scripted.html(),
    scripted.html(502),
    scripted.reset,
    scripted.close,
    torn,
)


async def insist(client: httpx.AsyncClient, url: str, number: int, tries: list[int]) -> str:
    """The text of an answer, asked for again when it was torn, as the client does."""
    for _ in range(10):
        tries.append(number)
        try:
            _, text = await ask(client, url, number)
        except httpx.HTTPError:
            continue
        return text
    raise AssertionError("a turn was lost")


def test_mixed_faults_while_the_breaker_opens_and_closes_lose_and_miscount_nothing(
    chain: Callable[..., Chain],
) -> None:
    healthy = threading.Event()

    async def primary(request: Received, connection: Connection) -> None:
        number = int(request.json["messages"][0]["content"].rpartition(" ")[2])
        script = echo(request) if healthy.is_set() else FAULTS[number % len(FAULTS)]
        await script(request, connection)

    async def spare(request: Received, connection: Connection) -> None:
        await echo(request)(request, connection)

    running = chain(primary, spare, more="[breaker]\nmax_cooldown = 0.05\nmax_reset = 0.05\n")
    tries: list[int] = []

    async def wave(client: httpx.AsyncClient) -> None:
        asking = (insist(client, running.url, number, tries) for number in range(STREAMS))
        for number, text in enumerate(await asyncio.gather(*asking)):
            assert f'"question {number}"' in text
            assert "message_stop" in text

    async def story() -> None:
        limits = httpx.Limits(max_connections=None)
        async with httpx.AsyncClient(limits=limits, timeout=60, trust_env=False) as client:
            await wave(client)
            assert running.proxy.state["anthropic-primary"]["consecutiveFailures"] > 0
            healthy.set()
            await wave(client)
            # One by one, until a probe has closed the breaker again.
            while True:
                tries.append(0)
                provider, _ = await ask(client, running.url, 0)
                if provider == "anthropic-primary":
                    break

    asyncio.run(story())
    proxy = running.proxy
    proxy.wait_for("request.complete", len(tries) - len(proxy.events("request.error")))
    made = len(running.primary.received) + len(running.fallback.received)
    # A kept connection that is closed before it answers is replaced within one attempt.
    assert len(proxy.events("provider.attempt")) <= made
    assert len(proxy.events("request.complete", "request.error")) == len(tries)
    # Each torn answer was one error, and nothing else was.
    assert len(proxy.events("request.error")) == len(tries) - len(proxy.events("request.complete"))
    assert proxy.events("circuit_breaker.cooldown")
    proxy.stop()
    state = proxy.state["anthropic-primary"]
    assert (state["consecutiveFailures"], state["cooldownUntil"]) == (0, None)
    assert proxy.state["fallback1"]["consecutiveFailures"] == 0


def test_nobody_else_waits_for_a_disk_that_hangs(
    chain: Callable[..., Chain], monkeypatch: pytest.MonkeyPatch
) -> None:
    async def primary(request: Received, connection: Connection) -> None:
        sick = request.json["model"] == "sick"
        script = scripted.error(529, "overloaded_error") if sick else scripted.reply("meanwhile")
        await script(request, connection)

    running = chain(primary, scripted.reply("by the spare"))
    goes_on, hangs = threading.Event(), threading.Event()
    update, write = StateFile.update, Journal.write

    def hanging(call: Callable[..., Any]) -> Callable[..., Any]:
        def hang(*arguments: Any) -> Any:
            hangs.set()
            assert goes_on.wait(30)
            return call(*arguments)

        return hang

    # So long that the request whose failure is being written surely waits for it.
    monkeypatch.setattr(breakers, "PATIENCE", 60.0)
    monkeypatch.setattr(StateFile, "update", hanging(update))
    monkeypatch.setattr(Journal, "write", hanging(write))
    asked = {"model": "m", "max_tokens": 1, "messages": []}
    with ThreadPoolExecutor(1) as pool:
        try:
            sick = {**asked, "model": "sick"}
            failing = pool.submit(httpx.post, f"{running.url}/v1/messages", json=sick, timeout=60)
            running.proxy.wait_for("provider.failure")
            assert hangs.wait(10)
            for _ in range(20):
                assert httpx.get(f"{running.url}/health").status_code == 200
                answer = httpx.post(f"{running.url}/v1/messages", json=asked)
                assert "meanwhile" in answer.text
            assert not failing.done()
        finally:
            goes_on.set()
        assert failing.result().headers["x-ccfallback-provider"] == "fallback1"
