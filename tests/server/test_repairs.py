"""A refused request is repaired and the rejection learned, over real sockets.

Some repairs also change how the answer is read.
"""

from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import httpx
import msgspec
import pytest

from ccfallback.messages.assemble import to_message
from ccfallback.simulator import scripted, scripted_openai
from ccfallback.simulator.scripted import Received, Script, ScriptedUpstream
from ccfallback.simulator.scripted_openai import OPENAI
from tests.conftest import Chain, RunningProxy
from tests.server.plain_api import refusals, strict

CASE = Path(__file__).parent.parent / "wire/openai/cases/request/first_turn.json"
BETAS = "claude-code-20250219,context-management-2025-06-27,effort-2025-11-24"
OVERLOADED = scripted.error(529, "overloaded_error")


def first_turn() -> dict[str, Any]:
    """The first turn of the real Claude Code."""
    asked: dict[str, Any] = msgspec.json.decode(CASE.read_bytes())["asked"]
    return asked


def ask(
    chain: Chain, client: Mapping[str, str] = MappingProxyType({}), **more: Any
) -> httpx.Response:
    """Send it; `client` are headers that say which client does."""
    headers = {"anthropic-beta": BETAS, "x-api-key": "users-key", **client}
    body = {**first_turn(), **more}
    return httpx.post(f"{chain.url}/v1/messages", json=body, headers=headers, timeout=30)


def test_a_provider_of_the_plain_api_learns_the_newest_client(chain: Callable[..., Chain]) -> None:
    running = chain(OVERLOADED, strict(scripted.reply("served")))
    first = ask(running)
    assert "served" in first.text
    assert first.headers["x-ccfallback-provider"] == "fallback1"
    needed = len(running.fallback.received)
    assert needed > 4
    made = running.proxy.events("rectifier.attempt")
    assert len(made) == len(running.proxy.events("rectifier.applied")) == needed - 1
    assert all(record["data"]["changed"] for record in made)
    assert "anthropic-beta" not in str(running.fallback.received[-1].headers)
    second = ask(running)
    assert "served" in second.text
    assert len(running.fallback.received) == needed + 1
    assert list(refusals(running.fallback.received[-1])) == []
    learned = running.proxy.state["fallback1"]["learned"]
    assert len(learned) >= 5
    assert running.proxy.state["fallback1"]["consecutiveFailures"] == 0


def test_the_system_messages_are_kept_in_the_repaired_request(chain: Callable[..., Chain]) -> None:
    running = chain(OVERLOADED, strict(scripted.reply("served")))
    body = first_turn()
    ask(running)
    sent = msgspec.json.encode(running.fallback.received[-1].json["messages"]).decode()
    texts = [
        text
        for message in body["messages"]
        if message["role"] == "system"
        for text in _texts(message["content"])
    ]
    assert texts
    for text in texts:
        assert msgspec.json.encode(text).decode().strip('"')[:60] in sent


def _texts(content: Any) -> list[str]:
    return [content] if isinstance(content, str) else [block["text"] for block in content]


def test_the_next_provider_starts_from_the_clients_own_body(chain: Callable[..., Chain]) -> None:
    hopeless = scripted.error(
        400, "invalid_request_error", "context_management: Extra inputs are not permitted"
    )
    running = chain(OVERLOADED, hopeless, scripted.reply("third"))
    ask(running, context_management={"edits": []})
    assert len(running.fallbacks[0].received) == 2
    assert "context_management" not in running.fallbacks[0].received[1].json
    assert running.fallbacks[1].received[0].json["context_management"] == {"edits": []}
    assert "learned" not in running.proxy.state.get("fallback1", {})


REPAIRED_BY_CLAUDE_CODE = [
    "context_management: Extra inputs are not permitted",
    "max_tokens: 64000 > 8192, which is the maximum allowed number of output tokens for m",
    "messages.1.content.0: Invalid `signature` in `thinking` block",
]


@pytest.mark.parametrize("client", [{"user-agent": "claude-cli/2.1.330"}, {"x-app": "cli"}])
@pytest.mark.parametrize("message", REPAIRED_BY_CLAUDE_CODE)
def test_a_refusal_of_the_primary_that_the_client_can_repair_is_passed_on(
    chain: Callable[..., Chain], message: str, client: Mapping[str, str]
) -> None:
    running = chain(scripted.error(400, "invalid_request_error", message), scripted.reply("no"))
    response = ask(running, client, context_management={"edits": []}, max_tokens=64000)
    assert response.status_code == 400
    assert response.json()["error"]["message"] == message
    assert len(running.primary.received) == 1


@pytest.mark.parametrize("message", REPAIRED_BY_CLAUDE_CODE)
def test_it_is_repaired_for_a_client_that_cannot(chain: Callable[..., Chain], message: str) -> None:
    refused = scripted.error(400, "invalid_request_error", message)
    running = chain([refused, scripted.reply("repaired")], scripted.reply("no"))
    thought = {"type": "thinking", "thinking": "Hm.", "signature": "from elsewhere"}
    history = [
        {"role": "user", "content": "hi"},
        {"role": "assistant", "content": [thought, {"type": "text", "text": "Hello."}]},
        {"role": "user", "content": "go on"},
    ]
    response = ask(running, messages=history, context_management={"edits": []}, max_tokens=64000)
    assert "repaired" in response.text
    assert response.headers["x-ccfallback-provider"] == "anthropic-primary"
    assert response.headers["x-ccfallback-attempts"] == "2"


def test_other_requests_to_the_primary_are_repaired_and_nothing_is_learned(
    chain: Callable[..., Chain],
) -> None:
    refusal = "`max_tokens` must be greater than `thinking.budget_tokens`"
    running = chain(
        [scripted.error(400, "invalid_request_error", refusal), scripted.reply("served")],
        scripted.reply("no"),
    )
    thinking = {"type": "enabled", "budget_tokens": 4000}
    response = ask(running, thinking=thinking, max_tokens=3000)
    assert response.headers["x-ccfallback-provider"] == "anthropic-primary"
    assert "served" in response.text
    assert "learned" not in running.proxy.state.get("anthropic-primary", {})


def test_repairs_can_be_switched_off(chain: Callable[..., Chain]) -> None:
    running = chain(
        OVERLOADED, strict(scripted.reply("served")), more="[rectifier]\nenabled = false\n"
    )
    assert ask(running).status_code == 502
    assert len(running.fallback.received) == 1


LONG = "mcp__a_server__" + "x" * 80
ASK: dict[str, Any] = {
    "model": "claude-x",
    "max_tokens": 100,
    "tools": [{"name": LONG, "input_schema": {"type": "object"}}],
    "messages": [{"role": "user", "content": "hi"}],
}

Refuse = Callable[[Mapping[str, Any]], str]


def refusing(refuse: Refuse, good: Callable[[Mapping[str, Any]], Script], wire: Any) -> Script:
    """Refuses what `refuse` finds a fault in, else answers as `good` does."""

    async def script(request: Received, connection: scripted.Connection) -> None:
        fault = refuse(request.json)
        made = wire.error(400, "invalid_request_error", fault) if fault else good(request.json)
        await made(request, connection)

    return script


def names_longer_than_64(body: Mapping[str, Any]) -> str:
    for number, tool in enumerate(body["tools"]):
        if len(tool["name"]) > 64:
            return f"tools.{number}.custom.name: String should have at most 64 characters"
    return ""


def calls_the_first_tool(body: Mapping[str, Any]) -> Script:
    call = {"type": "tool_use", "id": "t1", "name": body["tools"][0]["name"], "input": {"a": 1}}
    return scripted.reply([{"type": "text", "text": "Now."}, call], stop_reason="tool_use")


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
@pytest.mark.parametrize("of_primary", [False, True], ids=["fallback", "primary"])
def test_a_tool_that_had_to_be_renamed_is_called_by_the_clients_name(
    chain: Callable[..., Chain], stream: bool, of_primary: bool
) -> None:
    picky = refusing(names_longer_than_64, calls_the_first_tool, scripted)
    running = chain(picky, OVERLOADED) if of_primary else chain(OVERLOADED, picky)
    asked_at = running.primary if of_primary else running.fallback
    for turn in (1, 2):
        answer = httpx.post(f"{running.url}/v1/messages", json={**ASK, "stream": stream})
        whole = to_message(answer.content) if stream else answer.content
        content = httpx.Response(200, content=whole).json()["content"]
        assert content[1] == {"type": "tool_use", "id": "t1", "name": LONG, "input": {"a": 1}}
        # The primary teaches nothing: there the client's own words are tried each time.
        assert len(asked_at.received) == (2 * turn if of_primary else 1 + turn)
    assert running.proxy.events("rectifier.attempt")[0]["data"]["renamed"] == 1


def of_the_newest_kind(body: Mapping[str, Any]) -> str:
    if "max_tokens" in body:
        return (
            "Unsupported parameter: 'max_tokens' is not supported with this model. Use "
            "'max_completion_tokens' instead."
        )
    if "stream_options" in body:
        return "Unknown parameter: 'stream_options'."
    for message in body["messages"]:
        for call in message.get("tool_calls") or ():
            if "extra_content" not in call:
                return "Function call is missing a thought_signature in functionCall parts."
    return ""


def test_refusals_of_a_provider_in_the_other_format_are_repaired(
    upstream: Callable[..., ScriptedUpstream], running: Callable[[str], RunningProxy]
) -> None:
    good = OPENAI.reply("served")
    first = upstream(OVERLOADED)
    other = upstream(refusing(of_the_newest_kind, lambda _: good, scripted_openai))
    proxy = running(
        f'[primary]\nbase_url = "{first.url}"\n[[providers]]\nname = "other"\n'
        f'base_url = "{other.url}"\nformat = "openai"\napi_key = "k"\n'
    )
    messages = [
        {"role": "user", "content": "hi"},
        {
            "role": "assistant",
            "content": [{"type": "tool_use", "id": "t1", "name": LONG, "input": {}}],
        },
        {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "t1"}]},
    ]
    for tries in (4, 5):
        ask = {**ASK, "messages": messages, "stream": True}
        answer = httpx.post(f"{proxy.url}/v1/messages", json=ask)
        assert b"served" in to_message(answer.content)
        assert len(other.received) == tries
    repairs = [record["data"]["rectifier"] for record in proxy.events("rectifier.applied")]
    assert repairs == ["dialect_limit", "dialect_usage", "dialect_signature"]
    assert len(proxy.state["other"]["learned"]) == 3
    assert other.received[-1].json["max_completion_tokens"] == 100
