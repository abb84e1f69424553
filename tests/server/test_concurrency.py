"""Many streams at once: none waits for another, and all that fails is counted."""

import asyncio
import gc
import threading
import tracemalloc
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partialmethod
from itertools import cycle
from typing import Any

import httpx
import msgspec
import pytest

from ccfallback.events.journal import Journal
from ccfallback.server import refresher, serve
from ccfallback.server.trust import TrustedRoots
from ccfallback.simulator import scripted
from ccfallback.simulator.scripted import Connection, Received, Script
from ccfallback.state.file import StateFile
from ccfallback.state.ledger import rows_since
from tests.conftest import Chain
from tests.server.test_metrics import scraped

STREAMS = 200
MIXED = 100
"""Streams at once that meet every fault in turn."""
HELD = 1000
TRACED = 20
"""Streams at once while each allocation is traced, which makes everything slow."""
PADDING = 400_000
"""Bytes of a request, large enough to notice if it stays in memory."""


def meeting(then: Callable[[Received], Script]) -> Script:
    """Answers when all requests have arrived."""
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


async def ask(
    client: httpx.AsyncClient, url: str, number: int, padding: str = ""
) -> tuple[str, str]:
    asked = {
        "model": "m",
        "system": padding,
        "max_tokens": 1,
        "stream": True,
        "messages": [{"role": "user", "content": f"question {number}"}],
    }
    response = await client.post(f"{url}/v1/messages", json=asked)
    return response.headers["x-ccfallback-provider"], response.text


@pytest.mark.usefixtures("untraced")
def test_simultaneous_failovers_are_all_counted_and_none_waits(chain: Callable[..., Chain]) -> None:
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


async def insist(
    client: httpx.AsyncClient, url: str, number: int, tries: list[int], padding: str = ""
) -> str:
    """The text of an answer, asked for again when it was torn, as the client does."""
    for _ in range(10):
        tries.append(number)
        try:
            _, text = await ask(client, url, number, padding)
        except httpx.HTTPError:
            continue
        return text
    raise AssertionError("a turn was lost")


class Weather:
    """A primary that fails in every way until it is healthy, and a spare that is always well.

    Whoever asks for number `HELD` waits in the midst of the answer until `let_go`.
    """

    def __init__(self, chain: Callable[..., Chain]) -> None:
        self.healthy, self.holding, self.let_go = (threading.Event() for _ in range(3))
        self.tries: list[int] = []
        self._faults = cycle(FAULTS)
        rules = "[breaker]\nmax_cooldown = 0.05\nmax_reset = 0.05\n"
        self.chain = chain(self._primary, self._spare, more=rules)

    async def _primary(self, request: Received, connection: Connection) -> None:
        # One fault after the other, so that the next attempt meets another one.
        script = echo(request) if self.healthy.is_set() else next(self._faults)
        await script(request, connection)

    async def _spare(self, request: Received, connection: Connection) -> None:
        if not request.json["messages"][0]["content"].endswith(f" {HELD}"):
            await echo(request)(request, connection)
            return
        events = scripted.events_of(msgspec.json.encode(scripted.message(f"question {HELD}")))

        async def rest(_request: Received, connection: Connection) -> None:
            self.holding.set()
            await asyncio.to_thread(self.let_go.wait, 60)
            for event in events[3:]:
                await connection.chunk(event)

        await scripted.stream(events[:3], then=rest)(request, connection)

    async def wave(
        self, client: httpx.AsyncClient, streams: int = MIXED, padding: str = ""
    ) -> None:
        """So many streams at once, each until it is answered."""
        numbers = range(streams)
        asking = (insist(client, self.chain.url, n, self.tries, padding) for n in numbers)
        for number, text in enumerate(await asyncio.gather(*asking)):
            assert f'question {number}"' in text
            assert "message_stop" in text

    async def until_closed(self, client: httpx.AsyncClient) -> None:
        """One by one, until a probe has closed the breaker again."""
        provider = ""
        while provider != "anthropic-primary":
            self.tries.append(0)
            provider, _ = await ask(client, self.chain.url, 0)


def talking() -> httpx.AsyncClient:
    limits = httpx.Limits(max_connections=None)
    return httpx.AsyncClient(limits=limits, timeout=60, trust_env=False)


@pytest.mark.usefixtures("untraced")
def test_mixed_faults_while_the_breaker_opens_and_closes_lose_no_request_and_no_count(
    chain: Callable[..., Chain],
) -> None:
    weather = Weather(chain)
    running, tries = weather.chain, weather.tries

    async def story() -> None:
        async with talking() as client:
            held = asyncio.create_task(insist(client, running.url, HELD, tries))
            assert await asyncio.to_thread(weather.holding.wait, 30)
            await weather.wave(client)
            assert running.proxy.state["anthropic-primary"]["consecutiveFailures"] > 0
            weather.healthy.set()
            await weather.wave(client)
            await weather.until_closed(client)
            # All the others have been answered while this one stood still.
            assert not held.done()
            weather.let_go.set()
            text = await held
            assert f'question {HELD}"' in text
            assert "message_stop" in text

    asyncio.run(story())
    proxy = running.proxy
    proxy.wait_for("request.complete", len(tries) - len(proxy.events("request.error")))
    attempts = proxy.events("provider.attempt")
    failures = proxy.events("provider.failure", "provider.timeout")
    errors, complete = proxy.events("request.error"), proxy.events("request.complete")
    made = len(running.primary.received) + len(running.fallback.received)
    # A kept connection that is closed before it answers is replaced within one attempt.
    assert len(attempts) <= made
    # Each torn answer was one error, and nothing else was.
    assert len(complete) + len(errors) == len(tries)
    assert len(attempts) == len(tries) + len(failures) - len(errors)
    assert proxy.events("circuit_breaker.cooldown")
    assert proxy.events("circuit_breaker.reset")
    page = scraped(running.url)

    def total(name: str) -> int:
        return int(sum(page[f"ccfallback_{name}_total"].values()))

    assert total("requests") == len(tries)
    assert total("attempts") == len(attempts)
    assert total("attempt_failures") == len(failures)
    proxy.stop()
    state = proxy.state["anthropic-primary"]
    assert (state["consecutiveFailures"], state["cooldownUntil"]) == (0, None)
    assert proxy.state["fallback1"]["consecutiveFailures"] == 0


def test_streams_release_their_memory_and_connections(chain: Callable[..., Chain]) -> None:
    weather = Weather(chain)
    padding = "x" * PADDING

    async def storm() -> None:
        weather.healthy.clear()
        async with talking() as client:
            await weather.wave(client, TRACED, padding)
            weather.healthy.set()
            await weather.until_closed(client)

    def storm_leaves() -> int:
        """Bytes in use after it, by the proxy and by all that is around it."""
        asyncio.run(storm())
        proxy = weather.chain.proxy
        ends = len(weather.tries)
        proxy.wait_for("request.complete", ends - len(proxy.events("request.error")))
        for kept in (proxy.records, weather.tries):
            kept.clear()
        for upstream in (weather.chain.primary, weather.chain.fallback):
            upstream.received.clear()
        gc.collect()
        return tracemalloc.get_traced_memory()[0]

    tracemalloc.start()
    try:
        first = storm_leaves()
        second = storm_leaves()
    finally:
        tracemalloc.stop()
    # Much more than comes and goes by chance, and what every third request would leave behind.
    assert second - first < TRACED * PADDING // 3


def test_a_hanging_disk_delays_no_other_request(
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

    services = running.proxy._background.proxy.services
    # So long that the request whose failure is being written surely waits for it.
    monkeypatch.setattr(services.breakers._store, "patience", 60.0)
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
            # The system took their rows into the file that the start has opened.
            assert services.spending._backlog is None
        finally:
            goes_on.set()
        assert failing.result().headers["x-ccfallback-provider"] == "fallback1"


def test_a_server_starts_and_answers_although_its_disk_hangs(
    chain: Callable[..., Chain], monkeypatch: pytest.MonkeyPatch
) -> None:
    goes_on = threading.Event()

    def hang(*_: Any) -> Any:
        assert goes_on.wait(30)
        return []

    monkeypatch.setattr(serve, "PATIENCE", 0.05)
    monkeypatch.setattr(refresher, "PATIENCE", 0.05)
    monkeypatch.setattr(Journal, "write", partialmethod(_after, goes_on, Journal.write))
    monkeypatch.setattr(StateFile, "load", partialmethod(_after, goes_on, StateFile.load))
    monkeypatch.setattr(TrustedRoots, "find_problems", hang)
    try:
        running = chain(scripted.reply("meanwhile"))
        for _ in range(3):
            answer = httpx.post(f"{running.url}/v1/messages", json={"model": "m", "messages": []})
            assert "meanwhile" in answer.text
        assert not list(rows_since(running.proxy.paths.state, 0.0))
    finally:
        goes_on.set()
    running.proxy.wait_for("request.complete", 3)
    running.proxy._background.proxy.services.spending.flush()
    assert len(list(rows_since(running.proxy.paths.state, 0.0))) == 3


def _after(self: Any, goes_on: threading.Event, call: Callable[..., Any], *arguments: Any) -> Any:
    """Make a call of a method when the disk goes on."""
    assert goes_on.wait(30)
    return call(self, *arguments)
