"""Schemas of tools that a provider does not take: invalid, too clever at the root, or too rich."""

import re
from collections.abc import Callable
from typing import Any, Final

from ccfallback.policy.draft import RequestDraft
from ccfallback.rectify import schemas
from ccfallback.rectify.rule import Rectifier, Refusal, Repaired
from ccfallback.rectify.turns import counted, kind_of, word

_ROOT: Final = re.compile(
    r"does not support oneof, allof,? (?:or|and) anyof at the top level"
    r"|schema must have (?:a )?type object and not have"
    r"|(?:oneof|anyof|allof)\b.{0,40}\bat the (?:top level|root)"
)
_INVALID: Final = re.compile(
    r"input_schema\b.*(?:json schema is invalid|is (?:not valid|invalid)|input should be)"
    r"|json schema is invalid"
    r"|(?:invalid|incorrect) (?:json )?schema for function"
    r"|invalid_function_parameters"
    r"|is not a valid (?:moonshot flavored )?json schema"
)
_ITEMS: Final = re.compile(r"array schema missing items|\bitems: missing field")
_KEYWORD: Final = re.compile(
    r"unknown name \"?(?P<unknown>[$\w]+)\"? at '?(?:request\.)?tools\b"
    r"|keywords? [\"'`]?(?P<keyword>[$\w]+)[\"'`]? (?:is|are) not (?:supported|permitted|allowed)"
    r"|schema for function .*[\"'`](?P<function>[$\w]+)[\"'`] is not (?:permitted|supported)",
    re.IGNORECASE,
)
_INDEX: Final = re.compile(r"\btools(?:\.| ?-> ?)(\d{1,5})\b")
_NAME: Final = re.compile(r"(?:for function|for tool) [\"'`]?([\w.-]+)")


class _ToolSchemas:
    name = "tool_schemas"

    def repair(self, draft: RequestDraft, refusal: Refusal) -> Repaired | None:
        """The tools have schemas that the provider takes."""
        refused = refusal.text
        keywords = _keywords(refusal.message)
        if keywords:
            named = [f"keyword '{keyword}' is not supported" for keyword in sorted(keywords)]
            lesson = "tool schemas: " + ", ".join(named)
            return _repaired(
                draft, lambda tool, _: schemas.without(_schema(tool), keywords), lesson
            )
        if _ROOT.search(refused):
            lesson = "input_schema does not support oneOf, allOf, or anyOf at the top level"
            return _repaired(draft, lambda tool, _: schemas.flat(_schema(tool)), lesson)
        if _ITEMS.search(refused):
            lesson = "tool schemas: array schema missing items"
            return _repaired(draft, lambda tool, _: schemas.with_items(_schema(tool)), lesson)
        if not _INVALID.search(refused):
            return None
        index, name = _named(draft, refusal)

        def mend(tool: Any, position: int) -> Any:
            is_named = position == index or (name and word(tool, "name") == name)
            return (schemas.plain if is_named else schemas.valid)(_schema(tool))

        return _repaired(
            draft, mend, "input_schema: JSON schema is invalid" + (name and f" for tool {name}")
        )


def _keywords(message: str) -> frozenset[str]:
    """The keywords that a message refuses; others are names of somebody's properties."""
    found = {found for match in _KEYWORD.finditer(message) for found in match.groups() if found}
    return frozenset(found & schemas.KEYWORDS_REFUSED)


def _named(draft: RequestDraft, refusal: Refusal) -> tuple[int, str]:
    """The tool that a message is about: its index, and its name where it has a usable one."""
    tools = draft.body.get("tools")
    found = _INDEX.search(refusal.text)
    index = int(found[1]) if found else -1
    if isinstance(tools, list) and 0 <= index < len(tools):
        name = word(tools[index], "name")
        return index, name if re.fullmatch(r"[\w.-]{1,128}", name) else ""
    by_name = _NAME.search(refusal.message)
    return -1, by_name[1] if by_name else ""


def _schema(tool: Any) -> Any:
    return tool.get("input_schema")


def _repaired(draft: RequestDraft, mend: Callable[[Any, int], Any], lesson: str) -> Repaired | None:
    """The draft with each schema mended that is a client's own."""
    tools = draft.body.get("tools")
    if not isinstance(tools, list):
        return None
    made: list[Any] = []
    for position, tool in enumerate(tools):
        # Anthropic's own tools have no schema, and take none.
        if kind_of(tool) in ("", "custom") and isinstance(tool, dict) and "input_schema" in tool:
            new = mend(tool, position)
            made.append(tool if new == tool["input_schema"] else {**tool, "input_schema": new})
        else:
            made.append(tool)
    count = sum(new is not old for new, old in zip(made, tools, strict=True))
    if not count:
        return None
    body = draft.body.with_items("tools", made)
    return Repaired(draft.with_body(body), counted(count, "tool schema", "rewritten"), lesson)


TOOL_SCHEMAS: Final[Rectifier] = _ToolSchemas()
