"""Names of tools that are too long for a provider, or of letters that it does not take.

They get others wherever they stand in the request, and the answer is told in the client's own:
the draft says which is whose.
"""

import re
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Final

from ccfallback.messages.tools import LONGEST_NAME, ToolNames
from ccfallback.policy.draft import RequestDraft
from ccfallback.rectify.rule import Rectifier, Refusal, Repaired
from ccfallback.rectify.turns import (
    Block,
    counted,
    kind_of,
    mapped,
    mapped_messages,
    messages_of,
    with_messages,
    word,
)

_NAME: Final = (
    r"\b(?:tools?(?:\.| ?-> ?|\[)[\w.*\[\] >-]{0,60}?|tool_use(?:\.| ?-> ?)|function\.|toolspec\.)"
    r"name\b"
)
_FORM: Final = (
    r"(?:should match pattern|does not match pattern|at most \d{1,3} character|string too long"
    r"|regular expression pattern|length less than or equal to \d{1,3})"
)
_TRIGGER: Final = re.compile(
    rf"{_NAME}.{{0,60}}{_FORM}"
    # Gemini's and Moonshot's words.
    r"|\binvalid function name\b|\bfunction name is invalid\b"
)
_LIMIT: Final = re.compile(
    r"\{1, ?(\d{1,3})\}|at most (\d{1,3}) character|maximum length (?:of )?(\d{1,3})\b"
    r"|length less than or equal to (\d{1,3})\b"
)
_SHORTEST: Final = 16
"""Letters below which the tools of a client could not be told apart."""

_NAMED_BY: Final[Mapping[str, str]] = {"tool_use": "name", "tool_reference": "tool_name"}
_CHANGES: Final = frozenset({"tool_addition", "tool_removal"})


class _ToolNameForm:
    name = "tool_name_form"

    def repair(self, draft: RequestDraft, refusal: Refusal) -> Repaired | None:
        """Every tool has a name that the provider takes."""
        if not _TRIGGER.search(refusal.text):
            return None
        longest = _longest(refusal.text)
        renaming = _Renaming(ToolNames.of(draft.body, longest))
        made = _renamed(draft, renaming)
        if not renaming.made:
            return None
        # What was renamed before is the client's under the name before that.
        names = {new: draft.names.get(old, old) for new, old in renaming.made.items()}
        return Repaired(
            replace(made, names={**draft.names, **names}),
            counted(len(names), "tool", "renamed"),
            f"tools.*.custom.name: String should match pattern '^[a-zA-Z0-9_-]{{1,{longest}}}$'",
        )


def _longest(refused: str) -> int:
    """How long a name may be."""
    found = _LIMIT.search(refused)
    size = int(next(filter(None, found.groups()))) if found else LONGEST_NAME
    return size if size >= _SHORTEST else LONGEST_NAME


class _Renaming:
    """New names, and whose they are."""

    def __init__(self, names: ToolNames) -> None:
        self._names = names
        self.made: dict[str, str] = {}

    def of(self, value: Any, key: str = "name") -> Any:
        """An object with the name in it changed; the very same where that need not be."""
        old = word(value, key)
        new = self._names.to_provider(old) if old else old
        if new == old:
            return value
        self.made[new] = old
        return {**value, key: new}

    def of_block(self, block: Block) -> Block:
        """A block of a message, or of a result in it."""
        kind = kind_of(block)
        if kind in _NAMED_BY:
            renamed: Block = self.of(block, _NAMED_BY[kind])
            return renamed
        if kind == "tool_result":
            return _with(block, "content", mapped(block.get("content"), self.of_block))
        if kind in _CHANGES:
            return _with(block, "tool", self._of_change(block.get("tool")))
        return block

    def _of_change(self, tool: Any) -> Any:
        if not isinstance(tool, dict) or "definition" not in tool:
            return self.of(tool)
        return _with(tool, "definition", self.of(tool["definition"]))


def _with(outer: Block, key: str, value: Any) -> Block:
    return outer if value is outer.get(key) else {**outer, key: value}


def _renamed(draft: RequestDraft, renaming: _Renaming) -> RequestDraft:
    body = draft.body
    tools = body.get("tools")
    if isinstance(tools, list):
        # Anthropic's own tools are called what they are called.
        made = [renaming.of(tool) if _is_clients(tool) else tool for tool in tools]
        if any(new is not old for new, old in zip(made, tools, strict=True)):
            body = body.with_items("tools", made)
    choice = body.get("tool_choice")
    chosen = renaming.of(choice) if kind_of(choice) == "tool" else choice
    if chosen is not choice:
        body = body.with_members(tool_choice=chosen)
    draft = draft.with_body(body)
    messages = messages_of(draft)
    told = mapped_messages(messages, renaming.of_block)
    if all(new is old for new, old in zip(told, messages, strict=True)):
        return draft
    return with_messages(draft, told)


def _is_clients(tool: object) -> bool:
    return kind_of(tool) in ("", "custom")


TOOL_NAME_FORM: Final[Rectifier] = _ToolNameForm()
