"""A fallback of the OpenAI format, over real sockets: as good as one of the client's own."""

import asyncio
import threading
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import anthropic
import httpx
import msgspec
import pytest

from ccfallback.messages.thinking import is_own
from ccfallback.simulator import scripted, scripted_openai
from ccfallback.simulator.scripted import Hangup, Received, Script, ScriptedUpstream
from ccfallback.simulator.scripted_openai import OPENAI
from tests.conftest import RunningProxy

CONTENT: list[dict[str, Any]] = [
    {"type": "thinking", "thinking": "Let me see."},
    {"type": "text", "text": "Two calls at once: é 漢."},
    {"type": "tool_use", "id": "call_1", "name": "Read", "input": {"path": "a", "lines": [1, 2]}},
    {"type": "tool_use", "id": "call_2", "name": "List", "input": {}},
]
TOOLS = [
    {"name": name, "description": "d", "input_schema": {"type": "object", "properties": {}}}
    for name in ("Read", "List")
]
ASK: dict[str, Any] = {
    "model": "claude-x",
    "max_tokens": 64000,
    "thinking": {"type": "adaptive"},
    "tools": TOOLS,
    "messages": [{"role": "user", "content": "hi"}],
}
OVERLOADED = scripted.error(529, "overloaded_error")

Start = Callable[..., tuple[RunningProxy, ScriptedUpstream, ScriptedUpstream]]


@pytest.fixture
def both(
    upstream: Callable[..., ScriptedUpstream], running: Callable[[str], RunningProxy]
) -> Start:
    """A failing Anthropic primary and a fallback of the OpenAI format."""

    def start(
        script: Script, *, primary: Script = OVERLOADED, more: str = "", last: str = ""
    ) -> tuple[RunningProxy, ScriptedUpstream, ScriptedUpstream]:
        first, second = upstream(primary), upstream(script)
        proxy = running(
            f'[primary]\nbase_url = "{first.url}"\n[[providers]]\nname = "other"\n'
            f'base_url = "{second.url}"\nformat = "openai"\napi_key = "others-key"\n{more}\n{last}'
        )
        return proxy, first, second

    return start


@pytest.mark.parametrize("stream", [True, False])
def test_a_web_search_is_not_answered_from_memory(both: Start, stream: bool) -> None:
    proxy, _, fallback = both(OPENAI.reply("From memory."))
    tool = {"type": "web_search_20250305", "name": "web_search", "max_uses": 8}
    ask = {**ASK, "tools": [tool], "tool_choice": {"type": "auto"}, "stream": stream}
    response = httpx.post(f"{proxy.url}/v1/messages", json=ask, trust_env=False)
    assert response.status_code == 200
    assert response.headers["content-type"].startswith(
        "text/event-stream" if stream else "application/json"
    )
    assert "web_search_tool_result_error" in response.text
    assert '"error_code":"unavailable"' in response.text
    assert fallback.received == []


def plain(message: anthropic.types.Message) -> list[dict[str, Any]]:
    """The content as it was scripted, signatures aside."""
    blocks = [block.model_dump(exclude_none=True) for block in message.content]
    for block in blocks:
        if block["type"] == "thinking":
            assert is_own(block.pop("signature"))
    return blocks


def test_the_official_client_accepts_every_answer(both: Start) -> None:
    proxy, _, other = both(OPENAI.reply(CONTENT))
    with anthropic.Anthropic(base_url=proxy.url, api_key="users-key", max_retries=0) as client:
        whole = client.messages.create(**{**ASK, "max_tokens": 1000})
        with client.messages.stream(**ASK) as stream:
            streamed = stream.get_final_message()
    for message in (whole, streamed):
        assert plain(message) == CONTENT
        assert message.stop_reason == "tool_use"
        assert message.model == "claude-x"
        assert (message.usage.input_tokens, message.usage.output_tokens) == (12, 7)
    for request in other.received:
        assert request.target == "/v1/chat/completions"
        assert request.header("authorization") == "Bearer others-key"
        assert "users-key" not in str(request.headers)
        assert request.header("anthropic-version") is None
        assert request.json["model"] == "claude-x"


def test_the_providers_quirks_are_applied(both: Start) -> None:
    more = 'max_output_tokens = 8192\nmax_tokens_field = "max_completion_tokens"\n'
    proxy, _, other = both(OPENAI.reply("ok"), more=more)
    assert httpx.post(f"{proxy.url}/v1/messages", json=ASK).status_code == 200
    assert other.received[0].json["max_completion_tokens"] == 8192


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    "fault",
    [
        scripted_openai.error(401, "invalid_api_key"),
        scripted_openai.error(429, "insufficient_quota"),
        scripted_openai.error(500, "server_error"),
        scripted_openai.error(400, "unknown_parameter"),
        scripted.answer(200, b'{"error":{"code":429,"message":"slow down"}}'),
        scripted.answer(200, b'{"choices":[]}'),
        scripted.html(),
        scripted.stream([b'data: {"error":{"message":"no"}}\n\n']),
        scripted.stream([b": keep-alive\n\n", b"data: [DONE]\n\n"]),
        scripted.reset,
    ],
)
def test_every_fault_leads_to_failover(
    both: Start, upstream: Callable[..., ScriptedUpstream], fault: Script, stream: bool
) -> None:
    spare = upstream(scripted.reply("from the last"))
    last = f'[[providers]]\nname = "last"\nbase_url = "{spare.url}"\n'
    proxy, _, _ = both(fault, last=last)
    response = httpx.post(f"{proxy.url}/v1/messages", json={**ASK, "stream": stream})
    assert response.headers["x-ccfallback-provider"] == "last"
    assert "from the last" in response.text


ABORTED = [
    # OpenAI's format and Anthropic's
    scripted_openai.chunks_of([{"type": "text", "text": "Hello"}]),
    scripted.events_of(msgspec.json.encode(scripted.message("Hello", stop_reason="abort"))),
]


@pytest.mark.parametrize("format", ["openai", "anthropic"])
@pytest.mark.parametrize("stream", [True, False])
def test_a_stop_reason_that_means_failure_counts_against_the_model(
    both: Start, upstream: Callable[..., ScriptedUpstream], format: str, stream: bool
) -> None:
    chunks = [b'data: {"choices":[{"delta":{},"finish_reason":"MALFORMED_FUNCTION_CALL"}]}\n\n']
    if format == "anthropic":
        start, end = ABORTED[1][0], ABORTED[1][-2:]
        chunks = [start, *end]
    spare = upstream(scripted.reply("from the last"))
    last = f'[[providers]]\nname = "last"\nbase_url = "{spare.url}"\n'
    proxy, _, _ = both(scripted.stream(chunks), last=last)
    if format == "anthropic":
        config = proxy.paths.config
        config.write_text(config.read_text().replace('format = "openai"\n', ""))
    response = httpx.post(f"{proxy.url}/v1/messages", json={**ASK, "stream": stream})
    assert "from the last" in response.text
    state = proxy.state["other"]
    assert state["consecutiveFailures"] == 0
    assert state["models"][ASK["model"]]["consecutiveFailures"] == 1
    (failure,) = [
        e["data"] for e in proxy.events("provider.failure") if e["data"]["provider"] == "other"
    ]
    assert failure["fault"] == "model-failed"
    assert "failed_stop_reason" in failure["reason"]


@pytest.mark.parametrize("format", ["openai", "anthropic"])
def test_an_answer_that_its_model_breaks_off_is_dropped_and_tried_elsewhere(
    both: Start, upstream: Callable[..., ScriptedUpstream], format: str
) -> None:
    *chunks, end, stop = ABORTED[1]
    end += stop
    if format == "openai":
        end = b'data: {"choices":[{"delta":{},"finish_reason":"abort"}]}\n\n'
        chunks = [each for each in ABORTED[0] if b"content" in each]
    has_begun = threading.Event()

    async def abort(_request: Received, connection: scripted.Connection) -> None:
        await asyncio.to_thread(has_begun.wait, 10)
        await connection.chunk(end)

    spare = upstream(scripted.reply("from the last"))
    last = f'[[providers]]\nname = "last"\nbase_url = "{spare.url}"\n'
    proxy, _, _ = both(scripted.stream(chunks, then=abort), last=last)
    if format == "anthropic":
        config = proxy.paths.config
        config.write_text(config.read_text().replace('format = "openai"\n', ""))
    ask = {**ASK, "stream": True}
    with httpx.stream("POST", f"{proxy.url}/v1/messages", json=ask) as answer:
        parts = answer.iter_bytes()
        assert next(parts)
        has_begun.set()
        with pytest.raises(httpx.RemoteProtocolError):
            b"".join(parts)
    state = proxy.state["other"]
    assert state["consecutiveFailures"] == 0
    assert state["models"][ASK["model"]]["cooldownUntil"] is not None
    # The client's next try goes to the next provider at once; another model does not.
    response = httpx.post(f"{proxy.url}/v1/messages", json=ask)
    assert response.headers["x-ccfallback-provider"] == "last"


def test_a_cut_stream_is_dropped(both: Start) -> None:
    async def cut(_request: Received, _connection: scripted.Connection) -> None:
        raise Hangup

    events = scripted_openai.chunks_of(CONTENT)
    proxy, _, _ = both(scripted.stream(events[:5], then=cut))
    with httpx.stream("POST", f"{proxy.url}/v1/messages", json={**ASK, "stream": True}) as answer:
        parts = answer.iter_bytes()
        with pytest.raises(httpx.RemoteProtocolError):
            b"".join(parts)


def test_a_full_context_is_reported_so_that_the_client_compacts(both: Start) -> None:
    words = "This model's maximum context length is 131072 tokens. You requested 140000 tokens."
    # A primary that is merely overloaded would be worth waiting for.
    refused = scripted.error(401, "authentication_error")
    proxy, _, _ = both(
        scripted_openai.error(400, "context_length_exceeded", words), primary=refused
    )
    response = httpx.post(f"{proxy.url}/v1/messages", json=ASK)
    assert response.status_code == 400
    assert response.json()["error"]["message"].startswith("prompt is too long: ")


def test_an_account_that_is_out_of_credit_is_a_failure_of_the_provider(both: Start) -> None:
    proxy, _, _ = both(scripted_openai.error(429, "insufficient_quota"))
    httpx.post(f"{proxy.url}/v1/messages", json=ASK)
    assert proxy.state["other"]["consecutiveFailures"] == 1


def test_thinking_of_a_fallback_never_reaches_the_primary(both: Start) -> None:
    genuine = {"type": "thinking", "thinking": "", "signature": "Z2VudWluZQ=="}
    proxy, primary, other = both(OPENAI.reply(CONTENT), primary=OVERLOADED)
    answer = httpx.post(f"{proxy.url}/v1/messages", json=ASK).json()["content"]
    results = [
        {"type": "tool_result", "tool_use_id": block["id"], "content": "done"}
        for block in answer
        if block["type"] == "tool_use"
    ]
    history = [
        {"role": "user", "content": "hi"},
        {"role": "assistant", "content": [genuine, {"type": "text", "text": "first"}]},
        {"role": "user", "content": "go on"},
        {"role": "assistant", "content": answer},
        {"role": "user", "content": results},
    ]
    primary.script(scripted.reply("back at the primary"))
    raw = msgspec.json.encode({**ASK, "messages": history})
    for _ in range(2):
        assert "back at" in httpx.post(f"{proxy.url}/v1/messages", content=raw).text
    first, again = primary.received[-2:]
    assert first.body == again.body
    sent = first.json["messages"]
    assert sent[1]["content"][0] == genuine
    assert [block["type"] for block in sent[3]["content"]] == ["text", "tool_use", "tool_use"]
    assert sent[4]["content"] == results
    primary.script(OVERLOADED)
    assert httpx.post(f"{proxy.url}/v1/messages", content=raw).status_code == 200
    roles = [message["role"] for message in other.received[-1].json["messages"]]
    assert roles == ["user", "assistant", "user", "assistant", "tool", "tool"]


def test_a_provider_without_a_counting_endpoint_is_skipped(both: Start) -> None:
    proxy, _, other = both(OPENAI.reply("no"))
    body = {"model": "claude-x", "messages": ASK["messages"], "tools": TOOLS}
    response = httpx.post(f"{proxy.url}/v1/messages/count_tokens", json=body)
    assert response.headers["x-ccfallback-estimate"] == "1"
    assert other.received == []


LOOP: list[dict[str, Any]] = [
    {"role": "user", "content": "hi"},
    {
        "role": "assistant",
        "content": [
            {"type": "thinking", "thinking": "Let me see.", "signature": "Z2VudWluZQ=="},
            {"type": "tool_use", "id": "call_1", "name": "List", "input": {}},
        ],
    },
    {
        "role": "user",
        "content": [
            {"type": "tool_result", "tool_use_id": "call_1", "content": "a.py"},
            {"type": "text", "text": "Go on."},
        ],
    },
]


def lacks_thinking(body: dict[str, Any]) -> str:
    if all("reasoning_content" in each for each in body["messages"] if each["role"] == "assistant"):
        return ""
    return "The `reasoning_content` in the thinking mode must be passed back to the API."


def forces_a_call(body: dict[str, Any]) -> str:
    if body["tool_choice"] == "auto":
        return ""
    return "tool_choice 'required' is incompatible with thinking enabled"


def has_a_user_after_a_result(body: dict[str, Any]) -> str:
    roles = [each["role"] for each in body["messages"]]
    if ("tool", "user") not in pairwise(roles):
        return ""
    return "Conversation roles must alternate user/assistant/user/assistant/..."


@pytest.mark.parametrize("plain_form", ["true", "false"])
@pytest.mark.parametrize(
    ("find_fault", "name"),
    [
        (lacks_thinking, "dialect_thoughts"),
        (forces_a_call, "forced_tool"),
        (has_a_user_after_a_result, "dialect_order"),
    ],
)
def test_a_refusal_is_repaired_in_the_providers_format_and_learned(
    both: Start, find_fault: Callable[[dict[str, Any]], str], name: str, plain_form: str
) -> None:
    async def picky(request: Received, connection: scripted.Connection) -> None:
        fault = find_fault(request.json)
        script = OPENAI.reply("served")
        if fault:
            script = scripted_openai.error(400, "invalid_request_error", fault)
        await script(request, connection)

    proxy, _, other = both(picky, last=f"[rectifier]\nplain_form = {plain_form}\n")
    ask = {**ASK, "messages": LOOP, "tool_choice": {"type": "any"}}
    for received in (2, 3):
        assert "served" in httpx.post(f"{proxy.url}/v1/messages", json=ask).text
        assert len(other.received) == received
    assert [record["data"]["rectifier"] for record in proxy.events("rectifier.applied")] == [name]
    assert [lesson["rectifier"] for lesson in proxy.state["other"]["learned"]] == [name]
    assert proxy.state["other"]["consecutiveFailures"] == 0


def test_a_refusal_of_what_was_not_sent_is_not_answered_with_the_same_request(both: Start) -> None:
    fault = "context_management: Extra inputs are not permitted"
    proxy, _, other = both(
        scripted_openai.error(400, "invalid_request_error", fault),
        last="[rectifier]\nplain_form = false\n",
    )
    ask = {**ASK, "context_management": {"edits": []}}
    assert httpx.post(f"{proxy.url}/v1/messages", json=ask).status_code == 502
    assert len(other.received) == 1
