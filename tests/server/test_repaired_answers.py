"""Repairs by which the answer is read, or put into another format, over real sockets."""

from collections.abc import Callable, Mapping
from typing import Any

import httpx
import pytest

from ccfallback.messages.assemble import to_message
from ccfallback.simulator import scripted, scripted_openai
from ccfallback.simulator.scripted import Received, Script, ScriptedUpstream
from tests.conftest import Chain, RunningProxy

OVERLOADED = scripted.error(529, "overloaded_error")
LONG = "mcp__a_server__" + "x" * 80
ASK: dict[str, Any] = {
    "model": "claude-x",
    "max_tokens": 100,
    "tools": [{"name": LONG, "input_schema": {"type": "object"}}],
    "messages": [{"role": "user", "content": "hi"}],
}

Refuse = Callable[[Mapping[str, Any]], str]


def strict(refuse: Refuse, good: Callable[[Mapping[str, Any]], Script], wire: Any) -> Script:
    """Answers what it has nothing against."""

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
    picky = strict(names_longer_than_64, calls_the_first_tool, scripted)
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


def test_a_provider_of_the_other_format_says_how_it_wants_to_be_spoken_to(
    upstream: Callable[..., ScriptedUpstream], running: Callable[[str], RunningProxy]
) -> None:
    good = scripted_openai.reply("served")
    first = upstream(OVERLOADED)
    other = upstream(strict(of_the_newest_kind, lambda _: good, scripted_openai))
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
