"""Images and documents that a provider does not accept: a note replaces each of them.

Nothing is resized. If the refusal names a limit, what is over it goes; if it names a place, what
is there goes; otherwise everything of the kind goes.
"""

import re
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final

import msgspec

from ccfallback.messages.media import base64_data, image_size, media_type, with_true_media_type
from ccfallback.messages.patterns import lazy_re
from ccfallback.messages.turns import Block, content_list, kind_of, string, text_block, with_content
from ccfallback.policy.draft import RequestDraft
from ccfallback.rectify.rule import (
    Refusal,
    Repaired,
    Rule,
    describe,
    named_places,
    repaired_messages,
)

_BYTES: Final = lazy_re(r"> ?(\d{4,10}) bytes|maximum of (\d{4,10}) bytes")
_MEGABYTES: Final = lazy_re(r"exceeds (?:the )?(\d{1,3})(?:\.0)? ?mb\b")
_PIXELS: Final = lazy_re(r"\b(\d{3,6}) pixels\b")

_NOTE: Final = lazy_re(r"\[(?:image|document) removed: ")

_MANY: Final = 20
"""A request with more images is a many-image request, for which the API has other limits."""

_DOCUMENT: Final = "document"
_IMAGE: Final = "image"

_Place = tuple[int, ...]
"""Where a block is: its message, its index, and that of the one inside a result."""


class _Medium(msgspec.Struct, frozen=True):
    place: _Place
    block: Block


def _says(*forms: str) -> Callable[[Refusal], re.Match[str] | None]:
    """A match in the text or the code of a refusal."""
    pattern = lazy_re("|".join(forms))
    return lambda refusal: pattern.search(f"{refusal.text} {refusal.code}".strip())


def _blocks(draft: RequestDraft) -> Iterator[_Medium]:
    """Every block of the messages, and every block in a result instead of that."""
    for index, message in enumerate(draft.body.messages):
        for position, block in enumerate(content_list(message)):
            if kind_of(block) == "tool_result":
                for inner, part in enumerate(content_list(block)):
                    yield _Medium((index, position, inner), part)
            else:
                yield _Medium((index, position), block)


def _media(draft: RequestDraft, kind: str) -> list[_Medium]:
    """Every image or document, from the oldest to the newest."""
    return [each for each in _blocks(draft) if kind_of(each.block) == kind]


def _at(media: Sequence[_Medium], text: str) -> list[_Medium]:
    """Those at a place that the refusal names; a result's place is that of all in it."""
    named = named_places(text)
    return [each for each in media if each.place in named or each.place[:2] in named]


def _at_or_all(draft: RequestDraft, media: Sequence[_Medium], text: str) -> Sequence[_Medium]:
    """Those at a place that the refusal names; all of them if it names none of their places.

    If a note is there, the one that the refusal means was removed before.
    """
    if named := _at(media, text):
        return named
    notes = [each for each in _blocks(draft) if _NOTE.match(string(each.block, "text"))]
    is_done = _at(notes, text) if named_places(text) else notes
    return [] if is_done else media


def _is_unreadable(image: _Medium) -> bool:
    data = base64_data(image.block)
    return bool(data) and not media_type(data)


def _without_any(kind: str) -> Callable[[RequestDraft, object], Repaired | None]:
    return lambda draft, _: _with_notes(draft, _media(draft, kind), "not supported")


def _without_addresses(draft: RequestDraft, _found: object) -> Repaired | None:
    """Remove the images and documents that the provider would have to fetch."""
    fetched = [
        each
        for each in _blocks(draft)
        if kind_of(each.block) in (_IMAGE, _DOCUMENT)
        and kind_of(each.block.get("source")) in ("url", "file")
    ]
    return _with_notes(draft, fetched, "not supported")


def _fewer(draft: RequestDraft, found: re.Match[str]) -> Repaired | None:
    """Keep no more media than the provider accepts: the newest images."""
    images, documents = _media(draft, _IMAGE), _media(draft, _DOCUMENT)
    if found["images"]:
        most = int(found["images"])
        lost = images[: max(0, len(images) - most)]
        return _with_notes(draft, lost, "too many", f"at most {most} images")
    most = int(found["most"] or found["all"])
    pages = int(found["pages"] or found["documents"] or 0)
    # It is unknown how many pages each document has, so all go if they are too many alone.
    lost, most = (documents, most) if pages > most else ([], most - pages)
    return _with_notes(draft, [*lost, *images[: max(0, len(images) - most)]], "too many")


def _with_true_types(draft: RequestDraft, found: re.Match[str]) -> Repaired | None:
    """Correct the media type of each image; a note replaces a named one that is not an image."""
    images = _media(draft, _IMAGE)
    named = {each.place for each in _at(images, found.string)}
    changes: dict[_Place, Block] = {}
    for each in images:
        new = with_true_media_type(each.block)
        if new is each.block and each.place in named and _is_unreadable(each):
            new = _note(each.block, "unreadable")
        if new is not each.block:
            changes[each.place] = new
    return _replace_blocks(draft, changes, describe(len(changes), "media type", "corrected"))


def _smaller(draft: RequestDraft, found: re.Match[str]) -> Repaired | None:
    """Remove images over a limit, in bytes or in pixels."""
    images, refused = _media(draft, _IMAGE), found.string
    most, pixels = _limit_in_bytes(refused), _PIXELS.search(refused)
    over: list[_Medium] = []
    lesson = None
    if most:
        over = [each for each in images if len(base64_data(each.block)) > most]
        lesson = f"image exceeds maximum of {most} bytes"
    elif pixels:
        is_many = "many-image" in refused
        if not is_many or len(images) > _MANY:
            over = [each for each in images if _longest_edge(each) > int(pixels[1])]
        kind = " for many-image requests" if is_many else ""
        lesson = f"image dimensions exceed max allowed size{kind}: {pixels[1]} pixels"
    return _with_notes(draft, [*over, *_at(images, found.string)], "too large", lesson)


def _limit_in_bytes(refused: str) -> int:
    found = _BYTES.search(refused)
    if found:
        return int(found[1] or found[2])
    megabytes = _MEGABYTES.search(refused)
    return int(megabytes[1]) << 20 if megabytes else 0


def _longest_edge(image: _Medium) -> int:
    return max(image_size(base64_data(image.block)) or (0, 0))


def _without_broken_images(draft: RequestDraft, found: re.Match[str]) -> Repaired | None:
    images = _media(draft, _IMAGE)
    unreadable = [each for each in images if _is_unreadable(each)]
    wrong = [*_at(images, found.string), *unreadable]
    return _with_notes(draft, wrong or _at_or_all(draft, images, found.string), "unreadable")


def _without_bad_documents(draft: RequestDraft, found: re.Match[str]) -> Repaired | None:
    documents = _media(draft, _DOCUMENT)
    return _with_notes(draft, _at_or_all(draft, documents, found.string), "not accepted")


def _with_notes(
    draft: RequestDraft, media: Sequence[_Medium], why: str, lesson: str | None = None
) -> Repaired | None:
    """The draft with a note in place of each of these."""
    changes = {each.place: _note(each.block, why) for each in media}
    kinds = [kind_of(each.block) for each in {each.place: each for each in media}.values()]
    words = [describe(kinds.count(kind), kind, f"removed: {why}") for kind in (_IMAGE, _DOCUMENT)]
    return _replace_blocks(draft, changes, *words, lesson=lesson)


def _note(block: Block, why: str) -> Block:
    return text_block(f"[{kind_of(block)} removed: {why}]", like=block)


def _replace_blocks(
    draft: RequestDraft, changes: dict[_Place, Block], *changed: str, lesson: str | None = None
) -> Repaired | None:
    made: list[Any] = []
    for index, message in enumerate(draft.body.messages):
        here = {place[1:]: block for place, block in changes.items() if place[0] == index}
        made.append(_with(message, here) if here else message)
    return repaired_messages(draft, made, *changed, lesson=lesson)


def _with(value: dict[str, Any], changes: dict[_Place, Block]) -> dict[str, Any]:
    """A message, or a result, with these blocks in it replaced."""
    blocks: list[Any] = []
    for position, block in enumerate(content_list(value)):
        inner = {place[1:]: new for place, new in changes.items() if place[0] == position}
        if () in inner:
            blocks.append(inner[()])
        else:
            blocks.append(_with(block, inner) if inner else block)
    return with_content(value, blocks)


RULES: Final[tuple[Rule[Any], ...]] = (
    Rule(
        "media",
        _says(
            r"\bsources? by url (?:is|are) not supported",
            r"\binput tag url found using type does not match",
        ),
        _without_addresses,
        "image and document sources by url are not supported",
    ),
    Rule(
        "media",
        _says(
            # The refusal may be about one kind or size of images only.
            r"(?:not|n.?t) support (?:image|vision|multi-?modal)"
            r"(?!\w* (?:type|format|media|mime|file|size|larger|bigger|over|above|dimension"
            r"|resolution|detail|edit|generat|output))",
            r"no endpoints found that support image input",
            r"images? (?:inputs? )?(?:is|are) not (?:supported|enabled|allowed)",
            r"unknown variant image(?:_url)?\b|image_url is only supported by certain models",
            r"input tag image(?:_url)? found using type does not match",
            r"is not a multi-?modal model|at most 0 images?\b",
            r"invalid discriminator value\. expected text\b(?!.{0,80}\bimage)",
            r"only text (?:(?:content|blocks?|parts?|inputs?) )?(?:(?:is|are) )?"
            r"(?:supported|allowed|accepted)",
            r"(?:unsupported|invalid|unknown) (?:content|part|block|message)(?: part| block)?"
            r" type:? (?:input_)?image|content type (?:input_)?image(?:_url)? is not",
            r"image_url (?:is |are )?(?:not supported|unsupported|not allowed)|provide the mmproj",
            r"(?:accepts?|supports?|takes?) (?:only text|text only)|\btext-only model",
        ),
        _without_any(_IMAGE),
        "model does not support image input",
    ),
    Rule(
        "media",
        _says(
            r"(?:not|n.?t) support (?:(?:pdf|document)s?\b(?! \w* ?(?:larger|longer|over|generat))"
            r"|file (?:input|content|part)s?\b)",
            r"(?:pdf|document)s? (?:inputs? |content )?(?:is|are) not"
            r" (?:supported|enabled|allowed)",
            r"unknown variant (?:file|document)\b",
            r"input tag (?:file|document) found using type does not match",
        ),
        _without_any(_DOCUMENT),
        "model does not support document input",
    ),
    Rule(
        "media",
        _says(
            r"at most (?P<images>\d{1,4}) images?\b",
            r"too much media: (?P<pages>\d{1,5}) document pages? \+ \d{1,5} images?"
            r" > ?(?P<most>\d{1,5})",
            r"too many images(?: and documents)?: \d{1,5}(?: \+ (?P<documents>\d{1,5}))?"
            r" > ?(?P<all>\d{1,5})",
        ),
        _fewer,
    ),
    Rule(
        "media",
        _says(r"image does not match the provided media type|but the image appears to be an? "),
        _with_true_types,
    ),
    Rule(
        "media",
        _says(
            r"image exceeds\b.*maximum|dimensions exceed|image_dimensions_too_large"
            r"|many-image requests"
        ),
        _smaller,
    ),
    Rule(
        "media",
        _says(
            r"could not process image|invalid image data|failed to decode image"
            r"|cannot identify image file|unsupported image\b(?! (?:size|detail|dimension))"
            r"|does not represent a valid image"
            r"|invalid (?:base64 )?image(?:_url)?\b(?! (?:size|detail))"
            r"|image_parse_error|invalid_image_format|invalid_base64"
        ),
        _without_broken_images,
    ),
    Rule(
        "media",
        _says(
            r"maximum of \d+ pdf pages|could not process (?:pdf|document)|invalid pdf"
            r"|pdf (?:specified )?(?:was|is) (?:not valid|invalid|password|encrypted|corrupt)"
        ),
        _without_bad_documents,
    ),
)
