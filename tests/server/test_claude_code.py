"""The real Claude Code finishes a task that needs a tool, whatever the primary does.

`claude_code` says how to run these tests.
"""

from base64 import b64decode
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from ccfallback.simulator import scripted, scripted_openai
from ccfallback.simulator.scripted import Received, Script, ScriptedUpstream, in_a_moment
from ccfallback.simulator.scripted_openai import OPENAI
from tests.conftest import RunningProxy
from tests.server.claude_code import USERS_KEY, needs_claude, run_claude, writes_a_file
from tests.server.plain_api import strict

pytestmark = needs_claude


def half_a_stream() -> Script:
    """Some text, then the connection is gone."""
    events = scripted.events_of(msgspec.json.encode(scripted.message("I will wr")))
    return scripted.stream(events[:3], then=scripted.reset)


def error_event() -> Script:
    """An error where the first event should be."""
    error = {"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}}
    return scripted.stream([b"event: error\ndata: " + msgspec.json.encode(error) + b"\n\n"])


FAULTS: dict[str, Script | None] = {
    "ok": None,
    "429": scripted.error(429, "rate_limit_error", headers={"retry-after": "3600"}),
    "529": scripted.error(529, "overloaded_error"),
    "401": scripted.error(401, "authentication_error"),
    "500": scripted.error(500, "api_error"),
    "refused": None,
    "html": scripted.html(),
    "error event": error_event(),
    "cut after text": half_a_stream(),
    "hang": scripted.hang,
}


@pytest.mark.parametrize("fault", FAULTS)
def test_claude_code_finishes_its_task(
    fault: str,
    tmp_path: Path,
    running: Callable[[str], RunningProxy],
    upstream: Callable[..., ScriptedUpstream],
) -> None:
    written = tmp_path / "work" / "hello.txt"
    primary, fallback = upstream(), upstream()
    script = FAULTS[fault]
    if script is None:
        primary.route = writes_a_file(written)
    else:
        primary.script(script)
    fallback.route = writes_a_file(written)
    address = "http://127.0.0.1:1" if fault == "refused" else primary.url
    proxy = running(
        f'[primary]\nbase_url = "{address}"\ntimeouts = {{ first_byte = 1 }}\n'
        f'[[providers]]\nname = "spare"\nbase_url = "{fallback.url}"\napi_key = "spare-key"\n'
    )
    result = run_claude(proxy.url, tmp_path)
    assert result["is_error"] is False
    assert "written" in result["result"]
    assert written.read_text() == "written by the tool\n"
    answered = proxy.events("request.complete", "request.error")
    assert len(answered) == len(proxy.events("request.start"))
    assert all(record["requestId"].startswith("ccr-") for record in answered)
    for request in fallback.received:
        assert USERS_KEY not in str(request.headers)
        assert USERS_KEY.encode() not in request.body


THINKING = {"type": "thinking", "thinking": "A file.", "signature": "c2NyaXB0ZWQ="}
TEXT = {"type": "text", "text": "I will count."}


@pytest.mark.parametrize(
    ("kinds", "end", "runs"),
    [
        (["text"], 4, 0),
        (["text", "call"], 6, 0),
        (["text", "call"], 7, 1),
        (["thinking"], 5, 0),
        (["thinking", "text"], 7, 0),
        (["thinking", "call"], 7, 0),
        (["thinking", "text", "call"], 10, 0),
        (["thinking", "text", "call"], 11, 1),
    ],
    ids=lambda value: "-".join(value) if isinstance(value, list) else str(value),
)
def test_claude_code_goes_on_wherever_the_primary_is_cut(
    kinds: list[str],
    end: int,
    runs: int,
    tmp_path: Path,
    running: Callable[[str], RunningProxy],
    upstream: Callable[..., ScriptedUpstream],
) -> None:
    written, counted = tmp_path / "work" / "hello.txt", tmp_path / "work" / "counted.txt"
    arguments = {"command": f"echo once >> {counted}", "description": "count"}
    call = {"type": "tool_use", "id": "toolu_cut", "name": "Bash", "input": arguments}
    blocks: dict[str, dict[str, Any]] = {"thinking": THINKING, "text": TEXT, "call": call}
    whole = scripted.message([blocks[kind] for kind in kinds], stop_reason="tool_use")
    events = scripted.events_of(msgspec.json.encode({**whole, "id": "msg_cut"}))[:end]
    primary = upstream(scripted.stream(events, then=in_a_moment(scripted.close)))
    fallback = upstream()
    done: list[Received] = []

    def is_of_the_turn(request: Received) -> bool:
        # Clients of 2025 also warm the cache for their agents, with a conversation of its own each.
        return b"Create the file" in request.body

    def route(request: Received) -> Script:
        # A tool call in the cut answer does not mean that the file is written.
        if "toolu_1" in request.body.decode():
            if is_of_the_turn(request):
                done.append(request)
            return scripted.reply("The file is written.")
        arguments = {"file_path": str(written), "content": "written by the tool\n"}
        write = {"type": "tool_use", "id": "toolu_1", "name": "Write", "input": arguments}
        return scripted.reply([TEXT, write], stop_reason="tool_use")

    fallback.route = route
    proxy = running(
        f'[primary]\nbase_url = "{primary.url}"\n'
        f'[[providers]]\nname = "spare"\nbase_url = "{fallback.url}"\napi_key = "spare-key"\n'
    )
    result = run_claude(proxy.url, tmp_path)
    assert result["is_error"] is False
    assert result["result"] == "The file is written."
    assert written.read_text() == "written by the tool\n"
    assert (counted.read_text() if counted.exists() else "") == "once\n" * runs
    assert len(list(filter(is_of_the_turn, primary.received))) == 1
    assert len(done) == 1


PNG = (
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJg"
    "gg=="
)


def works_through_a_list(folder: Path) -> Callable[[Received], Script]:
    """A model of the OpenAI format that takes five steps, one of them twice at once."""

    def call(number: int, name: str, **arguments: str) -> dict[str, Any]:
        return {"type": "tool_use", "id": f"call_{number}", "name": name, "input": arguments}

    image = str(folder / "dot.png")
    written = str(folder / "hello.txt")
    steps: list[list[dict[str, Any]]] = [
        [call(1, "Bash", command="echo one"), call(2, "Bash", command="echo two")],
        [call(3, "Read", file_path=str(folder / "is-not-there.txt"))],
        [call(4, "Read", file_path=image)],
        [call(5, "Write", file_path=written, content="written by the tool\n")],
        [{"type": "text", "text": "All is written."}],
    ]

    def route(request: Received) -> Script:
        body = request.json
        if not body.get("tools"):
            return OPENAI.reply("A title")
        done = sum(message["role"] == "assistant" for message in body["messages"])
        thinking = {"type": "thinking", "thinking": f"Step {done}."}
        return OPENAI.reply([thinking, *steps[done]])

    return route


@pytest.mark.parametrize("cut", [False, True])
def test_claude_code_works_with_a_provider_of_the_openai_format(
    cut: bool,
    tmp_path: Path,
    running: Callable[[str], RunningProxy],
    upstream: Callable[..., ScriptedUpstream],
) -> None:
    work = tmp_path / "work"
    work.mkdir()
    (work / "dot.png").write_bytes(b64decode(PNG))
    primary, fallback = upstream(FAULTS["529"]), upstream()
    good = works_through_a_list(work)
    broken: list[Received] = []

    async def hangup(_request: Received, _connection: scripted.Connection) -> None:
        raise scripted.Hangup

    def route(request: Received) -> Script:
        if cut and request.json.get("tools") and not broken:
            broken.append(request)
            events = scripted_openai.chunks_of([{"type": "text", "text": "I was about to"}])
            return scripted.stream(events[:2], then=hangup)
        return good(request)

    fallback.route = route
    proxy = running(
        f'[primary]\nbase_url = "{primary.url}"\n[[providers]]\nname = "other"\n'
        f'base_url = "{fallback.url}"\nformat = "openai"\napi_key = "spare-key"\n'
    )
    result = run_claude(proxy.url, tmp_path, tools="Bash,Write,Read")
    assert result["is_error"] is False
    assert "All is written" in result["result"]
    assert (work / "hello.txt").read_text() == "written by the tool\n"
    last = fallback.received[-1].json["messages"]
    told = msgspec.json.encode(last).decode()
    assert "one" in told
    assert "data:image/png;base64," in told
    assert any(str(m.get("content")).startswith("Error") for m in last if m["role"] == "tool")
    for request in fallback.received:
        assert USERS_KEY not in str(request.headers)


def test_claude_code_works_with_a_provider_of_the_plain_api(
    tmp_path: Path,
    running: Callable[[str], RunningProxy],
    upstream: Callable[..., ScriptedUpstream],
) -> None:
    written = tmp_path / "work" / "hello.txt"
    primary, fallback = upstream(FAULTS["529"]), upstream()
    good = writes_a_file(written)
    fallback.route = lambda request: strict(good(request))
    proxy = running(
        f'[primary]\nbase_url = "{primary.url}"\n'
        f'[[providers]]\nname = "plain"\nbase_url = "{fallback.url}"\napi_key = "spare-key"\n'
    )
    result = run_claude(proxy.url, tmp_path)
    assert result["is_error"] is False
    assert written.read_text() == "written by the tool\n"
    repaired = {record["requestId"] for record in proxy.events("rectifier.attempt")}
    asked = [record["requestId"] for record in proxy.events("request.start")]
    # Clients of 2025 warm the cache for their agents at the same moment as they ask.
    assert asked[0] in repaired
    assert asked[-1] not in repaired
