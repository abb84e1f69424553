"""What the client calls its tools is what it reads in the answer."""

from itertools import pairwise
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ccfallback.config.model import Provider
from ccfallback.messages.assemble import to_message
from ccfallback.messages.body import Body
from ccfallback.simulator.scripted import events_of, message
from ccfallback.wire.anthropic import ANTHROPIC
from ccfallback.wire.tool_names import RenamingStream, with_client_names

PROVIDER = Provider(name="b", base_url="https://h.test")
ASKED = Body.parse(b'{"model":"m"}')
NAMES = {"a_b": "a.b"}


def call(name: Any) -> dict[str, Any]:
    return {"type": "tool_use", "id": "t", "name": name, "input": {"name": "a_b"}}


def answer(*names: Any) -> bytes:
    content = [{"type": "text", "text": '"tool_use" of a_b'}, *map(call, names)]
    return msgspec.json.encode(message(content))


def names_in(raw: bytes) -> list[Any]:
    content = msgspec.json.decode(raw)["content"]
    return [block["name"] for block in content if block["type"] == "tool_use"]


def test_a_whole_answer() -> None:
    whole = with_client_names(ANTHROPIC.whole(answer("a_b", "Bash"), ASKED, PROVIDER), NAMES)
    assert names_in(whole.body) == ["a.b", "Bash"]
    assert whole.usage.output_tokens == 7
    content = msgspec.json.decode(whole.body)["content"]
    assert content[0]["text"] == '"tool_use" of a_b'
    assert content[1]["input"] == {"name": "a_b"}


@pytest.mark.parametrize(
    "raw",
    [
        answer("Bash"),
        answer(7, None),
        answer(),
        b"no JSON",
        b'{"type":"error","error":{"type":"tool_use"}}',
        b'{"content":"tool_use"}',
    ],
)
def test_what_names_no_such_tool_stays_byte_for_byte(raw: bytes) -> None:
    plain = ANTHROPIC.whole(raw, ASKED, PROVIDER)
    assert with_client_names(plain, NAMES) == plain


@given(st.lists(st.integers(0, 2000), max_size=6))
def test_a_stream_wherever_it_is_cut(cuts: list[int]) -> None:
    raw = b"".join(events_of(answer("a_b", "Bash")))
    edges = sorted({0, len(raw), *(cut for cut in cuts if cut < len(raw))})
    translator = RenamingStream(ANTHROPIC.stream(ASKED, PROVIDER), NAMES)
    made = b"".join(translator.feed(raw[a:b]) for a, b in pairwise(edges))
    made += translator.finish()
    assert names_in(to_message(made)) == ["a.b", "Bash"]
    assert translator.complete
    assert translator.finished
    assert translator.started
    assert translator.usage.output_tokens == 7
    untouched = [
        event for event in events_of(answer("a_b", "Bash")) if b'"name":"a_b"' not in event
    ]
    assert all(event in made for event in untouched)


def test_an_error_in_a_stream_is_still_one() -> None:
    translator = RenamingStream(ANTHROPIC.stream(ASKED, PROVIDER), NAMES)
    error = b'event: error\ndata: {"type":"error","error":{"type":"overloaded_error"}}\n\n'
    assert translator.feed(error) == b""
    assert translator.error is not None
    assert translator.error.type == "overloaded_error"


def test_odd_events_pass() -> None:
    translator = RenamingStream(ANTHROPIC.stream(ASKED, PROVIDER), NAMES)
    for odd in (b'data: ["tool_use"]\n\n', b'data: {"content_block":"tool_use"}\n\n'):
        assert translator.feed(odd) == odd
