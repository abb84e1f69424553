"""A refusal that no rule knows is answered with the plain form, over real sockets."""

from collections.abc import Callable
from typing import Any

import httpx
import pytest

from ccfallback.simulator import scripted
from ccfallback.simulator.scripted import Received, Script
from tests.conftest import Chain
from tests.rectify.oldest_api import messages_faults
from tests.server.test_repairs import OVERLOADED, ask, first_turn

VAGUE = scripted.error(400, "invalid_request_error", "I did not understand this request")


def refusing(name: str, good: Script, status: int = 400) -> Script:
    """Refuses, without a word of why, every request that has this member."""

    async def script(request: Received, connection: scripted.Connection) -> None:
        refusal = scripted.error(status, "invalid_request_error", "Bad Request")
        await (refusal if name in request.json else good)(request, connection)

    return script


def learned_of(chain: Chain) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = chain.proxy.state.get("fallback1", {}).get("learned", [])
    return found


def answered(response: httpx.Response) -> bool:
    return response.headers["x-ccfallback-provider"] == "fallback1" and "served" in response.text


def test_a_refusal_that_no_rule_knows_is_answered_with_the_plain_form(
    chain: Callable[..., Chain],
) -> None:
    running = chain(OVERLOADED, refusing("thinking", scripted.reply("served")))
    assert answered(ask(running))
    _, plain = running.fallback.received
    assert messages_faults(plain.json) == []
    assert plain.header("anthropic-beta") is None
    assert running.proxy.state["fallback1"]["consecutiveFailures"] == 0
    record = running.proxy.events("rectifier.applied")[0]["data"]
    assert (record["rectifier"], record["learned"]) == ("plain_form", True)


def test_the_needed_step_is_found_and_no_turn_is_lost(chain: Callable[..., Chain]) -> None:
    running = chain(OVERLOADED, refusing("thinking", scripted.reply("served")))
    ends = []
    for _ in range(8):
        assert answered(ask(running))
        ends.append(len(running.fallback.received))
    assert ends[-1] - ends[-2] == 1
    assert ends[-1] <= 2 + 2 * 6 + 1
    (lesson,) = learned_of(running)
    assert lesson["rectifier"] == "plain_form"
    assert "needed: thinking;" in lesson["message"]
    assert "unsure" not in lesson["message"]
    last = running.fallback.received[-1].json
    assert "thinking" not in last
    assert "metadata" in last


def test_a_provider_that_refuses_the_plain_form_too_gets_it_once(
    chain: Callable[..., Chain],
) -> None:
    running = chain(OVERLOADED, VAGUE, scripted.reply("third"))
    assert "third" in ask(running).text
    assert len(running.fallbacks[0].received) == 2
    assert "third" in ask(running).text
    assert len(running.fallbacks[0].received) == 3
    assert learned_of(running) == []


@pytest.mark.parametrize(
    ("status", "message", "attempts"),
    [
        (404, "No endpoints found that support tool use", 2),
        (500, "Value is not callable: null at row 12, column 9", 2),
        (404, "model: m was not found", 1),
        (404, "404 page not found", 1),
        (500, "Internal server error", 1),
        (503, "the template is not supported", 1),
        (400, "Your credit balance is too low", 1),
        (400, "The model m does not exist", 1),
        (400, "prompt is too long: 300000 tokens > 200000 maximum", 1),
    ],
)
def test_the_plain_form_is_for_refusals_of_the_request_only(
    chain: Callable[..., Chain], status: int, message: str, attempts: int
) -> None:
    running = chain(OVERLOADED, scripted.error(status, "error", message), scripted.reply("third"))
    assert "third" in ask(running).text
    assert len(running.fallbacks[0].received) == attempts


def test_the_plain_form_can_be_switched_off(chain: Callable[..., Chain]) -> None:
    running = chain(OVERLOADED, VAGUE, more="[rectifier]\nplain_form = false\n")
    assert ask(running).status_code == 502
    assert len(running.fallback.received) == 1


def test_the_primary_and_a_count_of_tokens_never_get_the_plain_form(
    chain: Callable[..., Chain],
) -> None:
    running = chain(VAGUE, VAGUE)
    assert ask(running).status_code == 400
    body = {key: value for key, value in first_turn().items() if key != "stream"}
    httpx.post(f"{running.url}/v1/messages/count_tokens", json=body, timeout=30)
    assert len(running.primary.received) == 2
    assert len(running.fallback.received) <= 1


@pytest.mark.parametrize("status", [404, 500])
def test_a_known_refusal_behind_another_status_is_repaired(
    chain: Callable[..., Chain], status: int
) -> None:
    picture = {"type": "image", "source": {"type": "url", "url": "http://x/y.png"}}
    refusal = scripted.error(status, "error", "No endpoints found that support image input")

    async def blind(request: Received, connection: scripted.Connection) -> None:
        script = refusal if b'"image"' in request.body else scripted.reply("served")
        await script(request, connection)

    running = chain(OVERLOADED, blind)
    messages = [{"role": "user", "content": [picture, {"type": "text", "text": "look"}]}]
    assert answered(ask(running, messages=messages))
    assert len(running.fallback.received) == 2
    assert running.proxy.state["fallback1"]["models"] == {}
    assert [lesson["rectifier"] for lesson in learned_of(running)] == ["media"]
