"""OpenRouter's details: fragments of a stream, put together as they were."""

from typing import Any

from ccfallback.wire.openai.details import Details, envelope


def test_fragments_of_one_detail_become_one() -> None:
    details = Details()
    head = {"type": "reasoning.text", "index": 0, "format": "f"}
    first: dict[str, Any] = {**head, "text": "a"}
    for item in (first, {**head, "text": "b"}, {**head, "text": None, "signature": "s"}):
        details.add([item])
    details.add([{"type": "reasoning.encrypted", "index": 1, "data": "x"}, "rubbish"])
    assert details
    assert details.envelope() == {
        "reasoning_details": [
            {**head, "text": "ab", "signature": "s"},
            {"type": "reasoning.encrypted", "index": 1, "data": "x"},
        ]
    }
    assert first["text"] == "a"


def test_they_are_handed_over_once() -> None:
    details = Details()
    details.add([{"type": "a"}])
    assert details.envelope() is not None
    assert not details
    assert details.envelope() is None


def test_what_is_no_list_is_nothing() -> None:
    details = Details()
    details.add("x")
    details.add(None)
    assert not details
    assert envelope("x") is None
    assert envelope([]) is None
