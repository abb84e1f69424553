"""Citations of the user, documents of the assistant."""

from typing import Any

import pytest

from ccfallback.rectify.citations import CITATIONS
from tests.rectify.refused import REFUSED
from tests.rectify.structure import MARK, assistant, document, made, repaired, text, user

CITED = [{"type": "char_location", "cited_text": "a"}]
HI = user(text("hi"))


def plain(data: str, **more: Any) -> dict[str, Any]:
    return {"type": "document", "source": {"type": "text", "data": data}, **more}


@pytest.mark.parametrize("words", REFUSED["citations"])
def test_both_become_plain_text(words: str) -> None:
    messages = [
        user(text("a", citations=CITED, **MARK), document(citations={"enabled": True})),
        assistant(text("b", citations=CITED), plain("c", title="T", context="C", **MARK)),
    ]
    repair = repaired(CITATIONS, {"messages": messages}, words)
    assert repair is not None
    assert repair.changed == (
        "1 user message left without citations, 1 assistant message with documents turned into text"
    )
    body = made(CITATIONS, {"messages": messages}, repair.lesson or "")
    assert body["messages"] == [
        user(text("a", **MARK), document(citations={"enabled": True})),
        assistant(text("b", citations=CITED), text("T\n\nC\n\nc", **MARK)),
    ]


@pytest.mark.parametrize(
    ("block", "words"),
    [
        (document(), "[document omitted]"),
        (document(title="T"), "[document omitted: T]"),
        (plain("x"), "x"),
        (plain(" "), "[document omitted]"),
        ({"type": "document", "source": {"type": "content", "content": "x"}}, "x"),
        ({"type": "document", "source": {"type": "content", "content": [text("x")]}}, "x"),
        ({"type": "document"}, "[document omitted]"),
    ],
)
def test_a_document_is_the_text_that_it_is(block: dict[str, Any], words: str) -> None:
    body = made(CITATIONS, {"messages": [HI, assistant(block)]}, REFUSED["citations"][0])
    assert body["messages"][1] == assistant(text(words))


def test_where_there_are_none_nothing_is_to_do() -> None:
    messages = [user(text("a", citations=[]), document()), assistant(text("b", citations=CITED))]
    for words in REFUSED["citations"]:
        assert repaired(CITATIONS, {"messages": messages}, words) is None
