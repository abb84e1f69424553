"""The estimate of a prompt's tokens: never raises, and grows with the prompt."""

import json
from base64 import b64encode
from pathlib import Path
from struct import pack
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ccfallback.messages.body import Body
from ccfallback.messages.tokens import (
    FORMAT_AT_ALL,
    IMAGE,
    NEWER_TOOLS_AT_ALL,
    PAGE,
    TOOLS_AT_ALL,
    UNKNOWN_DOCUMENT,
    Usage,
    estimate,
)


def body(**members: Any) -> Body:
    return Body.parse(json.JSONEncoder().encode(members).encode())


def content(*blocks: Any) -> int:
    return estimate(body(messages=[{"role": "user", "content": list(blocks)}]))


def text(value: str) -> dict[str, Any]:
    return {"type": "text", "text": value}


@pytest.mark.parametrize(
    "members", [{}, {"messages": []}, {"messages": None}, {"messages": "x"}, {"messages": [5]}]
)
def test_nothing_is_one_token(members: dict[str, Any]) -> None:
    assert estimate(body(**members)) == 1


def test_latin_text_is_a_little_overestimated() -> None:
    words = "the quick brown fox jumps over the lazy dog " * 100
    assert 900 < content(text(words)) < 1500


def test_other_scripts_are_denser() -> None:
    assert 1000 <= content(text("漢" * 1000)) <= 1100
    assert content(text("я" * 1000)) > content(text("a" * 1000))


def test_an_image_counts_the_same_whatever_its_bytes() -> None:
    small, big = (
        {"type": "image", "source": {"type": "base64", "data": "A" * size}} for size in (10, 100000)
    )
    assert content(small) == content(big) == IMAGE + 4


@pytest.mark.parametrize("block", [
    {"type": "thinking", "thinking": "", "signature": "A" * 10000},
    {"type": "redacted_thinking", "data": "A" * 10000},
    {"type": "text", "text": "", "cache_control": {"type": "ephemeral"}},
])  # fmt: skip
def test_only_text_for_the_model_is_counted(block: dict[str, Any]) -> None:
    assert content(block) < 20


def test_documents() -> None:
    encoded = {"type": "document", "source": {"type": "base64", "data": "A" * 50_000}}
    plain = {"type": "document", "source": {"type": "text", "data": "A" * 3100}}
    nested = {"type": "document", "source": {"type": "content", "content": [text("A" * 3100)]}}
    assert content(encoded) == UNKNOWN_DOCUMENT + 4
    assert content(plain) == 1004
    assert 1004 <= content(nested) <= 1010
    assert content({"type": "document"}) == 4


def test_tools_cost_something_at_all() -> None:
    tool = {"name": "Bash", "description": "d" * 300, "input_schema": {"type": "object"}}
    with_one = estimate(body(tools=[tool]))
    assert with_one > TOOLS_AT_ALL
    assert estimate(body(tools=[tool, tool])) > with_one
    assert estimate(body(tools=[])) == 1


def test_tool_uses_and_results() -> None:
    use = {"type": "tool_use", "id": "t", "name": "Bash", "input": {"command": "x" * 340}}
    result = {"type": "tool_result", "tool_use_id": "t", "content": [text("x" * 340)]}
    assert content(use) > 100
    assert content(result) > 100


def test_no_nesting_is_too_deep() -> None:
    nested: Any = "x"
    for _ in range(700):
        nested = {"type": "tool_result", "content": [nested]}
    raw = "x"
    for _ in range(300):
        raw = f'{{"c":[{raw}]}}' if raw != "x" else '"x"'
    assert estimate(Body.parse(f'{{"system":{raw}}}'.encode())) >= 1
    try:
        deep = body(messages=[{"content": nested}])
    except RecursionError:
        return
    assert estimate(deep) >= 1


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=20),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(
            st.sampled_from(["type", "text", "source", "data", "content", "input", "name"]),
            inner | st.sampled_from(["image", "document", "tool_use", "text", "base64"]),
            max_size=4,
        )
    ),
    max_leaves=15,
)


@given(system=JSON, tools=JSON, messages=JSON)
def test_any_body_has_an_estimate(system: Any, tools: Any, messages: Any) -> None:
    assert estimate(body(system=system, tools=tools, messages=messages)) >= 1


@given(value=st.text(max_size=60), more=st.text(max_size=60))
def test_more_text_is_never_fewer_tokens(value: str, more: str) -> None:
    assert content(text(value)) <= content(text(value + more))


COUNTED = {
    "bare": 60,
    "first_turn": 2475,
    "no_tools": 86,
    "parallel_results": 1527,
    "thinking_and_result": 1510,
    "tool_reference": 1740,
}
"""What the tokenizer that version 0.34 of the official client carried counts in the texts of real
requests, with 4 for each message and 350 for tools at all."""


@pytest.mark.parametrize("name", COUNTED)
def test_real_requests_are_estimated_within_a_quarter(name: str) -> None:
    case = Path(__file__).parent.parent / "wire/openai/cases/request" / f"{name}.json"
    # That tokenizer is the one of older models.
    asked = {**msgspec.json.decode(case.read_bytes())["asked"], "model": "claude-3-5-sonnet"}
    assert 0.75 < estimate(body(**asked)) / COUNTED[name] < 1.25


def test_an_image_counts_by_its_size() -> None:
    png = b"\x89PNG\r\n\x1a\n" + pack(">I4sII", 13, b"IHDR", 560, 280)
    source = {"type": "base64", "media_type": "image/png", "data": b64encode(png).decode()}
    assert content({"type": "image", "source": source}) == 204


@pytest.mark.parametrize("count", [-1, 2**53, 10**40, 1.5, True, None, "7"])
def test_a_count_that_no_reader_can_hold_is_ignored(count: object) -> None:
    usage = Usage(input_tokens=3)
    usage.take({"input_tokens": count, "output_tokens": 2**53 - 1})
    assert (usage.input_tokens, usage.output_tokens) == (3, 2**53 - 1)


def test_the_pages_of_a_pdf_are_counted() -> None:
    pdf = b"%PDF-1.4 << /Type /Pages >> << /Type /Page >> << /Type/Page >>"
    source = {"type": "base64", "data": b64encode(pdf).decode()}
    assert content({"type": "document", "source": source}) == 2 * PAGE + 4
    for source in ({"type": "url", "url": "x"}, {"type": "file", "file_id": "x"}):
        assert content({"type": "document", "source": source}) == UNKNOWN_DOCUMENT + 4


def test_numbers_and_json_have_more_tokens_than_words() -> None:
    words = content(text("seven words and some more " * 40))
    numbers = content(text("1, 22, 333, 4444, 55555, 6 " * 40))
    data = content(text('{"a":1,"b":[22,{"c":"d"}]}' * 40))
    assert numbers > words * 1.15
    assert data > words * 1.3


def test_what_a_model_adds_depends_on_its_version() -> None:
    tool = {"name": "A", "description": "d" * 280, "input_schema": {}}
    models = ("claude-opus-4-1", "claude-opus-4-5")
    older, newer = (estimate(body(model=model, tools=[tool])) for model in models)
    assert newer - older == NEWER_TOOLS_AT_ALL - TOOLS_AT_ALL
    said = [{"role": "user", "content": "word " * 1000}]
    dense = estimate(body(model="claude-opus-5-5", messages=said))
    assert dense > 1.1 * estimate(body(model="claude-sonnet-4-5-20250929", messages=said))


def test_a_schema_for_the_answer_is_counted() -> None:
    schema = {"type": "json_schema", "schema": {"type": "object", "title": "x" * 280}}
    assert estimate(body(output_config={"format": schema})) > FORMAT_AT_ALL + 100
