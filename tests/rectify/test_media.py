"""Images and documents that are refused."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ccfallback.rectify import attempt
from ccfallback.rectify.rule import Refusal
from tests.rectify.drafts import (
    MARK,
    PNG,
    assistant,
    body_after,
    conversations,
    document,
    draft_of,
    image,
    repair_body,
    result,
    text,
    user,
)
from tests.rectify.validity import faults

SMALL = "iVBORw0KGgoAAAANSUhEUgAAAGQAAABkAAAA"
"""The head of an image of 100 by 100 pixels."""

WIDE = (
    "messages.0.content.0.image.source.base64.data: dimensions exceed max allowed size: 2000 pixels"
)
MANY = (
    "messages.9.content.9.image: At least one of the image dimensions exceed max allowed size for"
    " many-image requests: 2000 pixels"
)
HEAVY = (
    "messages.0.content.1.image.source.base64: image exceeds 5 MB maximum: 60 bytes > 5242880 bytes"
)
BROKEN = "Could not process image"
KIND = "messages.0.content.0: Image does not match the provided media type image/jpeg"
BLIND = "This model does not support image input"

BIG = image("A" * 5300000)


def note(why: str, kind: str = "image", **more: Any) -> dict[str, Any]:
    return text(f"[{kind} removed: {why}]", **more)


@pytest.mark.parametrize(
    ("blocks", "words", "expected"),
    [
        # Its own, and those that are measured and found as large.
        (
            [image(SMALL), image(), result("a", [image(), text("x")])],
            WIDE,
            [note("too large"), note("too large"), result("a", [note("too large"), text("x")])],
        ),
        ([text("x"), image(SMALL, **MARK)], HEAVY, [text("x"), note("too large", **MARK)]),
        ([image(), text("x"), BIG], HEAVY, [image(), text("x"), note("too large")]),
        (
            [text("x"), result("a", [image(), image()])],
            HEAVY.replace("1.image", "1.content.1"),
            None,
        ),
        ([image(), *[image(SMALL)] * 20], MANY, [note("too large"), *[image(SMALL)] * 20]),
        (
            [image(), image("AAAA"), image(SMALL)],
            BROKEN,
            [image(), note("unreadable"), image(SMALL)],
        ),
        ([image(), image(SMALL)], BROKEN, [note("unreadable")] * 2),
        (
            [image(), image(SMALL)],
            f"messages.0.content.1.image: {BROKEN}",
            [image(), note("unreadable")],
        ),
        ([image(PNG, "image/jpeg"), image()], KIND, [image(), image()]),
        ([image("AAAA"), image("AAAA")], KIND, [note("unreadable"), image("AAAA")]),
        ([image(), document(), text("x")], BLIND, [note("not supported"), document(), text("x")]),
        (
            [image(), document()],
            "This model does not support PDF input",
            [image(), note("not supported", "document")],
        ),
        (
            [document(), text("x"), document()],
            "messages.0.content.2.document: The PDF specified was not valid.",
            [document(), text("x"), note("not accepted", "document")],
        ),
        ([document(), image()], "A maximum of 100 PDF pages may be provided.", None),
        ([image()] * 3, "At most 2 image(s) may be provided", [note("too many"), image(), image()]),
        (
            [image()] * 3,
            "too many images and documents: 3 + 0 > 2",
            [note("too many"), image(), image()],
        ),
        (
            [image(), document()],
            "too much media: 101 document pages + 1 images > 100",
            [image(), note("too many", "document")],
        ),
        (
            [image(), document(), image()],
            "too much media: 99 document pages + 2 images > 100",
            [note("too many"), document(), image()],
        ),
    ],
)
def test_a_note_replaces_what_is_refused(
    blocks: list[Any], words: str, expected: list[Any]
) -> None:
    body = body_after("media", {"messages": [user(*blocks)]}, words)
    if expected is not None:
        assert body["messages"] == [user(*expected)]


def test_an_image_in_a_result_is_named_by_a_longer_path() -> None:
    messages = [user(text("x"), result("a", [image(SMALL), image(SMALL), text("y")]))]
    words = f"messages.0.content.1.tool_result.content.1.image.source: {BROKEN}"
    body = body_after("media", {"messages": messages}, words)
    content = [image(SMALL), note("unreadable"), text("y")]
    assert body["messages"] == [user(text("x"), result("a", content))]
    body = body_after("media", {"messages": messages}, f"messages.0.content.1: {BROKEN}")
    content = [note("unreadable"), note("unreadable"), text("y")]
    assert body["messages"] == [user(text("x"), result("a", content))]


@pytest.mark.parametrize(
    ("words", "lesson", "changed"),
    [
        (
            WIDE,
            "image dimensions exceed max allowed size: 2000 pixels",
            "2 images removed: too large",
        ),
        (
            MANY,
            "image dimensions exceed max allowed size for many-image requests: 2000 pixels",
            "1 image removed: too large",
        ),
        (HEAVY, "image exceeds maximum of 5242880 bytes", "1 image removed: too large"),
        (BLIND, "model does not support image input", "23 images removed: not supported"),
        ("At most 1 image(s) may be provided", "at most 1 images", "22 images removed: too many"),
        (BROKEN, None, "23 images removed: unreadable"),
    ],
)
def test_lessons_are_made_of_numbers(words: str, lesson: str | None, changed: str) -> None:
    messages = [user(image(SMALL), image(SMALL), *[image(SMALL)] * 20), user(image())]
    repair = repair_body("media", {"messages": messages}, words)
    assert repair is not None
    assert (repair.lesson, repair.changed) == (lesson, changed)


@pytest.mark.parametrize(
    ("lesson", "large", "fine"),
    [
        ("image dimensions exceed max allowed size: 2000 pixels", image(), image(SMALL)),
        ("image exceeds maximum of 5242880 bytes", BIG, image()),
        ("model does not support image input", image(), document()),
        ("model does not support document input", document(), image()),
    ],
)
def test_a_lesson_removes_only_what_is_too_large(lesson: str, large: Any, fine: Any) -> None:
    body = body_after("media", {"messages": [user(large, fine)]}, lesson)
    assert body["messages"][0]["content"][1] == fine
    assert repair_body("media", {"messages": [user(fine)]}, lesson) is None


def test_the_limit_for_many_images_spares_few() -> None:
    lesson = "image dimensions exceed max allowed size for many-image requests: 2000 pixels"
    assert repair_body("media", {"messages": [user(*[image()] * 20)]}, lesson) is None
    assert repair_body("media", {"messages": [user(*[image()] * 21)]}, lesson)


@given(conversations(), st.sampled_from([WIDE, HEAVY, BROKEN, KIND, BLIND, "at most 1 images"]))
def test_the_rest_of_the_request_stays(body: Any, words: str) -> None:
    repair = repair_body("media", body, words)
    if repair is None:
        return
    after = body_after("media", body, words)
    assert not faults(after)
    for new, old in zip(after["messages"], body["messages"], strict=True):
        assert len(new["content"]) == len(old["content"])
        for block, was in zip(new["content"], old["content"], strict=True):
            assert block == was or was["type"] in ("image", "document", "tool_result")


@pytest.mark.parametrize(
    "words",
    [
        "This model does not support image types other than image/png",
        "does not support images larger than 5 MB",
        "This model does not support image generation",
        "tools: this model does not support file search",
    ],
)
def test_a_refused_kind_of_image_is_not_a_refusal_of_images(words: str) -> None:
    assert repair_body("media", {"messages": [user(image(), document())]}, words) is None


def test_a_request_without_media_stays() -> None:
    assert (
        repair_body("media", {"messages": [user(text("hi")), assistant(text("ok"))]}, BLIND) is None
    )


def test_a_code_refuses_images_like_words() -> None:
    draft = draft_of({"messages": [user(image(), text("see"))]})
    refusal = Refusal(400, "messages.0.content.0.image: refused", "image_dimensions_too_large")
    repair = attempt("media", draft, refusal)
    assert repair is not None
    assert repair.changed == "1 image removed: too large"
