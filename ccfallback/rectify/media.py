"""Images and documents that a provider can't take: a note stands where each one was.

Nothing is resized. Where a limit is named, what is over it goes; where a place is named, what is
there goes; where neither is, everything of the kind.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

from ccfallback.messages.media import (
    base64_data,
    image_size,
    media_type,
    with_true_media_type,
)
from ccfallback.policy.draft import RequestDraft
from ccfallback.rectify.rule import Rectifier, Refusal, Repaired
from ccfallback.rectify.turns import (
    Block,
    blocks_of,
    counted,
    kind_of,
    messages_of,
    named_places,
    text,
    with_blocks,
    with_messages,
    word,
)

_NO_IMAGES: Final = re.compile(
    # What is refused there may be one kind or size of image only.
    r"(?:not|n.?t) support (?:image|vision|multi-?modal)(?!\w* (?:type|format|media|mime|file|size"
    r"|larger|bigger|over|above|dimension|resolution|detail|edit|generat|output))"
    r"|no endpoints found that support image input"
    r"|images? (?:inputs? )?(?:is|are) not (?:supported|enabled|allowed)"
    r"|unknown variant image(?:_url)?\b|image_url is only supported by certain models"
    r"|input tag image(?:_url)? found using type does not match"
    r"|is not a multi-?modal model|at most 0 images?\b"
)
_NO_DOCUMENTS: Final = re.compile(
    r"(?:not|n.?t) support (?:(?:pdf|document)s?\b(?! \w* ?(?:larger|longer|over|generat))"
    r"|file (?:input|content|part)s?\b)"
    r"|(?:pdf|document)s? (?:inputs? |content )?(?:is|are) not (?:supported|enabled|allowed)"
    r"|unknown variant (?:file|document)\b"
    r"|input tag (?:file|document) found using type does not match"
)
_TOO_MANY: Final = re.compile(
    r"at most (?P<images>\d{1,4}) images?\b"
    r"|too much media: (?P<pages>\d{1,5}) document pages? \+ \d{1,5} images? > ?(?P<most>\d{1,5})"
    r"|too many images(?: and documents)?: \d{1,5}(?: \+ (?P<documents>\d{1,5}))?"
    r" > ?(?P<all>\d{1,5})"
)
_MISMATCH: Final = re.compile(
    r"image does not match the provided media type|but the image appears to be an? "
)
_TOO_LARGE: Final = re.compile(
    r"image exceeds\b.*maximum|dimensions exceed|image_dimensions_too_large|many-image requests"
)
_BROKEN: Final = re.compile(
    r"could not process image|invalid image data|failed to decode image"
    r"|cannot identify image file"
)
_BAD_DOCUMENT: Final = re.compile(
    r"maximum of \d+ pdf pages|could not process (?:pdf|document)|invalid pdf"
    r"|pdf (?:specified )?(?:was|is) (?:not valid|invalid|password|encrypted|corrupt)"
)
_BYTES: Final = re.compile(r"> ?(\d{4,10}) bytes|maximum of (\d{4,10}) bytes")
_MEGABYTES: Final = re.compile(r"exceeds (?:the )?(\d{1,3})(?:\.0)? ?mb\b")
_PIXELS: Final = re.compile(r"\b(\d{3,6}) pixels\b")

_NOTE: Final = re.compile(r"\[(?:image|document) removed: ")

_MANY: Final = 20
"""Images from which on the API calls it a many-image request."""

_DOCUMENT: Final = "document"
_IMAGE: Final = "image"

_Place = tuple[int, ...]
"""Of a block: its message, its index, and the one inside a result."""


@dataclass(frozen=True, slots=True)
class _Medium:
    place: _Place
    block: Block


class _Media:
    name = "media"

    def repair(self, draft: RequestDraft, refusal: Refusal) -> Repaired | None:
        """Images and documents that were refused are notes."""
        refused = f"{refusal.text} {refusal.code}".strip()
        media = list(_media(messages_of(draft)))
        images = [each for each in media if kind_of(each.block) == _IMAGE]
        documents = [each for each in media if kind_of(each.block) == _DOCUMENT]
        if _NO_IMAGES.search(refused):
            lesson = "model does not support image input"
            return _noted(draft, images, "not supported", lesson)
        if _NO_DOCUMENTS.search(refused):
            lesson = "model does not support document input"
            return _noted(draft, documents, "not supported", lesson)
        if many := _TOO_MANY.search(refused):
            return _fewer(draft, many, images, documents)
        if _MISMATCH.search(refused):
            return _with_their_types(draft, images, refusal)
        if _TOO_LARGE.search(refused):
            return _smaller(draft, images, refusal)
        if _BROKEN.search(refused):
            unknown = [each for each in images if _is_unknown(each)]
            wrong = [*_named(images, refusal), *unknown]
            return _noted(draft, wrong or _elsewhere(draft, images, refusal), "unreadable")
        if _BAD_DOCUMENT.search(refused):
            wrong = _named(documents, refusal)
            return _noted(draft, wrong or _elsewhere(draft, documents, refusal), "not accepted")
        return None


def _media(messages: Sequence[Any]) -> Iterator[_Medium]:
    """Every image and document, those in results too, from the oldest to the newest."""
    for index, message in enumerate(messages):
        for position, block in enumerate(blocks_of(message)):
            if kind_of(block) in (_IMAGE, _DOCUMENT):
                yield _Medium((index, position), block)
            elif kind_of(block) == "tool_result":
                for inner, part in enumerate(blocks_of(block)):
                    if kind_of(part) in (_IMAGE, _DOCUMENT):
                        yield _Medium((index, position, inner), part)


def _named(media: Sequence[_Medium], refusal: Refusal) -> list[_Medium]:
    """Those at a place that the refusal names; a result's place is that of all in it."""
    named = named_places(refusal)
    return [each for each in media if each.place in named or each.place[:2] in named]


def _elsewhere(
    draft: RequestDraft, media: Sequence[_Medium], refusal: Refusal
) -> Sequence[_Medium]:
    """All of them, where there is nothing of the kind at the places that the refusal names.

    What became a note before is not looked for elsewhere.
    """
    named = named_places(refusal)
    for place in _notes(messages_of(draft)):
        if not named or place in named or place[:2] in named:
            return []
    return media


def _notes(messages: Sequence[Any]) -> Iterator[_Place]:
    """Where something was removed before."""
    for index, message in enumerate(messages):
        for position, block in enumerate(blocks_of(message)):
            if _NOTE.match(word(block, "text")):
                yield index, position
            elif kind_of(block) == "tool_result":
                for inner, part in enumerate(blocks_of(block)):
                    if _NOTE.match(word(part, "text")):
                        yield index, position, inner


def _is_unknown(medium: _Medium) -> bool:
    data = base64_data(medium.block)
    return bool(data) and not media_type(data)


def _smaller(draft: RequestDraft, images: Sequence[_Medium], refusal: Refusal) -> Repaired | None:
    """The draft without images over a limit, in bytes or in pixels."""
    refused = refusal.text
    most = _bytes(refused)
    pixels = _PIXELS.search(refused)
    over: list[_Medium] = []
    lesson = None
    if most:
        over = [each for each in images if len(base64_data(each.block)) > most]
        lesson = f"image exceeds maximum of {most} bytes"
    elif pixels:
        is_many = "many-image" in refused
        if not is_many or len(images) > _MANY:
            over = [each for each in images if _side(each) > int(pixels[1])]
        kind = " for many-image requests" if is_many else ""
        lesson = f"image dimensions exceed max allowed size{kind}: {pixels[1]} pixels"
    return _noted(draft, [*over, *_named(images, refusal)], "too large", lesson)


def _bytes(refused: str) -> int:
    found = _BYTES.search(refused)
    if found:
        return int(found[1] or found[2])
    megabytes = _MEGABYTES.search(refused)
    return int(megabytes[1]) << 20 if megabytes else 0


def _side(image: _Medium) -> int:
    return max(image_size(base64_data(image.block)) or (0, 0))


def _fewer(
    draft: RequestDraft,
    many: re.Match[str],
    images: Sequence[_Medium],
    documents: Sequence[_Medium],
) -> Repaired | None:
    """The draft with no more media than are taken: the newest images."""
    if many["images"]:
        most = int(many["images"])
        lost = images[: max(0, len(images) - most)]
        return _noted(draft, lost, "too many", f"at most {most} images")
    most = int(many["most"] or many["all"])
    pages = int(many["pages"] or many["documents"] or 0)
    # Which document has how many pages is not known, so all go where they are too much alone.
    lost, most = (list(documents), most) if pages > most else ([], most - pages)
    return _noted(draft, [*lost, *images[: max(0, len(images) - most)]], "too many")


def _with_their_types(
    draft: RequestDraft, images: Sequence[_Medium], refusal: Refusal
) -> Repaired | None:
    """The draft with each image called what it is; a note for a named one that is nothing."""
    named = {each.place for each in _named(images, refusal)}
    changes = {each.place: with_true_media_type(each.block) for each in images}
    for each in images:
        if each.place in named and changes[each.place] is each.block and _is_unknown(each):
            changes[each.place] = _note(each.block, "unreadable")
    changes = {
        each.place: changes[each.place] for each in images if changes[each.place] is not each.block
    }
    return _replaced(draft, changes, counted(len(changes), "media type", "corrected"))


def _noted(
    draft: RequestDraft, media: Sequence[_Medium], why: str, lesson: str | None = None
) -> Repaired | None:
    """The draft with a note in place of each of these."""
    changes = {each.place: _note(each.block, why) for each in media}
    kinds = [kind_of(each.block) for each in {each.place: each for each in media}.values()]
    count = kinds.count(_IMAGE)
    parts = [
        counted(count, _IMAGE, f"removed: {why}"),
        counted(len(kinds) - count, _DOCUMENT, f"removed: {why}"),
    ]
    return _replaced(draft, changes, ", ".join(filter(None, parts)), lesson)


def _note(block: Block, why: str) -> Block:
    note = text(f"[{kind_of(block)} removed: {why}]")
    return {**note, "cache_control": mark} if (mark := block.get("cache_control")) else note


def _replaced(
    draft: RequestDraft, changes: dict[_Place, Block], changed: str, lesson: str | None = None
) -> Repaired | None:
    if not changes:
        return None
    made: list[Any] = []
    for index, message in enumerate(messages_of(draft)):
        here = {place[1:]: block for place, block in changes.items() if place[0] == index}
        made.append(_with(message, here) if here else message)
    return Repaired(with_messages(draft, made), changed, lesson)


def _with(value: dict[str, Any], changes: dict[_Place, Block]) -> dict[str, Any]:
    """A message, or a result, with these blocks in it replaced."""
    blocks: list[Any] = []
    for position, block in enumerate(blocks_of(value)):
        inner = {place[1:]: new for place, new in changes.items() if place[0] == position}
        if () in inner:
            blocks.append(inner[()])
        else:
            blocks.append(_with(block, inner) if inner else block)
    return with_blocks(value, blocks)


MEDIA: Final[Rectifier] = _Media()
