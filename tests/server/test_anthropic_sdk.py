"""The official client accepts what the proxy sends, streaming and not."""

import asyncio
from collections.abc import Callable
from typing import Any

import anthropic
import msgspec
import pytest

from ccfallback.messages.sse import data_of, json_event
from ccfallback.simulator import scripted
from ccfallback.simulator.scripted import Connection, Hangup, Received
from tests.conftest import Chain

CONTENT: list[dict[str, Any]] = [
    {"type": "thinking", "thinking": "Let me see.", "signature": "c2lnbmVk"},
    {"type": "text", "text": "Two calls - one é and one 漢."},
    {"type": "tool_use", "id": "toolu_1", "name": "Read", "input": {"path": "a", "lines": [1, 2]}},
    {"type": "tool_use", "id": "toolu_2", "name": "List", "input": {}},
]
ASK = {"model": "claude-x", "max_tokens": 100, "messages": [{"role": "user", "content": "hi"}]}


def client(chain: Chain, retries: int = 0) -> anthropic.Anthropic:
    """The official client, pointed at the proxy."""
    return anthropic.Anthropic(base_url=chain.url, api_key="users-key", max_retries=retries)


def plain(message: anthropic.types.Message) -> list[dict[str, object]]:
    """The content as it was scripted."""
    return [block.model_dump(exclude_none=True) for block in message.content]


@pytest.mark.parametrize("fault", [None, scripted.error(529, "overloaded_error"), scripted.html()])
def test_a_whole_message_arrives(
    chain: Callable[..., Chain], fault: scripted.Script | None
) -> None:
    answer = scripted.reply(CONTENT, stop_reason="tool_use")
    running = chain(fault or answer, answer)
    with client(running) as official:
        message = official.messages.create(**ASK)  # type: ignore[call-overload]  # plain data
    assert plain(message) == CONTENT
    assert message.stop_reason == "tool_use"
    assert message.usage.output_tokens == 7


@pytest.mark.parametrize("fault", [None, scripted.error(500, "api_error"), scripted.reset])
def test_a_stream_adds_up_to_the_message(
    chain: Callable[..., Chain], fault: scripted.Script | None
) -> None:
    answer = scripted.reply(CONTENT, stop_reason="tool_use")
    running = chain(fault or answer, answer)
    with (
        client(running) as official,
        official.messages.stream(**ASK) as stream,  # type: ignore[arg-type]  # plain data
    ):
        message = stream.get_final_message()
    assert plain(message) == CONTENT
    assert message.usage.input_tokens == 12


def test_text_and_events_have_the_form_that_the_client_expects(chain: Callable[..., Chain]) -> None:
    running = chain(*[scripted.reply(CONTENT, stop_reason="tool_use")] * 2)
    with client(running) as official:
        asked = official.messages.stream(**ASK)  # type: ignore[arg-type]  # plain data
        with asked as stream:
            assert "".join(stream.text_stream) == CONTENT[1]["text"]
            assert plain(stream.get_final_message()) == CONTENT
        again = official.messages.stream(**ASK)  # type: ignore[arg-type]  # plain data
        with again as stream:
            events = list(stream)
    finished = [event for event in events if event.type == "content_block_stop"]
    assert [event.index for event in finished] == [0, 1, 2, 3]
    assert [event.content_block.model_dump(exclude_none=True) for event in finished] == CONTENT


def test_a_dropped_stream_raises_and_the_next_request_succeeds(chain: Callable[..., Chain]) -> None:
    async def cut(_request: Received, _connection: Connection) -> None:
        raise Hangup

    events = scripted.events_of(msgspec.json.encode(scripted.message(CONTENT)))
    running = chain(scripted.stream(events[:4], then=cut), scripted.reply(CONTENT))
    with client(running) as official:
        first = official.messages.stream(**ASK)  # type: ignore[arg-type]  # plain data
        with first as stream, pytest.raises(Exception, match=r"closed|incomplete|peer"):
            stream.get_final_message()
        second = official.messages.stream(**ASK)  # type: ignore[arg-type]  # plain data
        with second as stream:
            assert plain(stream.get_final_message()) == CONTENT


def without_names(event: bytes) -> bytes:
    return event[event.index(b"data: ") :]


def inputs_in_the_starts(events: list[bytes]) -> list[bytes]:
    """The events with each call's input in its start, and only an empty piece after it."""
    whole = []
    for event in events:
        value = msgspec.json.decode(data_of(event))
        if value.get("content_block", {}).get("type") == "tool_use":
            value["content_block"]["input"] = CONTENT[value["index"]]["input"]
        elif value.get("delta", {}).get("type") == "input_json_delta":
            value["delta"]["partial_json"] = ""
        whole.append(json_event(value))
    return whole


def numbered_alike(events: list[bytes]) -> list[bytes]:
    values = [msgspec.json.decode(data_of(event)) for event in events]
    return [json_event({**value, "index": 0} if "index" in value else value) for value in values]


ODD: dict[str, Callable[[list[bytes]], list[bytes]]] = {
    "no names": lambda events: [without_names(event) for event in events],
    "one name": lambda events: [b"event: message\n" + without_names(event) for event in events],
    "one index for all blocks": numbered_alike,
    "inputs in the starts": inputs_in_the_starts,
    "no ends of blocks": lambda events: [e for e in events if b"content_block_stop" not in e],
    "inputs in the starts, no ends": lambda events: [
        e for e in inputs_in_the_starts(events) if b"content_block_stop" not in e
    ],
}


@pytest.mark.parametrize("kind", ODD)
def test_a_fallbacks_odd_stream_adds_up_to_the_message(
    chain: Callable[..., Chain], kind: str
) -> None:
    events = scripted.events_of(
        msgspec.json.encode(scripted.message(CONTENT, stop_reason="tool_use"))
    )
    running = chain(scripted.error(500, "api_error"), scripted.stream(ODD[kind](events)))
    asked = client(running)
    with asked as official, official.messages.stream(**ASK) as stream:  # type: ignore[arg-type]  # plain data
        message = stream.get_final_message()
    assert plain(message) == CONTENT
    assert message.stop_reason == "tool_use"


def test_a_stream_that_no_client_can_read_goes_on_at_the_next_provider(
    chain: Callable[..., Chain],
) -> None:
    events = scripted.events_of(msgspec.json.encode(scripted.message(CONTENT)))
    bad = [events[0], *events[2:]]
    running = chain(scripted.error(500, "api_error"), scripted.stream(bad), scripted.reply(CONTENT))
    asked = client(running)
    with asked as official, official.messages.stream(**ASK) as stream:  # type: ignore[arg-type]  # plain data
        assert plain(stream.get_final_message()) == CONTENT


def test_a_stream_that_no_client_can_read_on_is_dropped(chain: Callable[..., Chain]) -> None:
    events = scripted.events_of(msgspec.json.encode(scripted.message(CONTENT)))

    async def go_on(_request: Received, connection: Connection) -> None:
        await asyncio.sleep(0.1)
        for event in [events[0], *events[2:]]:
            await connection.chunk(event)

    running = chain(scripted.error(500, "api_error"), scripted.stream(events[:3], then=go_on))
    with client(running) as official:
        asked = official.messages.stream(**ASK)  # type: ignore[arg-type]  # plain data
        with asked as stream, pytest.raises(Exception, match=r"closed|incomplete|peer"):
            stream.get_final_message()


def test_the_proxys_own_errors_are_understood(chain: Callable[..., Chain]) -> None:
    running = chain(scripted.error(500, "api_error"), scripted.error(529, "overloaded_error"))
    with client(running) as official, pytest.raises(anthropic.InternalServerError) as caught:
        official.messages.create(**ASK)  # type: ignore[call-overload]  # plain data
    assert caught.value.status_code == 502
    assert "All providers failed" in str(caught.value)


def test_tokens_are_counted(chain: Callable[..., Chain]) -> None:
    running = chain(scripted.error(404, "not_found_error"))
    with client(running) as official:
        counted = official.messages.count_tokens(
            model="claude-x", messages=[{"role": "user", "content": "hello"}]
        )
    assert counted.input_tokens > 0
