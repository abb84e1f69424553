"""Signed thinking goes back only to the provider that signed it, over real sockets."""

from collections.abc import Callable

import httpx
import msgspec
import pytest

from ccfallback.simulator import scripted
from ccfallback.simulator.scripted import Received, ScriptedUpstream
from tests.conftest import Chain, RunningProxy


def thinks(signature: str) -> scripted.Script:
    """An answer with signed thinking."""
    block = {"type": "thinking", "thinking": "hm", "signature": signature}
    return scripted.reply([block, {"type": "text", "text": signature}])


@pytest.mark.parametrize("stream", [False, True])
def test_a_conversation_moves_to_a_fallback_and_back(
    chain: Callable[..., Chain], stream: bool
) -> None:
    failing = scripted.error(529, "overloaded_error")
    running = chain([thinks("genuine"), failing, thinks("genuine again")], thinks("foreign"))
    history: list[dict[str, object]] = []
    for turn in ("genuine", "foreign", "genuine again"):
        history.append({"role": "user", "content": turn})
        body = {"model": "claude-x", "max_tokens": 9, "stream": stream, "messages": history}
        answer = httpx.post(f"{running.url}/v1/messages", json=body)
        assert turn in answer.text
        block = {"type": "thinking", "thinking": "hm", "signature": turn}
        history.append({"role": "assistant", "content": [block, {"type": "text", "text": turn}]})
    last = running.primary.received[-1].body
    assert b'"signature":"genuine"' in last
    assert b"foreign" not in last.replace(b'"text":"foreign"', b"").replace(
        b'"content":"foreign"', b""
    )
    sent = running.fallback.received[-1].body
    assert b'"signature":"genuine"' not in sent


def test_signature_origins_survive_a_restart(
    chain: Callable[..., Chain], running: Callable[[str], RunningProxy]
) -> None:
    first = chain(scripted.error(529, "overloaded_error"), thinks("foreign"))
    ask = {"model": "claude-x", "max_tokens": 9, "messages": [{"role": "user", "content": "hi"}]}
    httpx.post(f"{first.url}/v1/messages", json=ask)
    first.proxy.stop()
    config = first.proxy.paths.config.read_text()
    again = running(config)
    first.primary.script(scripted.reply("ok"))
    block = {"type": "thinking", "thinking": "hm", "signature": "foreign"}
    messages = [
        {"role": "user", "content": "hi"},
        {"role": "assistant", "content": [block, {"type": "text", "text": "t"}]},
        {"role": "user", "content": "go on"},
    ]
    raw = msgspec.json.encode({**ask, "messages": messages})
    httpx.post(f"{again.url}/v1/messages", content=raw)
    assert b"foreign" not in first.primary.received[-1].body


def test_the_signer_of_an_interrupted_answer_is_remembered(chain: Callable[..., Chain]) -> None:
    block = {"type": "thinking", "thinking": "hm", "signature": "foreign"}
    whole = msgspec.json.encode(scripted.message([block, {"type": "text", "text": "t"}]))
    begun = [event for event in scripted.events_of(whole) if b"message_" not in event[:24]]
    start = scripted.events_of(whole)[0]
    running = chain(
        [scripted.error(529, "overloaded_error"), scripted.reply("ok")],
        scripted.stream([start, *begun], scripted.hang),
    )
    ask = {"model": "claude-x", "max_tokens": 9, "messages": [{"role": "user", "content": "hi"}]}
    url = f"{running.url}/v1/messages"
    with httpx.stream("POST", url, json={**ask, "stream": True}) as response:
        seen = b""
        for chunk in response.iter_raw():
            seen += chunk
            if b'"text_delta"' in seen:
                break
    running.proxy.wait_for("request.error")
    history = [{"role": "user", "content": "hi"}, {"role": "assistant", "content": [block]}]
    httpx.post(url, json={**ask, "messages": [*history, {"role": "user", "content": "go on"}]})
    assert b"foreign" not in running.primary.received[-1].body


def test_a_platform_that_refuses_foreign_thinking_is_known_after_a_restart(
    upstream: Callable[..., ScriptedUpstream], running: Callable[[str], RunningProxy]
) -> None:
    def route(request: Received) -> scripted.Script:
        if b'"genuine"' not in request.body:
            return thinks("its own")
        words = "messages.1.content.0: Invalid `signature` in `thinking` block"
        return scripted.error(400, "invalid_request_error", words)

    primary, cloud = upstream(scripted.error(529, "overloaded_error")), upstream()
    cloud.route = route
    config = (
        f'[primary]\nbase_url = "{primary.url}"\n[[providers]]\nname = "cloud"\n'
        f'base_url = "{cloud.url}"\nplatform = "mantle"\napi_key = "k"\n'
    )
    history = [
        {"role": "user", "content": "hi"},
        {
            "role": "assistant",
            "content": [
                {"type": "thinking", "thinking": "hm", "signature": "genuine"},
                {"type": "text", "text": "t"},
            ],
        },
        {"role": "user", "content": "go on"},
    ]
    ask = {"model": "claude-opus-5-5", "max_tokens": 9, "messages": history}

    def attempts(proxy: RunningProxy) -> int:
        before = len(cloud.received)
        answer = httpx.post(f"{proxy.url}/v1/messages", json=ask, timeout=30)
        assert answer.headers["x-ccfallback-provider"] == "cloud", answer.text
        return len(cloud.received) - before

    first = running(config)
    assert [attempts(first), attempts(first)] == [2, 1]
    (lesson,) = first.state["cloud"]["learned"]
    assert lesson["rectifier"] == "foreign_signatures"
    first.stop()
    assert attempts(running(config)) == 1
