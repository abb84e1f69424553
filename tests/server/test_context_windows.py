"""Requests that do not fit a provider's context window, over real sockets."""

import re
from collections.abc import Callable
from typing import Any

import httpx
import pytest

from ccfallback.simulator import scripted
from ccfallback.simulator.scripted import Received, Script, ScriptedUpstream
from tests.conftest import RunningProxy

WELL = scripted.reply("well")
E401 = scripted.error(401, "authentication_error")
E429 = scripted.error(429, "rate_limit_error")
E529 = scripted.error(529, "overloaded_error")
LIMITED = scripted.error(429, "rate_limit_error", headers={"retry-after": "7200"})
EXACT = re.compile(r"prompt is too long: (\d+) tokens > (\d+) maximum")
"""What Claude Code reads before it compacts the conversation."""

Start = Callable[..., "Windows"]


class Windows:
    """A proxy with a primary, a provider `small` and perhaps a provider `large`."""

    def __init__(self, proxy: RunningProxy, *upstreams: ScriptedUpstream) -> None:
        self.proxy = proxy
        self.primary, self.small, *more = upstreams
        self.large = more[0] if more else None

    def ask(self, words: int, headers: dict[str, str] | None = None, **more: Any) -> httpx.Response:
        """Send a prompt of about so many tokens, one for each word."""
        prompt = "word " * words
        body = {
            "model": "claude-sonnet-4-5",
            "max_tokens": 10,
            "messages": [{"role": "user", "content": prompt}],
            **more,
        }
        url = f"{self.proxy.url}/v1/messages"
        return httpx.post(url, json=body, headers=headers, timeout=30)


@pytest.fixture
def windows(
    upstream: Callable[..., ScriptedUpstream], running: Callable[[str], RunningProxy]
) -> Start:
    def start(
        primary: Script, large: Script | None = None, *, of_primary: int = 0, more: str = ""
    ) -> Windows:
        upstreams = [upstream(primary), upstream(WELL)]
        config = f'[primary]\nbase_url = "{upstreams[0].url}"\n'
        if of_primary:
            config += f"context_window = {of_primary}\n"
        config += (
            f'\n[[providers]]\nname = "small"\nbase_url = "{upstreams[1].url}"\n'
            f"context_window = 8192\n{more}\n"
        )
        if large is not None:
            upstreams.append(upstream(large))
            config += (
                f'\n[[providers]]\nname = "large"\nbase_url = "{upstreams[2].url}"\n'
                "context_window = 65536\n"
            )
        return Windows(running(config), *upstreams)

    return start


def test_a_request_that_does_not_fit_is_not_sent(windows: Start) -> None:
    it = windows(E529, WELL)
    response = it.ask(20_000)
    assert response.headers["x-ccfallback-provider"] == "large"
    assert response.headers["x-ccfallback-attempts"] == "2"
    assert it.small.received == []
    it.proxy.wait_for("request.complete")
    (skip,) = it.proxy.events("circuit_breaker.skip")
    assert (skip["data"]["provider"], skip["data"]["reason"]) == ("small", "too-long")


@pytest.mark.parametrize("words", [1, 1000, 4500])
def test_a_request_that_fits_is_sent(windows: Start, words: int) -> None:
    it = windows(E529, WELL)
    assert it.ask(words).headers["x-ccfallback-provider"] == "small"
    assert it.proxy.events("circuit_breaker.skip") == []


@pytest.mark.parametrize("primary", [E401, LIMITED])
def test_without_another_provider_the_client_compacts(windows: Start, primary: Script) -> None:
    it = windows(primary)
    response = it.ask(20_000)
    assert response.status_code == 400
    error = response.json()["error"]
    assert error["type"] == "invalid_request_error"
    found = EXACT.fullmatch(error["message"])
    assert found is not None
    assert int(found[1]) > 1.1 * int(found[2])
    assert int(found[2]) == 8192


def test_the_maximum_is_that_of_the_roomiest_provider(windows: Start) -> None:
    it = windows(LIMITED, WELL)
    found = EXACT.fullmatch(it.ask(100_000).json()["error"]["message"])
    assert found is not None
    assert found[2] == "65536"


@pytest.mark.parametrize("failure", [E529, scripted.error(500, "api_error"), scripted.close])
def test_while_the_primary_may_be_back_soon_the_client_waits(
    windows: Start, failure: Script
) -> None:
    """To compact is final, so a failure that passes is waited out."""
    response = windows(failure).ask(20_000)
    assert response.status_code == 502
    assert response.json()["error"]["type"] == "fallback_exhausted"
    assert 1 <= int(response.headers["retry-after"]) <= 60
    assert "do not fit its 8192" in response.json()["error"]["message"]


def test_while_the_primary_is_throttled_without_a_hint_the_client_waits(windows: Start) -> None:
    """From the first request on, although the primary has no cooldown before the third."""
    it = windows(E429)
    for most in (5, 5, 30, 30):
        response = it.ask(20_000)
        assert response.status_code == 502
        assert 1 <= int(response.headers["retry-after"]) <= most


@pytest.mark.parametrize("failure", [E529, E429])
def test_while_a_larger_provider_may_be_back_soon_the_client_waits(
    windows: Start, failure: Script
) -> None:
    response = windows(E401, failure).ask(20_000)
    assert (response.status_code, response.headers["retry-after"]) == (502, "5")


def test_a_primary_that_is_too_small_is_skipped_too(windows: Start) -> None:
    it = windows(WELL, WELL, of_primary=8192)
    assert it.ask(20_000).headers["x-ccfallback-provider"] == "large"
    assert it.ask(10).headers["x-ccfallback-provider"] == "anthropic-primary"
    assert len(it.primary.received) == 1


def test_an_only_provider_that_is_too_small(windows: Start) -> None:
    it = windows(WELL, of_primary=8192, more="disabled = true")
    response = it.ask(20_000)
    assert response.status_code == 400
    assert EXACT.fullmatch(response.json()["error"]["message"])
    assert it.primary.received == []


def test_the_safety_valve_does_not_take_a_provider_that_is_too_small(windows: Start) -> None:
    it = windows(LIMITED)
    it.small.script(LIMITED)
    it.ask(10)
    sent = len(it.small.received)
    assert it.ask(20_000).status_code == 400
    assert len(it.small.received) == sent


def test_the_keys_of_a_provider_have_one_window(windows: Start) -> None:
    it = windows(LIMITED, more='api_keys = ["not-a-key-1", "not-a-key-2"]')
    it.small.script(LIMITED)
    it.ask(10)
    assert EXACT.fullmatch(it.ask(20_000).json()["error"]["message"])
    it.proxy.wait_for("request.error", 2)
    skips = it.proxy.events("circuit_breaker.skip")
    assert [each["data"]["reason"] for each in skips].count("too-long") == 1


def test_counting_tokens_is_no_matter_of_the_window(windows: Start) -> None:
    it = windows(E529)
    it.small.script(scripted.answer(200, b'{"input_tokens":7}'))
    body = {"model": "m", "messages": [{"role": "user", "content": "word " * 20_000}]}
    counted = httpx.post(f"{it.proxy.url}/v1/messages/count_tokens", json=body, timeout=30)
    assert counted.json() == {"input_tokens": 7}


SEARCH = [{"type": "web_search_20250305", "name": "web_search", "max_uses": 8}]


def test_a_search_goes_on_to_a_provider_with_room_that_can_search(windows: Start) -> None:
    it = windows(E529, WELL)
    response = it.ask(20_000, tools=SEARCH)
    assert response.headers["x-ccfallback-provider"] == "large"


def test_a_search_that_no_provider_can_run_is_refused_once_for_all_keys(windows: Start) -> None:
    it = windows(E529, more='format = "openai"\napi_keys = ["not-a-key-1", "not-a-key-2"]')
    response = it.ask(10, tools=SEARCH)
    assert response.status_code == 200
    (_, result) = response.json()["content"]
    assert result["content"]["error_code"] == "unavailable"
    it.proxy.wait_for("request.error")
    attempts = [each["data"]["provider"] for each in it.proxy.events("provider.attempt")]
    assert attempts == ["anthropic-primary", "small"]
    assert it.small.received == []


def test_a_window_that_a_refusal_has_told_is_remembered(
    upstream: Callable[..., ScriptedUpstream], running: Callable[[str], RunningProxy]
) -> None:
    async def small(request: Received, connection: scripted.Connection) -> None:
        words = "This model's maximum context length is 1000 tokens, your prompt has {} tokens"
        size = len(request.json["messages"][0]["content"]) // 5
        refusal = scripted.error(400, "invalid_request_error", words.format(size))
        await (WELL if size < 1000 else refusal)(request, connection)

    primary, spare, large = upstream(E401), upstream(small), upstream(WELL)
    proxy = running(
        f'[primary]\nbase_url = "{primary.url}"\n'
        f'[[providers]]\nname = "small"\nbase_url = "{spare.url}"\n'
        f'[[providers]]\nname = "large"\nbase_url = "{large.url}"\n'
    )
    chain = Windows(proxy, primary, spare, large)
    first = chain.ask(1500)
    assert first.headers["x-ccfallback-provider"] == "large"
    # The request after it is as long or longer, as a conversation grows.
    for words in (1500, 1600):
        assert chain.ask(words).headers["x-ccfallback-provider"] == "large"
    assert len(spare.received) == 1
    (lesson,) = proxy.state["small"]["learned"]
    assert lesson["rectifier"] == "context_window"
    skips = [each["data"] for each in proxy.events("circuit_breaker.skip")]
    assert [each["reason"] for each in skips if each["provider"] == "small"] == ["too-long"] * 2
    # A request that fits goes there, and so does another model.
    assert chain.ask(500).headers["x-ccfallback-provider"] == "small"
    assert chain.ask(1500, model="claude-haiku-4-5").headers["x-ccfallback-provider"] == "large"
    assert len(spare.received) == 3


def test_a_told_window_lets_the_client_compact_at_once(
    upstream: Callable[..., ScriptedUpstream], running: Callable[[str], RunningProxy]
) -> None:
    words = "This model's maximum context length is 1000 tokens, your prompt has 1500 tokens"
    refusing = upstream(scripted.error(400, "invalid_request_error", words))
    primary = upstream(E401)
    proxy = running(
        f'[primary]\nbase_url = "{primary.url}"\n'
        f'[[providers]]\nname = "small"\nbase_url = "{refusing.url}"\n'
    )
    chain = Windows(proxy, primary, refusing)
    for _ in range(2):
        answer = chain.ask(1500)
        assert answer.status_code == 400
        asked, most = map(int, EXACT.search(answer.text).groups())  # type: ignore[union-attr]
        assert asked > most == 1000
    assert len(refusing.received) == 1
