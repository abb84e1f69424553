"""Blocks of content: what they become, and what stands for those that can't be sent."""

from typing import Any

import pytest

from ccfallback.config.quirks import Quirks
from ccfallback.wire.openai.content import parts_of

from .asked import image, text

PDF = {"type": "base64", "media_type": "application/pdf", "data": "JVBE"}


def document(source: Any, **members: Any) -> dict[str, Any]:
    return {"type": "document", "source": source, **members}


def one_text(block: Any, quirks: Quirks = Quirks()) -> str:  # noqa: B008
    (part,) = parts_of([block], quirks)
    assert part["type"] == "text"
    return str(part["text"])


@pytest.mark.parametrize(
    ("source", "url"),
    [
        (
            {"type": "base64", "media_type": "image/gif", "data": "A A\n"},
            "data:image/gif;base64,AA",
        ),
        ({"type": "url", "url": "https://x.y/z.png"}, "https://x.y/z.png"),
    ],
)
def test_an_image_is_a_url(source: Any, url: str) -> None:
    parts = parts_of([{"type": "image", "source": source}], Quirks())
    assert parts == [{"type": "image_url", "image_url": {"url": url}}]


@pytest.mark.parametrize(
    ("block", "quirks", "note"),
    [
        (image(), Quirks(images=False), "[image omitted: image/png]"),
        ({"type": "image"}, Quirks(), "[image omitted]"),
        (
            {"type": "image", "source": {"type": "file", "file_id": "f1"}},
            Quirks(),
            "[image omitted: file f1]",
        ),
        (document(PDF), Quirks(), "[PDF omitted]"),
        (document(PDF, title="Plan"), Quirks(), "[PDF omitted: Plan]"),
        (
            document({"type": "url", "url": "https://x.y/z.pdf"}),
            Quirks(pdf=True),
            "[document omitted: https://x.y/z.pdf]",
        ),
        (
            document({"type": "file", "file_id": "f1"}, title="Plan"),
            Quirks(),
            "[document omitted: Plan, f1]",
        ),
    ],
)
def test_what_cannot_be_sent_is_mentioned(block: Any, quirks: Quirks, note: str) -> None:
    assert one_text(block, quirks) == note


def test_a_document_of_text_begins_with_its_title() -> None:
    source = {"type": "text", "media_type": "text/plain", "data": "Once"}
    assert one_text(document(source, title="Tale", context="old")) == "Tale\n\nold\n\nOnce"
    assert one_text(document({"type": "content", "content": "Once"})) == "Once"


def test_a_document_of_blocks_is_its_blocks() -> None:
    block = document({"type": "content", "content": [text("a"), image()]}, title="Tale")
    kinds = [part["type"] for part in parts_of([block], Quirks())]
    assert kinds == ["text", "text", "image_url"]


@pytest.mark.parametrize(
    ("title", "name"), [("Plan", "Plan.pdf"), ("a.pdf", "a.pdf"), ("", "document.pdf")]
)
def test_a_pdf_is_a_file_where_files_are_taken(title: str, name: str) -> None:
    assert parts_of([document(PDF, title=title)], Quirks(pdf=True)) == [
        {
            "type": "file",
            "file": {"filename": name, "file_data": "data:application/pdf;base64,JVBE"},
        }
    ]


def test_a_search_result_is_told() -> None:
    block = {"type": "search_result", "title": "T", "source": "u", "content": [text("x")]}
    assert one_text(block) == "T\nu\nx"


def test_cache_marks_are_kept_only_where_they_are_understood() -> None:
    block = text("x", cache_control={"type": "ephemeral", "ttl": "1h", "scope": "global"})
    assert parts_of([block], Quirks()) == [text("x")]
    assert parts_of([block], Quirks(cache_control=True)) == [
        text("x", cache_control={"type": "ephemeral"})
    ]


@pytest.mark.parametrize(
    "block",
    [{}, {"type": "fallback"}, {"type": []}, {"type": "text"}, {"type": "text", "text": " \n"}],
)
def test_what_says_nothing_is_dropped(block: Any) -> None:
    assert parts_of([block], Quirks()) == []
