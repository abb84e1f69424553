"""Thinking: how a request asks for it in each provider's words, and how an answer carries it.

OpenAI's own models have rules by name, and a provider that resells them keeps those rules.
"""

import re
from typing import Any, Final

import msgspec

from ccfallback.config.quirks import Quirks
from ccfallback.messages.body import Body
from ccfallback.messages.effort import (
    EFFORTS,
    LEAST_BUDGET,
    effort_for_budget,
    requested_effort,
    thinking_settings,
)
from ccfallback.wire.openai.arguments import Held

_GPT: Final = re.compile(r"(?:^|/)gpt-(\d+)(?:\.(\d+))?")
_O_SERIES: Final = re.compile(r"(?:^|/)o\d+(?:-|$)")


class ThinkingRequest(msgspec.Struct, frozen=True):
    """What the client asks of the model's thinking."""

    is_on: bool = False
    is_off: bool = False
    effort: str = ""
    budget: int = 0

    @classmethod
    def of(cls, body: Body) -> "ThinkingRequest":
        """Read it from a request."""
        thinking = thinking_settings(body)
        kind, budget = thinking.get("type"), thinking.get("budget_tokens")
        effort = requested_effort(body)
        return cls(
            is_on=isinstance(kind, str) and kind != "disabled",
            is_off=kind == "disabled",
            effort=effort if effort in EFFORTS else "",
            budget=max(budget, 0) if isinstance(budget, int) and kind == "enabled" else 0,
        )

    @property
    def thinks(self) -> bool:
        """Whether the model should think at all."""
        return not self.is_off and (self.is_on or bool(self.effort))

    def effort_up_to(self, highest: str) -> str:
        """The effort, at most the provider's highest; empty if the client asks for none."""
        effort = self.effort
        if not effort and self.budget:
            effort = effort_for_budget(self.budget)
        if not effort or highest not in EFFORTS:
            return effort
        return EFFORTS[min(EFFORTS.index(effort), EFFORTS.index(highest))]


def is_openai_reasoning(model: str) -> bool:
    """Whether a model is one of OpenAI's that think; those refuse sampling parameters."""
    return _version(model) >= (5, 0) or _O_SERIES.search(model.lower()) is not None


def reasoning_members(
    wanted: ThinkingRequest, quirks: Quirks, model: str, *, has_tools: bool, max_tokens: int
) -> dict[str, Any]:
    """The members of a request that ask for thinking, or for none."""
    match quirks.reasoning:
        case "effort":
            return _effort_members(wanted, quirks, model, has_tools=has_tools)
        case "openrouter":
            return _openrouter_members(wanted, quirks, max_tokens)
        case "thinking":
            return {"thinking": {"type": "enabled" if wanted.thinks else "disabled"}}
        case "enable_thinking":
            budget = {"thinking_budget": wanted.budget} if wanted.thinks and wanted.budget else {}
            return {"enable_thinking": wanted.thinks, **budget}
        case _:
            return {}


def _effort_members(
    wanted: ThinkingRequest, quirks: Quirks, model: str, *, has_tools: bool
) -> dict[str, Any]:
    version = _version(model)
    if (0, 0) < version < (5, 0):
        return {}
    if version >= (5, 4) and has_tools:
        # On Chat Completions these models refuse to think in a request with tools.
        return {"reasoning_effort": "none"}
    effort = wanted.effort_up_to(quirks.max_effort)
    if wanted.thinks:
        return {"reasoning_effort": effort} if effort else {}
    return {"reasoning_effort": "none"} if version >= (5, 1) else {}


def _openrouter_members(wanted: ThinkingRequest, quirks: Quirks, max_tokens: int) -> dict[str, Any]:
    if wanted.is_off:
        return {"reasoning": {"enabled": False}}
    if not wanted.thinks:
        # Some models always think, and refuse a request not to.
        return {}
    budget = min(wanted.budget, max_tokens - 1) if max_tokens else wanted.budget
    if not wanted.effort and budget >= LEAST_BUDGET:
        return {"reasoning": {"max_tokens": budget}}
    effort = wanted.effort_up_to(quirks.max_effort)
    return {"reasoning": {"effort": effort} if effort else {"enabled": True}}


def _version(model: str) -> tuple[int, int]:
    """The version of a GPT model; zero for any other."""
    match = _GPT.search(model.lower())
    return (int(match[1]), int(match[2] or 0)) if match else (0, 0)


_OPEN: Final = "<think>"
_CLOSE: Final = "</think>"
_MOST_UNENDED: Final = 1 << 20
"""Characters that may turn out to be the answer."""


class ThinkTags:
    """Separates the thinking that a model writes between `<think>` and `</think>`.

    Only at the very start of an answer: later, the tags are something that the answer is about.
    With `lacks_start` an answer begins inside thinking: the prompt ends with the opening tag.
    """

    def __init__(self, *, lacks_start: bool = False) -> None:
        self.lacks_start = lacks_start
        self._unended: list[str] = []
        """What was taken for thinking of which neither start nor end is marked."""
        self._unended_size = 0
        self._space: list[str] = []
        """White space before the first letter."""
        self._held_space = Held()
        self._held = ""
        """What may be a part of a tag."""
        self.is_inside = False
        """Whether thinking has begun and not ended."""
        self._is_closed = False
        self.is_past = False
        """Whether everything that follows is answer."""

    def split(self, text: str) -> tuple[str, str]:
        """The thinking and the answer in the next piece; a possible part of a tag is held back.

        Raises `HeldTooMuch` for too much white space before the first letter.
        """
        if self.is_past:
            return "", text
        if self._is_closed:
            return "", self._answer(text)
        if self.is_inside:
            text, self._held = self._held + text, ""
            return self._thinking(text)
        if not self._held and text.isspace():
            self._hold(text)
            return "", ""
        return self._start(text)

    def flush(self) -> tuple[str, str]:
        """What was held back, at the end of the text."""
        held, self._held = self._held, ""
        if self.is_inside:
            return self._note(held), ""
        space, self._space = "".join(self._space), []
        return "", space + held

    def _start(self, text: str) -> tuple[str, str]:
        start = self._held + text if self._held else text.lstrip()
        if not self._held:
            self._hold(text[: len(text) - len(start)])
        self._held = ""
        if start.startswith(_OPEN):
            self.is_inside = True
            self.lacks_start = False
            self._space = []
            return self._thinking(start[len(_OPEN) :])
        if _OPEN.startswith(start):
            self._held = start
            return "", ""
        space, self._space = "".join(self._space), []
        if self.lacks_start:
            self.is_inside = True
            return self._thinking(space + start)
        self.is_past = True
        return "", space + start

    def _hold(self, space: str) -> None:
        self._space.append(space)
        self._held_space.change(len(space))

    def take_unended(self) -> str:
        """The whole answer, if it was taken for thinking that never ended: there was none."""
        text = "".join(self._unended) if self.is_inside and self.lacks_start else ""
        self._unended = []
        return text

    def _thinking(self, text: str) -> tuple[str, str]:
        thinking, tag, answer = text.partition(_CLOSE)
        if tag:
            self.is_inside = False
            self._is_closed = True
            self._unended = []
            return thinking, self._answer(answer)
        sizes = range(min(len(text), len(_CLOSE) - 1), 0, -1)
        kept = next((size for size in sizes if text.endswith(_CLOSE[:size])), 0)
        self._held = text[len(text) - kept :]
        return self._note(text[: len(text) - kept]), ""

    def _note(self, thinking: str) -> str:
        if self.lacks_start and self._unended_size < _MOST_UNENDED:
            self._unended.append(thinking)
            self._unended_size += len(thinking)
        return thinking

    def _answer(self, text: str) -> str:
        """The answer after the tag, without the empty lines between them."""
        text = text.lstrip()
        self.is_past = bool(text)
        return text


def split_unopened(text: str) -> tuple[str, str]:
    """The thinking and the answer of a whole text whose thinking has an end, but no start.

    The prompt of some models ends with the opening tag, so that the answer lacks it.
    """
    thinking, tag, answer = text.partition(_CLOSE)
    return (thinking, answer.lstrip()) if tag and _OPEN not in thinking else ("", text)


_IN_FRAGMENTS: Final = ("text", "summary", "data")
"""Members of a detail that come in fragments; the others come once, or are repeated."""


_DETAIL: Final = 64
"""What a detail weighs besides its fragments, in characters."""


class ReasoningDetails:
    """OpenRouter's `reasoning_details`, which it wants back as it gave them."""

    def __init__(self) -> None:
        self._items: list[Any] = []
        self._fragments: dict[str, list[str]] = {}
        """The fragments of the last item's members, joined when the next item begins."""

    def __bool__(self) -> bool:
        return bool(self._items)

    def set(self, details: object) -> None:
        """Take over the details of a whole answer."""
        self._items = details if isinstance(details, list) else []

    def add(self, details: object) -> int:
        """Join the details of one chunk to those before; returns their size in characters."""
        size = 0
        for detail in details if isinstance(details, list) else ():
            if not isinstance(detail, dict):
                continue
            last = self._items[-1] if self._items else None
            if last is None or any(last.get(key) != detail.get(key) for key in ("type", "index")):
                self._join()
                self._items.append(last := {})
            for key, value in detail.items():
                if key in _IN_FRAGMENTS and isinstance(value, str):
                    self._fragments.setdefault(key, []).append(value)
                    size += len(value)
                    last.setdefault(key, "")
                elif value is not None or key not in last:
                    if value != last.get(key):
                        size += _weight(value) - _weight(last.get(key))
                    last[key] = value
            size += _DETAIL
        return size

    def take_envelope(self) -> dict[str, Any] | None:
        """What the next signature has to carry: all details since the last call."""
        self._join()
        items, self._items = self._items, []
        return {"reasoning_details": items} if items else None

    def _join(self) -> None:
        if self._items:
            for key, parts in self._fragments.items():
                self._items[-1][key] = "".join(parts)
        self._fragments = {}


def _weight(value: object) -> int:
    """What a member of a detail weighs, in characters."""
    if isinstance(value, str):
        return len(value)
    return len(msgspec.json.encode(value)) if isinstance(value, list | dict) else 0
