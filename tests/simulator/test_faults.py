"""Every fault there is, over real sockets: another provider answers, what was cut is dropped."""

from collections.abc import Callable
from typing import Any

import httpx
import msgspec
import pytest

from ccfallback.messages.assemble import to_message
from ccfallback.simulator import SCRIPTED_FORMATS
from ccfallback.simulator.faults import (
    FAULTS,
    SPECIAL_FAULTS,
    TASK_FAULTS,
    Ends,
    Place,
    ScriptedFault,
)
from ccfallback.simulator.scripted import Connection, Hangup, Received
from ccfallback.simulator.scripted_format import ANTHROPIC, CONTENT, Part, Reason
from ccfallback.wire import FORMATS
from tests.conftest import Chain
from tests.network import ASK, Stage
from tests.simulator import BY_ID

TORN = [
    fault
    for fault in FAULTS
    if fault.id.endswith(("-in-text", "-after-text", "-in-call", "-after-call"))
]
"""Faults that come after the commit point, where the answer is a stream."""


def content_of(response: httpx.Response) -> list[dict[str, Any]]:
    assert response.status_code == 200, response.text
    events = response.headers["content-type"].startswith("text/event-stream")
    raw = to_message(response.content) if events else response.content
    blocks: list[dict[str, Any]] = msgspec.json.decode(raw)["content"]
    return blocks


def failed(fault: ScriptedFault) -> bool:
    return fault.ends is not Ends.WELL


AT = [("anthropic", True), *((name, False) for name in SCRIPTED_FORMATS)]
AT_IDS = ["primary", *SCRIPTED_FORMATS]


@pytest.mark.usefixtures("untraced")
@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
@pytest.mark.parametrize(("wire_format", "primary"), AT, ids=AT_IDS)
@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.id)
def test_an_answer_comes_whatever_a_provider_does(
    stage: Stage, fault: ScriptedFault, wire_format: str, primary: bool, stream: bool
) -> None:
    if primary and fault.fallback_only:
        pytest.skip("from the primary it is an answer")
    if stream and fault in TORN:
        pytest.skip("the next test's")
    if fault.id == "pings-only":
        pytest.skip("takes five minutes; the drill shortens them")
    name = stage.set(fault, wire_format, primary=primary)
    response = stage.ask(stream=stream)
    assert content_of(response) == list(CONTENT)
    answered_by = response.headers["x-ccfallback-provider"]
    failures = stage.proxy.events("provider.failure", "provider.timeout")
    if failed(fault):
        assert answered_by == "well"
        # A refusal that no rule explains is sent once more, in the plain form.
        unexplained = fault.id.startswith(("400-", "413", "422"))
        attempts = {"2", "3"} if unexplained else {"2"}
        assert response.headers["x-ccfallback-attempts"] in attempts
        assert {record["data"]["provider"] for record in failures} == {name}
        assert unexplained or len(failures) == 1
    else:
        assert answered_by == name
        assert failures == []


@pytest.mark.parametrize(("wire_format", "primary"), AT, ids=AT_IDS)
@pytest.mark.parametrize("fault", TORN, ids=lambda fault: fault.id)
def test_what_breaks_after_it_began_is_dropped_and_the_next_try_goes_elsewhere(
    stage: Stage, fault: ScriptedFault, wire_format: str, primary: bool
) -> None:
    name = stage.set(fault, wire_format, primary=primary)
    parts: list[bytes] = []
    with httpx.stream(
        "POST",
        f"{stage.proxy.url}/v1/messages",
        json={**ASK, "stream": True},
        # Only for Claude Code are the ends of blocks held back.
        headers={"x-app": "cli"},
        timeout=30,
    ) as response:
        assert response.headers["x-ccfallback-provider"] == name
        chunks = response.iter_raw()
        with pytest.raises(httpx.RemoteProtocolError):
            parts.extend(chunks)
    seen = b"".join(parts)
    assert b"content_block_delta" in seen
    assert b"message_delta" not in seen
    # The client retries only if it has seen no complete block, or a complete call.
    assert (b"content_block_stop" in seen) is fault.id.endswith("-after-call")
    assert b"event: error" not in seen
    assert seen.endswith(b"\n\n")
    stage.proxy.wait_for("request.error")
    state = stage.proxy.state[name]
    assert state["consecutiveFailures"] == 1
    assert state["cooldownUntil"] > state["lastFailure"]
    again = stage.ask(stream=True)
    assert again.headers["x-ccfallback-provider"] == "well"
    assert again.headers["x-ccfallback-attempts"] == "1"


@pytest.mark.parametrize("part", [Part.TEXT, Part.A_CALL])
def test_what_breaks_in_its_first_read_fails_over_because_nothing_was_sent(
    chain: Callable[..., Chain], part: Part
) -> None:
    at_once = b"".join([*ANTHROPIC.events(CONTENT)[:part], ANTHROPIC.overload_event])

    async def in_one_write(_request: Received, connection: Connection) -> None:
        head = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\r\n"
        await connection.write(head + at_once)
        raise Hangup

    running = chain(in_one_write, ANTHROPIC.works())
    response = httpx.post(f"{running.url}/v1/messages", json={**ASK, "stream": True})
    assert response.headers["x-ccfallback-provider"] == "fallback1"
    assert response.headers["x-ccfallback-attempts"] == "2"
    assert content_of(response) == list(CONTENT)
    assert response.text.count("message_start") == 2, "one event, named twice"


def test_every_fault_has_its_own_id_and_a_line_about_it() -> None:
    special = [fault for faults in SPECIAL_FAULTS.values() for fault in faults]
    faults = [*FAULTS, *TASK_FAULTS, *special]
    assert len(BY_ID) == len(faults)
    assert all(fault.about and len(fault.about) <= 60 for fault in faults)
    assert {fault.place for fault in FAULTS} == set(Place)


def test_every_wire_format_has_its_script() -> None:
    assert set(SCRIPTED_FORMATS) == set(FORMATS)
    for wire in SCRIPTED_FORMATS.values():
        assert set(wire.words) == set(Reason)
        assert len(wire.events(CONTENT)) == 12
