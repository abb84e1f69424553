"""A strict scripted Vertex AI as the fallback: it refuses nothing of what Claude Code sends."""

from collections.abc import Callable, Iterator
from typing import Any

import httpx
import msgspec
import pytest

from ccfallback.messages.assemble import to_message
from ccfallback.simulator import scripted
from ccfallback.simulator.scripted import ScriptedUpstream
from ccfallback.simulator.scripted_vertex import error
from tests.conftest import RunningProxy
from tests.rectify.drafts import BETAS, captured
from tests.server.strict_vertex import StrictVertex

MODEL = "claude-haiku-4-5-20251001"
ASK: dict[str, Any] = {
    "model": f"{MODEL}[1m]",
    "max_tokens": 64,
    "messages": [{"role": "user", "content": "Hi"}],
}
ANSWER = [{"type": "text", "text": "Hello from Google."}]


class Place:
    """A proxy whose primary is overloaded, and a strict Vertex AI behind it."""

    def __init__(self, proxy: RunningProxy, strict: StrictVertex, server: ScriptedUpstream) -> None:
        self.proxy = proxy
        self.strict = strict
        self.server = server

    def post(self, body: Any, path: str = "/v1/messages", **headers: str) -> httpx.Response:
        return httpx.post(
            f"{self.proxy.url}{path}",
            json=body,
            headers={"x-api-key": "users-key", "anthropic-version": "2023-06-01", **headers},
            timeout=30,
        )


def config(primary: str, vertex: str, more: str = "") -> str:
    return f"""
[primary]
base_url = "{primary}"
[[providers]]
name = "google"
format = "vertex"
base_url = "{vertex}"
google = {{ project = "my-project" }}
api_key = "ya29.scripted"
{more}
"""


@pytest.fixture
def place(
    upstream: Callable[..., ScriptedUpstream], running: Callable[[str], RunningProxy]
) -> Iterator[Place]:
    strict = StrictVertex(lambda _: scripted.reply(ANSWER))
    with ScriptedUpstream(route=strict) as server:
        overloaded = upstream(scripted.error(529, "overloaded_error"))
        yield Place(running(config(overloaded.url, server.url)), strict, server)


@pytest.mark.parametrize("stream", [False, True])
def test_a_request_is_answered_there(place: Place, stream: bool) -> None:
    answer = place.post({**ASK, "stream": stream})
    assert place.strict.refused == []
    assert answer.headers["x-ccfallback-provider"] == "google"
    raw = to_message(answer.content) if stream else answer.content
    assert msgspec.json.decode(raw)["content"] == ANSWER
    method = "streamRawPredict" if stream else "rawPredict"
    assert place.server.received[-1].target == (
        "/v1/projects/my-project/locations/global/publishers/anthropic/models/"
        f"claude-haiku-4-5@20251001:{method}"
    )


def test_nothing_of_what_claude_code_sends_is_refused(place: Place) -> None:
    for number, draft in enumerate(captured(), 1):
        body = {**msgspec.json.decode(draft.body.raw), "model": "claude-opus-5-5"}
        answer = place.post(body, **{"anthropic-beta": ",".join(BETAS)})
        assert place.strict.refused == []
        assert answer.status_code == 200
        assert len(place.server.received) == number


def test_tokens_are_counted_there(place: Place) -> None:
    place.strict.models = frozenset({"claude-haiku-4-5"})
    answer = place.post(ASK, "/v1/messages/count_tokens")
    assert place.strict.refused == []
    assert answer.json() == {"input_tokens": 42}
    assert "x-ccfallback-estimate" not in answer.headers


def test_a_quota_of_one_model_leaves_the_others(place: Place) -> None:
    used_up = error(
        429,
        "RESOURCE_EXHAUSTED",
        "Quota exceeded for aiplatform.googleapis.com/online_prediction_requests_per_base_model "
        "with base model: anthropic-claude-opus. Please submit a quota increase request.",
    )
    place.strict.model = lambda request: (
        used_up if "opus" in request.target else scripted.reply(ANSWER)
    )
    for _ in range(4):
        assert place.post({**ASK, "model": "claude-opus-5-5"}).status_code != 200
    assert place.post(ASK).headers["x-ccfallback-provider"] == "google"
    cooldowns = [each["data"] for each in place.proxy.events("circuit_breaker.cooldown")]
    models = {each.get("model") for each in cooldowns if each["provider"] == "google"}
    assert models == {"claude-opus-5-5"}


def test_a_model_that_is_not_enabled_is_unknown_and_others_are_served(place: Place) -> None:
    place.strict.models = frozenset({"claude-haiku-4-5@20251001"})
    unknown = place.post({**ASK, "model": "claude-opus-5-5"})
    assert unknown.status_code == 502
    assert [each["status"] for each in unknown.json()["error"]["attempts"]] == [529, 404]
    assert place.post(ASK).status_code == 200


def test_a_refused_token_is_the_accounts_fault(place: Place) -> None:
    place.strict.tokens.clear()
    refused = place.post(ASK).json()["error"]
    assert refused["attempts"][-1] == {
        "provider": "google",
        "status": 401,
        "error": "401 UNAUTHENTICATED",
    }


def test_a_body_over_the_limit_makes_the_client_compact(
    running: Callable[[str], RunningProxy], upstream: Callable[..., ScriptedUpstream]
) -> None:
    strict = StrictVertex(lambda _: scripted.reply(ANSWER))
    with ScriptedUpstream(route=strict) as server:
        long = {**ASK, "messages": [{"role": "user", "content": "x" * 30_000_000}]}
        primary = upstream(scripted.error(400, "billing_error", "Your credit balance is too low"))
        proxy = running(config(primary.url, server.url))
        refused = Place(proxy, strict, server).post(long)
    assert refused.status_code == 400
    assert refused.json()["error"]["message"].startswith("prompt is too long")


def test_without_a_project_no_request_is_sent(
    running: Callable[[str], RunningProxy], upstream: Callable[..., ScriptedUpstream]
) -> None:
    overloaded, vertex = upstream(scripted.error(529, "overloaded_error")), upstream()
    text = config(overloaded.url, vertex.url).replace("google = ", "# ")
    refused = Place(running(text), StrictVertex(lambda _: scripted.nothing), vertex).post(ASK)
    assert refused.status_code == 502
    assert "set providers.google.google.project" in refused.json()["error"]["message"]
    assert vertex.received == []


THOUGHT = {"type": "thinking", "thinking": "Hm.", "signature": "c2lnbmVkLWJ5LWFudGhyb3BpYw=="}


def thinks(signature: str) -> list[dict[str, str]]:
    return [{**THOUGHT, "signature": signature}, {"type": "text", "text": "Well."}]


def test_signed_thinking_goes_to_vertex_and_comes_back(
    running: Callable[[str], RunningProxy], upstream: Callable[..., ScriptedUpstream]
) -> None:
    strict = StrictVertex(lambda _: scripted.reply(thinks("Z29vZ2xl")))
    with ScriptedUpstream(route=strict) as server:
        overloaded = scripted.error(529, "overloaded_error")
        primary = upstream(scripted.reply(thinks("YW50aHJvcGlj")), overloaded)
        place = Place(running(config(primary.url, server.url)), strict, server)
        body, sent = {**ASK, "model": "claude-opus-5-5"}, []
        for ending in (scripted.reply(thinks("YW50aHJvcGlj")), overloaded, scripted.reply("Done.")):
            primary.script(ending)
            answer = place.post(body)
            assert answer.status_code == 200
            sent.append(answer.headers["x-ccfallback-provider"])
            turn = {"role": "assistant", "content": answer.json()["content"]}
            further = {"role": "user", "content": "On."}
            body = {**body, "messages": [*body["messages"], turn, further]}
    assert sent == ["anthropic-primary", "google", "anthropic-primary"]
    assert strict.refused == []
    assert b"YW50aHJvcGlj" in server.received[-1].body
    assert b"YW50aHJvcGlj" in primary.received[-1].body
    assert b"Z29vZ2xl" in primary.received[-1].body


def test_a_refused_signature_is_not_sent_there_again(
    running: Callable[[str], RunningProxy], upstream: Callable[..., ScriptedUpstream]
) -> None:
    message = "messages.1.content.0: Invalid `signature` in `thinking` block"
    refuses = scripted.error(400, "invalid_request_error", message)

    def model(request: scripted.Received) -> scripted.Script:
        foreign = b"YW50aHJvcGlj" in request.body
        return refuses if foreign else scripted.reply(thinks("Z29vZ2xl"))

    strict = StrictVertex(model)
    with ScriptedUpstream(route=strict) as server:
        primary = upstream(scripted.reply(thinks("YW50aHJvcGlj")))
        place = Place(running(config(primary.url, server.url)), strict, server)
        first = place.post({**ASK, "model": "claude-opus-5-5"}).json()["content"]
        primary.script(scripted.error(529, "overloaded_error"))
        turns = [*ASK["messages"], {"role": "assistant", "content": first}, *ASK["messages"]]
        body = {**ASK, "model": "claude-opus-5-5", "messages": turns}
        counts = []
        for _ in range(2):
            assert place.post(body).status_code == 200
            counts.append(len(server.received))
    assert counts == [2, 3]
