"""A refused request is repaired, and the lesson is kept, over real sockets."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import msgspec
import pytest

from ccfallback.simulator import scripted
from tests.conftest import Chain
from tests.server.plain_api import refusals, strict

CASE = Path(__file__).parent.parent / "wire/openai/cases/request/first_turn.json"
BETAS = "claude-code-20250219,context-management-2025-06-27,effort-2025-11-24"
OVERLOADED = scripted.error(529, "overloaded_error")


def first_turn() -> dict[str, Any]:
    """The first turn of the real Claude Code."""
    asked: dict[str, Any] = msgspec.json.decode(CASE.read_bytes())["asked"]
    return asked


def ask(chain: Chain, **more: Any) -> httpx.Response:
    """Send it."""
    headers = {"anthropic-beta": BETAS, "x-api-key": "users-key"}
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


@pytest.mark.parametrize(
    "message",
    [
        "context_management: Extra inputs are not permitted",
        "max_tokens: 64000 > 8192, which is the maximum allowed number of output tokens for m",
        "messages.1.content.0: Invalid `signature` in `thinking` block",
    ],
)
def test_the_primarys_refusal_is_left_to_the_client_where_it_knows_what_to_do(
    chain: Callable[..., Chain], message: str
) -> None:
    running = chain(scripted.error(400, "invalid_request_error", message), scripted.reply("no"))
    response = ask(running, context_management={"edits": []})
    assert response.status_code == 400
    assert response.json()["error"]["message"] == message
    assert len(running.primary.received) == 1


def test_the_primary_is_repaired_where_the_client_does_not_know_and_nothing_is_kept(
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
