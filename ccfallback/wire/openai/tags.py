"""Thinking that a model writes into its answer, between `<think>` and `</think>`.

Only at the very beginning: further on, the tags are something that the answer speaks of.
"""

from typing import Final

_OPEN: Final = "<think>"
_CLOSE: Final = "</think>"


class ThinkTags:
    """Takes the thinking out of an answer, piece by piece."""

    __slots__ = ("_closed", "_held", "_inside", "past")

    def __init__(self) -> None:
        self._held = ""
        self._inside = False
        self._closed = False
        self.past = False
        """Whether all that comes is answer."""

    def split(self, text: str) -> tuple[str, str]:
        """The thinking and the answer in the next piece; what may be half a tag is held back."""
        if self.past:
            return "", text
        if self._closed:
            return "", self._answer(text)
        text = self._held + text
        self._held = ""
        return self._thinking(text) if self._inside else self._beginning(text)

    def rest(self) -> tuple[str, str]:
        """What was held back and turned out to be no tag."""
        held, self._held = self._held, ""
        return (held, "") if self._inside else ("", held)

    def _beginning(self, text: str) -> tuple[str, str]:
        begun = text.lstrip()
        if begun.startswith(_OPEN):
            self._inside = True
            return self._thinking(begun[len(_OPEN) :])
        if _OPEN.startswith(begun):
            self._held = text
            return "", ""
        self.past = True
        return "", text

    def _thinking(self, text: str) -> tuple[str, str]:
        thinking, tag, answer = text.partition(_CLOSE)
        if tag:
            self._inside = False
            self._closed = True
            return thinking, self._answer(answer)
        kept = _half_a_tag(text)
        self._held = text[len(text) - kept :]
        return text[: len(text) - kept], ""

    def _answer(self, text: str) -> str:
        """The answer after the tag, without the empty lines between them."""
        text = text.lstrip()
        self.past = bool(text)
        return text


def _half_a_tag(text: str) -> int:
    """How many letters at the end may be the beginning of the closing tag."""
    sizes = range(min(len(text), len(_CLOSE) - 1), 0, -1)
    return next((size for size in sizes if text.endswith(_CLOSE[:size])), 0)
