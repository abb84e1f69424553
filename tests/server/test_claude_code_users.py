"""The real Claude Code with what its users have: logins, plan limits, local models, the Esc key.

`claude_code` says how to run these tests.
"""

import asyncio
import threading
from collections.abc import Callable
from pathlib import Path
from time import time
from typing import Any

import msgspec
import pytest

from ccfallback.simulator import scripted
from ccfallback.simulator.scripted import Connection, Received, Script, ScriptedUpstream
from ccfallback.simulator.scripted_openai import OPENAI
from tests.conftest import RunningProxy
from tests.server.claude_code import (
    ESC,
    Terminal,
    key,
    login,
    needs_claude,
    run_claude,
    writes_a_file,
)

pytestmark = needs_claude

PRIMARY = "anthropic-primary"
FIRST_LOGIN = "sk-ant-oat01-dummy-of-the-first-user"
SECOND_LOGIN = "sk-ant-oat01-dummy-of-the-second-user"
EXTRA_USAGE = (
    "Third-party apps now draw from your extra usage, not your plan limits. Add more at"
    " claude.ai/settings/usage and keep going."
)

Start = Callable[[], tuple[RunningProxy, ScriptedUpstream, ScriptedUpstream]]


@pytest.fixture
def both(
    tmp_path: Path,
    upstream: Callable[..., ScriptedUpstream],
    running: Callable[[str], RunningProxy],
) -> Start:
    """A primary without scripts, and a fallback that does the usual task."""

    def start() -> tuple[RunningProxy, ScriptedUpstream, ScriptedUpstream]:
        primary, fallback = upstream(), upstream()
        fallback.route = writes_a_file(tmp_path / "work" / "hello.txt")
        proxy = running(
            f'[primary]\nbase_url = "{primary.url}"\n'
            f'[[providers]]\nname = "spare"\nbase_url = "{fallback.url}"\napi_key = "spare-key"\n'
        )
        return proxy, primary, fallback

    return start


def served_by(proxy: RunningProxy) -> list[str | None]:
    """The provider of each answer of a message."""
    return [record["data"].get("provider") for record in proxy.events("request.complete")]


def assert_written(folder: Path) -> None:
    """The usual task is done."""
    assert (folder / "work" / "hello.txt").read_text() == "written by the tool\n"


@pytest.mark.parametrize("text", [EXTRA_USAGE, "You're out of extra usage. Resets 7pm."])
def test_a_plan_without_extra_usage_is_served_by_the_fallback(
    text: str, tmp_path: Path, both: Start
) -> None:
    proxy, primary, _ = both()
    primary.script(scripted.error(400, "invalid_request_error", text))
    result = run_claude(proxy.url, tmp_path, credentials=login(FIRST_LOGIN))
    assert result["is_error"] is False
    assert_written(tmp_path)
    assert set(served_by(proxy)) == {"spare"}
    assert primary.received


def test_the_first_refusal_of_a_login_reaches_the_client_whatever_counted_tokens_before(
    tmp_path: Path, both: Start
) -> None:
    proxy, primary, _ = both()
    expired = "OAuth token has expired. Please obtain a new token or refresh your existing token."
    primary.script(scripted.error(401, "authentication_error", expired))
    run_claude(proxy.url, tmp_path, task="/context", credentials=login(FIRST_LOGIN))
    counted = [each for each in primary.received if "count_tokens" in each.target]
    assert len(counted) > 10
    assert not any(each["consecutiveFailures"] for each in proxy.state.values())
    result = run_claude(proxy.url, tmp_path, credentials=login(FIRST_LOGIN))
    assert result["is_error"] is False
    assert_written(tmp_path)
    first, *others = proxy.events("request.error", "request.complete")
    assert (first["data"]["provider"], first["data"]["status"]) == (PRIMARY, 401)
    assert first["data"]["attempts"] == 1
    assert {record["data"]["provider"] for record in others} == {"spare"}


def test_the_limit_of_one_login_does_not_concern_another_one(tmp_path: Path, both: Start) -> None:
    proxy, primary, _ = both()
    reset = str(int(time()) + 3 * 3600)
    limited = scripted.error(
        429,
        "rate_limit_error",
        "This request would exceed your account's rate limit. Please try again later.",
        headers={
            "anthropic-ratelimit-unified-status": "rejected",
            "anthropic-ratelimit-unified-representative-claim": "five_hour",
            "anthropic-ratelimit-unified-reset": reset,
            "anthropic-ratelimit-unified-5h-status": "rejected",
            "anthropic-ratelimit-unified-5h-reset": reset,
            "anthropic-ratelimit-unified-7d-status": "allowed",
            "retry-after": str(3 * 3600),
        },
    )
    good = writes_a_file(tmp_path / "work" / "hello.txt")

    def route(request: Received) -> Script:
        return limited if FIRST_LOGIN in str(request.headers) else good(request)

    primary.route = route
    for user, provider in ((FIRST_LOGIN, "spare"), (SECOND_LOGIN, PRIMARY), (FIRST_LOGIN, "spare")):
        before = len(served_by(proxy))
        result = run_claude(proxy.url, tmp_path, credentials=login(user))
        assert result["is_error"] is False
        assert_written(tmp_path)
        (tmp_path / "work" / "hello.txt").unlink()
        assert set(served_by(proxy)[before:]) == {provider}, user
    of_the_first = [each for each in primary.received if FIRST_LOGIN in str(each.headers)]
    assert len(of_the_first) == 1


def test_a_plan_that_fills_up_moves_its_own_login_only(tmp_path: Path, both: Start) -> None:
    proxy, primary, _ = both()
    config = proxy.paths.config
    config.write_text(f"[quota]\nswitch_at = 0.9\n{config.read_text()}")
    reset = str(int(time()) + 3 * 3600)
    written = tmp_path / "work" / "hello.txt"
    good = writes_a_file(written)
    used = iter([0.5, 0.95, *[1.0] * 50])

    def unified(status: str, utilization: float) -> dict[str, str]:
        facts = {"status": status, "5h-status": status, "5h-utilization": str(utilization)}
        facts |= {"representative-claim": "five_hour", "reset": reset, "5h-reset": reset}
        return {f"anthropic-ratelimit-unified-{name}": value for name, value in facts.items()}

    def route(request: Received) -> Script:
        is_first = FIRST_LOGIN in str(request.headers)
        utilization = next(used) if is_first else 0.2
        if utilization >= 1:
            headers = {**unified("rejected", utilization), "retry-after": str(3 * 3600)}
            return scripted.error(429, "rate_limit_error", headers=headers)
        return scripted.with_more_headers(good(request), unified("allowed", utilization))

    primary.route = route
    for user in (FIRST_LOGIN, SECOND_LOGIN, FIRST_LOGIN, SECOND_LOGIN):
        before = len(served_by(proxy))
        result = run_claude(proxy.url, tmp_path, credentials=login(user))
        assert result["is_error"] is False
        assert_written(tmp_path)
        written.unlink()
        providers = served_by(proxy)[before:]
        if user == SECOND_LOGIN:
            assert set(providers) == {PRIMARY}
        elif before:
            assert set(providers) == {"spare"}
        else:
            # The second answer says that 95 % of the window are used.
            assert providers[:2] == [PRIMARY, PRIMARY]
            assert set(providers[2:]) <= {"spare"}
    (switch,) = proxy.events("quota.switch")
    assert (switch["data"]["window"], switch["data"]["to"]) == ("5h", "fallbacks")
    # As when another machine has used up the plan: the primary refuses, and nothing is lost.
    config.write_text(config.read_text().replace("0.9", "1.0"))
    before = len(served_by(proxy))
    for user in (FIRST_LOGIN, SECOND_LOGIN):
        assert run_claude(proxy.url, tmp_path, credentials=login(user))["is_error"] is False
        assert_written(tmp_path)
        written.unlink()
    assert set(served_by(proxy)[before:]) == {"spare", PRIMARY}
    # Older versions send two requests at once, which are both refused.
    assert len([each for each in primary.received if FIRST_LOGIN in str(each.headers)]) in (3, 4)
    assert not proxy.events("request.error")


def test_a_local_model_has_time_to_read_the_prompt(
    tmp_path: Path,
    upstream: Callable[..., ScriptedUpstream],
    running: Callable[[str], RunningProxy],
) -> None:
    written = tmp_path / "work" / "hello.txt"
    call = {
        "type": "tool_use",
        "id": "call_1",
        "name": "Write",
        "input": {"file_path": str(written), "content": "written by the tool\n"},
    }

    async def reads_slowly(request: Received, connection: Connection) -> None:
        # Five times as long as `first_byte`, which grows with the size of the request.
        await asyncio.sleep(1)
        done = any(message["role"] == "tool" for message in request.json["messages"])
        answer = OPENAI.reply("The file is written." if done else [call])
        await answer(request, connection)

    primary = upstream(scripted.error(529, "overloaded_error"))
    local, spare = upstream(reads_slowly), upstream(scripted.reply("Not needed."))
    proxy = running(
        f'[primary]\nbase_url = "{primary.url}"\n[timeouts]\nfirst_byte = 0.2\n'
        f'[[providers]]\nname = "local"\nbase_url = "{local.url}"\nformat = "openai"\n'
        f'[[providers]]\nname = "spare"\nbase_url = "{spare.url}"\napi_key = "spare-key"\n'
    )
    result = run_claude(proxy.url, tmp_path)
    assert result["result"] == "The file is written."
    assert_written(tmp_path)
    assert set(served_by(proxy)) == {"local"}
    assert spare.received == []


FOUND: list[dict[str, Any]] = [
    {
        "type": "server_tool_use",
        "id": "srvtoolu_1",
        "name": "web_search",
        "input": {"query": "today's weather"},
    },
    {
        "type": "web_search_tool_result",
        "tool_use_id": "srvtoolu_1",
        "content": [
            {
                "type": "web_search_result",
                "title": "The weather of today",
                "url": "https://weather.example/today",
                "encrypted_content": "c2NyaXB0ZWQ=",
                "page_age": None,
            }
        ],
    },
    {"type": "text", "text": "It rains."},
]


@pytest.mark.parametrize("can_search", [False, True])
def test_a_web_search_is_answered_by_a_provider_that_can_search_or_unavailable(
    can_search: bool,
    tmp_path: Path,
    upstream: Callable[..., ScriptedUpstream],
    running: Callable[[str], RunningProxy],
) -> None:
    call = {
        "type": "tool_use",
        "id": "call_1",
        "name": "WebSearch",
        "input": {"query": "today's weather"},
    }

    def route(request: Received) -> Script:
        body = request.json
        if not body.get("tools"):
            return OPENAI.reply("From memory: it is sunny.")
        done = any(message["role"] == "tool" for message in body["messages"])
        return OPENAI.reply("That is all." if done else [call])

    primary, other = upstream(scripted.error(529, "overloaded_error")), upstream()
    other.route = route
    searcher = upstream(scripted.reply(FOUND))
    proxy = running(
        f'[primary]\nbase_url = "{primary.url}"\n[[providers]]\nname = "other"\n'
        f'base_url = "{other.url}"\nformat = "openai"\napi_key = "spare-key"\n'
        f'[[providers]]\nname = "searcher"\nbase_url = "{searcher.url}"\napi_key = "key-2"\n'
        f"disabled = {'false' if can_search else 'true'}\n"
    )
    # With tool search, WebSearch is not among the tools until the model looks for it.
    user = {**key(), "ENABLE_TOOL_SEARCH": "false"}
    task = "How is the weather?"
    result = run_claude(proxy.url, tmp_path, "WebSearch", task=task, credentials=user)
    assert result["result"] == "That is all."
    assert any(b'"web_search_2' in request.body for request in primary.received)
    assert all(request.json.get("tools") for request in other.received)
    messages = other.received[-1].json["messages"]
    (answer,) = [message["content"] for message in messages if message["role"] == "tool"]
    assert "sunny" not in answer
    assert ("https://weather.example/today" in answer) is can_search
    assert ("unavailable" in answer) is not can_search
    assert len(searcher.received) == can_search


@pytest.mark.parametrize("begun", [False, True])
def test_the_esc_key_stops_a_request_without_a_failure(
    begun: bool, tmp_path: Path, both: Start
) -> None:
    proxy, primary, fallback = both()
    arrived = threading.Event()

    async def says_that_it_waits(request: Received, connection: Connection) -> None:
        arrived.set()
        await scripted.hang(request, connection)

    events = scripted.events_of(msgspec.json.encode(scripted.message("A long story.")))
    begins = scripted.stream(events[:3], then=scripted.in_a_moment(says_that_it_waits))
    turn = begins if begun else says_that_it_waits
    # Esc stops the turn and not what Claude Code requests next to it, such as a title.
    primary.route = lambda r: turn if r.json.get("tools") else scripted.reply("A title")
    with Terminal(proxy.url, tmp_path, "Tell me a story.", login(FIRST_LOGIN)) as terminal:
        assert arrived.wait(30), terminal.seen()
        terminal.press(ESC)
        stopped = proxy.wait_for("request.error")
    assert "stopped by you" in stopped["message"]
    assert stopped["data"]["status"] == 499
    assert not proxy.events("provider.failure", "provider.timeout")
    assert all(not each["consecutiveFailures"] for each in proxy.state.values())
    assert fallback.received == []
