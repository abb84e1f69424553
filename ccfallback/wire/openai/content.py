"""Blocks of content as parts of a message.

What a provider can't take becomes a note in words: the model must know that there was something.
Parts are ours to change, blocks are not.
"""

from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final

from ccfallback.config.quirks import Quirks

Block = Mapping[str, Any]
Part = dict[str, Any]

_EPHEMERAL: Final = {"type": "ephemeral"}


def blocks_of(content: object) -> list[Block]:
    """The blocks of a message's content, whatever form it has."""
    if isinstance(content, str):
        return [{"type": "text", "text": content}]
    if isinstance(content, list):
        return [block for block in content if isinstance(block, dict)]
    return []


def parts_of(blocks: Iterable[Block], quirks: Quirks) -> list[Part]:
    """The parts that say what the blocks say."""
    parts: list[Part] = []
    for block in blocks:
        kind = block.get("type")
        translate = _BLOCKS.get(kind) if isinstance(kind, str) else None
        if translate is not None:
            made = translate(block, quirks)
            if made and quirks.cache_control and is_text(made[-1]):
                made[-1] = marked(made[-1], block)
            parts += made
    return parts


def content_of(parts: list[Part], *, joined: bool) -> str | list[Part]:
    """The content of a message: one string where that says it all, several texts if `joined`."""
    is_plain = all(is_text(part) and "cache_control" not in part for part in parts)
    if is_plain and (joined or len(parts) == 1):
        return "\n\n".join(part["text"] for part in parts)
    return parts


def text_part(text: str) -> Part:
    """A part that is text."""
    return {"type": "text", "text": text}


def is_text(part: Part) -> bool:
    """Whether a part is text, not something attached."""
    return bool(part["type"] == "text")


def marked(part: Part, block: Block) -> Part:
    """A part with the cache mark of the block it came from, without what only Anthropic knows."""
    return {**part, "cache_control": _EPHEMERAL} if block.get("cache_control") else part


def said(value: object) -> str:
    """A text that says something; empty where there is none or only space."""
    return value if isinstance(value, str) and value and not value.isspace() else ""


def note_of(part: Part) -> str:
    """What stands for an attached part where only text may be."""
    if part["type"] == "image_url":
        return _image_note(_media_of(part["image_url"]["url"]))
    return f"[PDF omitted: {part['file']['filename']}]"


def _media_of(url: str) -> str:
    return url[5:].partition(";")[0] if url.startswith("data:") else url


def _image_note(what: str) -> str:
    return f"[image omitted: {what}]" if what else "[image omitted]"


def _text(block: Block, _quirks: Quirks) -> list[Part]:
    text = said(block.get("text"))
    return [text_part(text)] if text else []


def _image(block: Block, quirks: Quirks) -> list[Part]:
    source = _object(block.get("source"))
    kind, media = source.get("type"), said(source.get("media_type"))
    url = ""
    if kind == "url":
        media = url = said(source.get("url"))
    elif kind == "base64" and said(source.get("data")):
        url = f"data:{media or 'image/png'};base64,{_without_space(source['data'])}"
    elif kind == "file":
        media = f"file {said(source.get('file_id'))}"
    if quirks.images and url:
        return [{"type": "image_url", "image_url": {"url": url}}]
    return [text_part(_image_note(media))]


def _document(block: Block, quirks: Quirks) -> list[Part]:
    source = _object(block.get("source"))
    title, context = said(block.get("title")), said(block.get("context"))
    head = [text for text in (title, context) if text]
    data = said(source.get("data"))
    match source.get("type"):
        case "text":
            return [text_part("\n\n".join([*head, data]))] if head or data else []
        case "content":
            parts = parts_of(blocks_of(source.get("content")), quirks)
            return [text_part("\n\n".join(head)), *parts] if head else parts
        case "base64" if data and quirks.pdf:
            name = (title or "document").removesuffix(".pdf") + ".pdf"
            file = f"data:application/pdf;base64,{_without_space(data)}"
            part: Part = {"type": "file", "file": {"filename": name, "file_data": file}}
            return [part, text_part(context)] if context else [part]
        case "base64":
            what = "PDF omitted"
        case _:
            what = "document omitted"
            head.append(said(source.get("url")) or said(source.get("file_id")))
    return [text_part(f"[{what}: {', '.join(filter(None, head))}]" if any(head) else f"[{what}]")]


def _search_result(block: Block, quirks: Quirks) -> list[Part]:
    head = [said(block.get("title")), said(block.get("source"))]
    found = parts_of(blocks_of(block.get("content")), quirks)
    lines = [*filter(None, head), *(part["text"] for part in found if is_text(part))]
    return [text_part("\n".join(lines))] if lines else []


def _tool_reference(block: Block, _quirks: Quirks) -> list[Part]:
    name = said(block.get("tool_name"))
    return [text_part(f"Tool {name} is available.")] if name else []


def _compaction(block: Block, _quirks: Quirks) -> list[Part]:
    summary = said(block.get("content"))
    return [text_part(f"Summary of earlier conversation: {summary}")] if summary else []


_BLOCKS: Final[Mapping[str, Callable[[Block, Quirks], list[Part]]]] = {
    "text": _text,
    "image": _image,
    "document": _document,
    "search_result": _search_result,
    "tool_reference": _tool_reference,
    "compaction": _compaction,
}
"""What has a meaning beyond Anthropic; other blocks are dropped."""


def _object(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}


def _without_space(data: str) -> str:
    # An image has megabytes: split and joined only if there is anything to take out.
    return "".join(data.split()) if any(space in data for space in " \n\r\t") else data
