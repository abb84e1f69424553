"""Sessions that stay with a fallback whose cache is warm, over real sockets."""

import asyncio
import threading
from collections.abc import Callable
from time import time
from typing import Any

import httpx
import msgspec
import pytest

from ccfallback.simulator import scripted
from ccfallback.simulator.scripted import Connection, Received
from tests.conftest import Chain, RunningProxy

ASK: dict[str, Any] = {
    "model": "claude-x",
    "max_tokens": 5,
    "messages": [{"role": "user", "content": "hello " * 1000}],
}
BUSY = scripted.error(529, "overloaded_error")
PRIMARY, FALLBACK = "anthropic-primary", "fallback1"


def post(running: Chain | RunningProxy, session: str = "one", **more: Any) -> str | None:
    """Send a request of a session; returns the name of the provider that answered."""
    headers = {"x-claude-code-session-id": session} if session else {}
    headers |= {f"x-claude-code-{k.replace('_', '-')}": v for k, v in more.pop("hint", {}).items()}
    headers |= more.pop("headers", {})
    response = httpx.post(f"{running.url}/v1/messages", json={**ASK, **more}, headers=headers)
    assert response.status_code == 200
    provider: str | None = response.headers.get("x-ccfallback-provider")
    return provider


def decisions(running: Chain, event: str) -> list[dict[str, Any]]:
    return [record["data"] for record in running.proxy.events(event)]


@pytest.fixture
def once_down(chain: Callable[..., Chain]) -> Callable[..., Chain]:
    """Starts a chain whose primary fails once, and then works."""

    def start(mode: str = "cache", ttl: float = 300, more: str = "") -> Chain:
        more += f'[failback]\nmode = "{mode}"\ncache_ttl = {ttl}\n'
        return chain(
            [BUSY, scripted.reply("p")], scripted.reply("f"), scripted.reply("2"), more=more
        )

    return start


def test_a_session_stays_with_a_warm_fallback(once_down: Callable[..., Chain]) -> None:
    running = once_down()
    assert [post(running) for _ in range(3)] == [FALLBACK] * 3
    running.proxy.wait_for("request.complete", 3)
    stays = decisions(running, "failback.stay")
    assert [(each["provider"], each["first"]) for each in stays] == [(FALLBACK, PRIMARY)] * 2
    assert all(each["age"] < 300 and each["tokens"] > 0 for each in stays)
    # Another session is a new one, another agent has a conversation of its own, another model a
    # cache of its own.
    assert post(running, "two") == PRIMARY
    assert post(running, hint={"agent_id": "a1"}) == PRIMARY
    assert post(running, model="claude-y") == PRIMARY
    assert post(running, hint={"request_class": "auxiliary"}) == PRIMARY
    assert post(running) == FALLBACK


SEARCH = [{"type": "web_search_20250305", "name": "web_search", "max_uses": 8}]
READ = [{"name": "Read", "description": "Reads.", "input_schema": {"type": "object"}}]
MANY = [{**READ[0], "name": f"Read{number}"} for number in range(100)]


@pytest.mark.parametrize("main", [READ, MANY, [*READ, *SEARCH]], ids=["one", "many", "mixed"])
@pytest.mark.parametrize("tools", [[], SEARCH], ids=["title", "search"])
def test_a_small_request_of_a_session_does_not_move_it(
    once_down: Callable[..., Chain], main: list[Any], tools: list[Any]
) -> None:
    running = once_down()
    long = [{"role": "user", "content": "long " * 1000}]
    assert post(running, tools=main, messages=long) == FALLBACK
    assert post(running, tools=tools) == PRIMARY
    assert post(running, tools=main, messages=long) == FALLBACK


def test_a_session_that_stays_knows_what_going_back_would_cost(
    once_down: Callable[..., Chain],
) -> None:
    running = once_down()
    key = {"x-api-key": "sk-ant-api-dummy"}
    for _ in range(2):
        assert post(running, model="claude-opus-5", headers=key) == FALLBACK
    running.proxy.wait_for("request.complete", 2)
    (stay,) = decisions(running, "failback.stay")
    # A write into the cache costs $6.25 a million tokens.
    assert stay["cost"] == pytest.approx(stay["tokens"] * 6.25e-6)


def test_a_session_goes_back_after_a_pause(once_down: Callable[..., Chain]) -> None:
    running = once_down(ttl=0)
    assert [post(running), post(running)] == [FALLBACK, PRIMARY]
    running.proxy.wait_for("request.complete", 2)
    (back,) = decisions(running, "failback.return")
    assert (back["provider"], back["left"], back["reason"]) == (PRIMARY, FALLBACK, "pause")


def test_a_session_goes_back_after_a_compaction(once_down: Callable[..., Chain]) -> None:
    running = once_down()
    short = [{"role": "user", "content": "hello"}]
    assert [post(running), post(running, messages=short)] == [FALLBACK, PRIMARY]
    other = once_down()
    hint = {"context_compacted": "1"}
    assert [post(other, "two"), post(other, "two", hint=hint)] == [FALLBACK, PRIMARY]
    other.proxy.wait_for("request.complete", 2)
    assert [each["reason"] for each in decisions(other, "failback.return")] == ["compacted"]


def test_a_session_goes_back_to_a_warm_primary_once(chain: Callable[..., Chain]) -> None:
    ok = scripted.reply("p")
    running = chain(
        [ok, BUSY, ok, BUSY, ok], scripted.reply("f"), more='[failback]\nmode="cache"\n'
    )
    names = [post(running) for _ in range(6)]
    assert names == [PRIMARY, FALLBACK, PRIMARY, FALLBACK, FALLBACK, FALLBACK]
    running.proxy.wait_for("request.complete", 6)
    assert [each["reason"] for each in decisions(running, "failback.return")] == ["warm-cache"]


def test_a_fallback_that_cools_down_is_left(once_down: Callable[..., Chain]) -> None:
    running = once_down()
    assert post(running) == FALLBACK
    state = msgspec.json.decode(running.proxy.paths.state.read_bytes())
    now = round(time() * 1000)
    failed = {"consecutiveFailures": 3, "lastFailure": now, "cooldownUntil": now + 25_000}
    state["providers"][FALLBACK] = failed
    running.proxy.paths.state.write_bytes(msgspec.json.encode(state))
    assert post(running) == PRIMARY
    running.proxy.wait_for("request.complete", 2)
    (left,) = decisions(running, "failback.return")
    assert (left["reason"], left["why"]) == ("unavailable", "cooling-down")


def end_cooldown(running: Chain, name: str) -> None:
    """Put an open breaker into the state whose cooldown has just ended."""
    state = msgspec.json.decode(running.proxy.paths.state.read_bytes())
    now = round(time() * 1000)
    failed = {"consecutiveFailures": 3, "lastFailure": now - 31_000, "cooldownUntil": now - 1000}
    state["providers"][name] = failed
    running.proxy.paths.state.write_bytes(msgspec.json.encode(state))


def test_a_session_does_not_probe_a_primary_whose_cooldown_has_ended(
    once_down: Callable[..., Chain],
) -> None:
    running = once_down()
    assert post(running) == FALLBACK
    end_cooldown(running, PRIMARY)
    assert post(running) == FALLBACK
    running.proxy.wait_for("request.complete", 2)
    (stay,) = decisions(running, "failback.stay")
    assert (stay["provider"], stay["first"]) == (FALLBACK, PRIMARY)
    assert post(running, "two") == PRIMARY
    assert post(running) == FALLBACK


def test_a_session_returns_when_the_probe_of_another_one_is_answered(
    chain: Callable[..., Chain],
) -> None:
    well, may_answer = scripted.reply("p"), threading.Event()

    async def probed(request: Received, connection: Connection) -> None:
        await asyncio.to_thread(may_answer.wait, 10)
        await well(request, connection)

    more = '[failback]\nmode = "cache"\n'
    running = chain([well, BUSY, probed, well], scripted.reply("f"), more=more)
    assert [post(running) for _ in range(2)] == [PRIMARY, FALLBACK]
    end_cooldown(running, PRIMARY)
    probe = threading.Thread(target=post, args=(running, "two"))
    probe.start()
    running.proxy.wait_for("provider.attempt", 4)
    assert post(running) == FALLBACK
    assert decisions(running, "failback.return") == []
    may_answer.set()
    probe.join()
    running.proxy.wait_for("circuit_breaker.reset")
    assert post(running) == PRIMARY
    running.proxy.wait_for("request.complete", 5)
    (back,) = decisions(running, "failback.return")
    assert (back["provider"], back["reason"]) == (PRIMARY, "warm-cache")


def test_a_fallback_that_is_disabled_or_gone_is_left(once_down: Callable[..., Chain]) -> None:
    running = once_down()
    assert post(running) == FALLBACK
    path = running.proxy.paths.config
    name = f'name = "{FALLBACK}"'
    path.write_text(path.read_text().replace(name, f"{name}\ndisabled = true"))
    assert post(running) == PRIMARY
    running.proxy.wait_for("request.complete", 2)
    (left,) = decisions(running, "failback.return")
    assert (left["reason"], left["why"]) == ("unavailable", "disabled")


def test_a_fallback_that_the_prompt_does_not_fit_any_more_is_left(
    chain: Callable[..., Chain],
) -> None:
    running = chain(
        [BUSY, scripted.reply("p")], scripted.reply("f"), more='[failback]\nmode = "cache"\n'
    )
    path = running.proxy.paths.config
    name = f'name = "{FALLBACK}"'
    path.write_text(path.read_text().replace(name, f"{name}\ncontext_window = 4000"))
    assert post(running) == FALLBACK
    longer = [{"role": "user", "content": "hello " * 20_000}]
    assert post(running, messages=longer) == PRIMARY
    running.proxy.wait_for("request.complete", 2)
    (left,) = decisions(running, "failback.return")
    assert (left["reason"], left["why"]) == ("unavailable", "too-long")


@pytest.mark.parametrize(
    ("mode", "headers", "after"),
    [
        ("auto", {"authorization": "Bearer sk-ant-oat-dummy"}, PRIMARY),
        ("auto", {"x-api-key": "sk-ant-api-dummy"}, FALLBACK),
        ("auto", {}, FALLBACK),
        ("eager", {"x-api-key": "sk-ant-api-dummy"}, PRIMARY),
        ("cache", {"authorization": "Bearer sk-ant-oat-dummy"}, FALLBACK),
    ],
)
def test_a_plan_login_goes_back_at_once_by_default(
    once_down: Callable[..., Chain], mode: str, headers: dict[str, str], after: str
) -> None:
    running = once_down(mode)
    assert [post(running, headers=headers) for _ in range(2)] == [FALLBACK, after]


def test_a_client_without_sessions_has_them_by_its_first_words(
    once_down: Callable[..., Chain],
) -> None:
    running = once_down()
    assert post(running, "") == FALLBACK
    more = [*ASK["messages"], {"role": "assistant", "content": "f"}]
    assert post(running, "", messages=[*more, {"role": "user", "content": "go on"}]) == FALLBACK
    assert post(running, "", system="be kind") == PRIMARY


def test_a_client_without_sessions_goes_back_at_once_by_default(
    once_down: Callable[..., Chain],
) -> None:
    running = once_down("auto")
    assert [post(running, "") for _ in range(2)] == [FALLBACK, PRIMARY]


def test_a_restart_does_not_move_a_session(
    once_down: Callable[..., Chain], running: Callable[[str], RunningProxy]
) -> None:
    before = once_down()
    assert post(before) == FALLBACK
    config = before.proxy.paths.config.read_text()
    before.proxy.stop()
    (saved,) = msgspec.json.decode(before.proxy.paths.state.read_bytes())["sessions"].values()
    assert saved["provider"] == FALLBACK
    assert "hello" not in str(saved)
    assert post(running(config)) == FALLBACK


def test_a_session_that_was_always_at_the_primary_is_not_in_the_state(
    chain: Callable[..., Chain],
) -> None:
    running = chain(scripted.reply("p"), scripted.reply("f"), more='[failback]\nmode="cache"\n')
    assert [post(running) for _ in range(2)] == [PRIMARY] * 2
    running.proxy.stop()
    assert b"sessions" not in running.proxy.paths.state.read_bytes()
