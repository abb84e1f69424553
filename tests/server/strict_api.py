"""A provider that holds every request to the rules of structure, and refuses in the API's words."""

import re
from collections.abc import Iterator, Mapping
from typing import Any

from ccfallback.simulator import scripted
from ccfallback.simulator.scripted import Received, Script
from tests.rectify.validity import blocks_of, faults, of_kind

GENUINE = "s"
"""The one signature that it knows."""
MOST_TOKENS = 8192

_PAIRS = (
    "messages.{at}: `tool_use` ids were found without `tool_result` blocks immediately after:"
    " {ids}. Each `tool_use` block must have a corresponding `tool_result` block in the next"
    " message."
)
_ORPHANS = (
    "messages.{at}.content.0: unexpected `tool_use_id` found in `tool_result` blocks: {ids}. Each"
    " `tool_result` block must have a corresponding `tool_use` block in the previous message."
)
_WORDS: tuple[tuple[str, str], ...] = (
    ("empty text", "messages.{at}.content.0.text: text content blocks must be non-empty"),
    (
        "empty",
        "messages.{at}: all messages must have non-empty content except for the optional final"
        " assistant message",
    ),
    ("results are not first", _PAIRS),
    ("a call at the end", _PAIRS),
    ("a system message between", _PAIRS),
    ("ids twice", "messages.{at}.content.1: `tool_use` ids must be unique"),
    (
        "server tool id",
        "messages.{at}.content.0.server_tool_use.id: String should match pattern"
        " '^srvtoolu_[a-zA-Z0-9_]+$'",
    ),
    ("id ", "messages.{at}.content.0.tool_use.id: String should match pattern '^[a-zA-Z0-9_-]+$'"),
    (
        "a result of no server tool",
        "messages.{at}.content.0: unexpected `tool_use_id` found in `web_search_tool_result`"
        " blocks: srvtoolu_9. Each `web_search_tool_result` block must have a corresponding"
        " `server_tool_use` block before it.",
    ),
    (
        "server tools without result",
        "messages.{at}.content.0: `web_search` tool use with id `srvtoolu_9` was found without a"
        " corresponding `web_search_tool_result` block",
    ),
    ("tools twice", "tools: Tool names must be unique."),
    ("tool name", "tools.0.custom.name: String should match pattern '^[a-zA-Z0-9_-]{{1,64}}$'"),
    ("is not an object", "tools.0.custom.input_schema.type: Input should be 'object'"),
    (
        "has combinators",
        "tools.0.custom.input_schema: input_schema does not support oneOf, allOf, or anyOf at the"
        " top level",
    ),
    (
        "calls without tools",
        "Requests which include `tool_use` or `tool_result` blocks must define tools",
    ),
    ("cache marks", "A maximum of 4 blocks with cache_control may be provided. Found 9."),
    (
        "cache lifetimes",
        "messages.{at}.content.0.cache_control.ttl: a ttl='1h' cache_control block must not come"
        " after a ttl='5m' cache_control block.",
    ),
    (
        "ends with the assistant",
        "This model does not support assistant message prefill. The conversation must end with a"
        " user message.",
    ),
    ("first message of", 'messages: first message must use the "user" role'),
    ("a system message", "messages.{at}.role: Input should be 'user' or 'assistant'"),
    (
        "twice in a row",
        'messages: roles must alternate between "user" and "assistant", but found multiple "user"'
        " roles in a row",
    ),
)
"""What `validity` finds, and how the API says it; the first that fits."""

_TOLERATED = "a system message before the user"
"""Of which no wording is known."""


ALTERNATING = "alternating"
"""Models of this name want user and assistant to take turns, and no other role."""


def refusals(body: Mapping[str, Any]) -> Iterator[str]:
    """Everything that this provider has against a request, in its own words."""
    alternating = ALTERNATING in body["model"]
    for fault in faults(body, alternating=alternating, prefill=False):
        # Who goes on with no begun answer does not look at how it ends.
        if "ends with space" not in fault and (_TOLERATED not in fault or alternating):
            yield _said(body, fault)
    yield from _thinking(body)
    if body["max_tokens"] > MOST_TOKENS:
        yield (
            f"max_tokens: {body['max_tokens']} > {MOST_TOKENS}, which is the maximum allowed "
            "number of output tokens for m"
        )


def _said(body: Mapping[str, Any], fault: str) -> str:
    place = re.match(r"(\d+): ", fault)
    at = int(place[1]) if place else 1
    before = body["messages"][at - 1] if at else {}
    asked = [block["id"] for block in of_kind(before, "tool_use")]
    given = [block["tool_use_id"] for block in of_kind(body["messages"][at], "tool_result")]
    if "asked" in fault:
        missing = [each for each in asked if each not in given]
        words = _PAIRS if missing else _ORPHANS
        return words.format(at=at, ids=", ".join(missing or given))
    for found, words in _WORDS:
        if found in fault:
            return words.format(at=at, ids=", ".join(asked) or "toolu_1")
    raise AssertionError(f"no words for {fault}")


def _thinking(body: Mapping[str, Any]) -> Iterator[str]:
    thinking = body.get("thinking") or {}
    budget = thinking.get("budget_tokens")
    if budget is not None and budget >= body["max_tokens"]:
        yield "`max_tokens` must be greater than `thinking.budget_tokens`"
    for at, message in enumerate(body["messages"]):
        for place, block in enumerate(blocks_of(message)):
            if block["type"] == "thinking" and block.get("signature") != GENUINE:
                yield f"messages.{at}.content.{place}: Invalid `signature` in `thinking` block"
    if thinking.get("type") == "enabled":
        yield from _start(body["messages"])


def _start(messages: list[Any]) -> Iterator[str]:
    """A turn that goes on has to have begun with thinking."""
    spoken = [message for message in messages if message["role"] != "system"]
    if len(spoken) > 1 and of_kind(spoken[-1], "tool_result") and spoken[-2]["role"] == "assistant":
        first = blocks_of(spoken[-2])[0]["type"]
        if first not in ("thinking", "redacted_thinking"):
            yield (
                f"messages.{len(messages) - 2}.content.0.type: Expected `thinking` or "
                f"`redacted_thinking`, but found `{first}`."
            )


def held_to_the_rules(good: Script) -> Script:
    """Answers as `good` does what it has nothing against."""

    async def script(request: Received, connection: scripted.Connection) -> None:
        fault = next(refusals(request.json), None)
        if fault is None:
            await good(request, connection)
        else:
            await scripted.error(400, "invalid_request_error", fault)(request, connection)

    return script
