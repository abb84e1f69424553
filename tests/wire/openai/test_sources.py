"""The pages that a provider has searched are listed at the end of an answer."""

from typing import Any

import msgspec
import pytest

from ccfallback.messages.assemble import to_message
from ccfallback.wire.openai.stream import whole
from tests.wire.openai import grammar
from tests.wire.openai.upstream import (
    ASKED,
    DONE,
    body,
    calls,
    chunk,
    completion,
    piece,
    translate,
)

PAGE = {"url": "https://a.example/x", "title": "A page"}
LIST = "Hello[1]\n\nSources:\n[1] A page (https://a.example/x)"
CITED = [{"type": "url_citation", "url_citation": {**PAGE, "start_index": 1}}]
SEARCHED = [{"type": "search", "search_results": {"results": [{**PAGE, "content": "..."}]}}]

NAMED: list[tuple[dict[str, Any], dict[str, Any]]] = [
    # OpenAI and OpenRouter, an annotation without the inner object, Groq
    ({"annotations": CITED}, {}),
    ({"annotations": [{"type": "url_citation", **PAGE}]}, {}),
    ({"executed_tools": SEARCHED}, {}),
    # Perplexity
    ({}, {"citations": [PAGE["url"]], "search_results": [PAGE]}),
]


def text_of(answer: bytes) -> str:
    return str(msgspec.json.decode(answer)["content"][0]["text"])


@pytest.mark.parametrize(("members", "more"), NAMED)
def test_sources_of_a_whole_answer(members: dict[str, Any], more: dict[str, Any]) -> None:
    raw = completion({"content": "Hello[1]", **members}, **more)
    assert text_of(whole(raw, ASKED).body) == LIST


@pytest.mark.parametrize(("members", "more"), NAMED)
def test_sources_of_a_stream(members: dict[str, Any], more: dict[str, Any]) -> None:
    # Perplexity repeats them in each chunk.
    reads = [chunk({"content": "Hello"}, **more), chunk({"content": "[1]", **members}, **more)]
    translated = translate(*reads, chunk({}, "stop", **more), DONE)
    grammar.obey(translated)
    assert text_of(to_message(translated.out)) == LIST


def test_a_page_is_listed_once_and_keeps_its_number() -> None:
    pages = ["https://a.example", "https://b.example", "https://a.example"]
    found = [{"url": "https://b.example", "title": "B\n b"}]
    raw = completion({"content": "x"}, citations=pages, search_results=found)
    assert text_of(whole(raw, ASKED).body).splitlines()[2:] == [
        "Sources:",
        "[1] https://a.example",
        "[2] B b (https://b.example)",
    ]


@pytest.mark.parametrize(
    "citations",
    [
        None,
        {},
        "https://a.example",
        [3, None, {}, {"url": 3}, {"url": "javascript:x"}],
        ["https://a.example/\n[2]", "https://a b", "https://" + "a" * 3000],
    ],
)
def test_what_is_not_an_address_is_not_listed(citations: Any) -> None:
    raw = completion({"content": "x", "annotations": citations}, citations=citations)
    assert text_of(whole(raw, ASKED).body) == "x"


def test_no_more_than_fifty_pages_are_listed() -> None:
    pages = [f"https://a.example/{number}" for number in range(1000)]
    raw = completion({"content": "x"}, citations=pages)
    assert text_of(whole(raw, ASKED).body).count("https://") == 50


def test_an_answer_that_a_program_reads_has_no_list() -> None:
    schema = {"type": "json_schema", "schema": {"type": "object"}}
    asked = body(output_config={"format": schema})
    assert text_of(whole(completion({"content": "{}", "annotations": CITED}), asked).body) == "{}"
    cut = completion({"content": "x", "annotations": CITED}, "length")
    assert text_of(whole(cut, ASKED).body) == "x"


def test_a_call_is_not_followed_by_a_list() -> None:
    reads = [chunk({"content": "x", "annotations": CITED}), calls(piece(0, "c", "Bash", "{}"))]
    translated = translate(*reads, chunk({}, "tool_calls"), DONE)
    assert "Sources" not in translated.out.decode()
