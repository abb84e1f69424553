"""What concerns thinking in a request: the blocks of the history, the switch, and the budgets."""

from collections.abc import Callable, Mapping
from typing import Any, Final

from ccfallback.messages.body import Body
from ccfallback.messages.effort import LEAST_BUDGET
from ccfallback.policy.draft import RequestDraft
from ccfallback.rectify.betas import settled
from ccfallback.rectify.parts import (
    Block,
    blocks_of,
    kind_of,
    messages_of,
    role_of,
    without_blocks,
)

THOUGHTS: Final = frozenset({"thinking", "redacted_thinking"})

FORCING: Final = frozenset({"any", "tool"})
"""Choices of a tool that leave the model none."""

BUDGETS: Final[Mapping[str, int]] = {
    "low": 2000,
    "medium": 8000,
    "high": 16000,
    "xhigh": 32000,
    "max": 32000,
}
"""Tokens of thinking for an effort: a convention, as there is no rule."""

_EFFORTS: Final = ((4096, "low"), (16384, "medium"))
"""Up to so many tokens of thinking are this effort; more is `high`, which needs no saying."""

_CLEARING: Final = "clear_thinking_"


def thinking_of(body: Body) -> Mapping[str, Any]:
    """The switch; empty where there is none."""
    thinking = body.get("thinking")
    return thinking if isinstance(thinking, dict) else {}


def forces_tool(body: Body) -> bool:
    """Whether the answer has to be a call."""
    return kind_of(body.get("tool_choice")) in FORCING


def max_tokens_of(body: Body) -> int:
    """The limit of the answer; zero where there is none."""
    limit = body.get("max_tokens")
    return limit if isinstance(limit, int) and not isinstance(limit, bool) else 0


def without_thoughts(
    body: Body, goes: Callable[[int, Block], bool] = lambda _index, _block: True
) -> tuple[Body, int]:
    """A body without those thinking blocks of the history, and how many there were."""
    return without_blocks(
        body, lambda index, block: kind_of(block) in THOUGHTS and goes(index, block)
    )


def without_switch(draft: RequestDraft) -> RequestDraft:
    """The draft without top-level `thinking`, and without what needs it to be on."""
    return without_clearing(settled(draft, draft.body.without("thinking")))


def without_clearing(draft: RequestDraft) -> RequestDraft:
    """The draft without the edits that clear thinking from the history."""
    management = draft.body.get("context_management")
    edits = management.get("edits") if isinstance(management, dict) else None
    if not isinstance(edits, list):
        return draft
    kept = [edit for edit in edits if not kind_of(edit).startswith(_CLEARING)]
    if len(kept) == len(edits):
        return draft
    if kept:
        body = draft.body.with_members(context_management={**management, "edits": kept})
    else:
        body = draft.body.without("context_management")
    return settled(draft, body)


def last_assistant(body: Body) -> int:
    """The place of the last assistant message; -1 where there is none."""
    messages = messages_of(body)
    return max(
        (index for index, message in enumerate(messages) if role_of(message) == "assistant"),
        default=-1,
    )


def is_in_tool_loop(body: Body) -> bool:
    """Whether the request brings the results of the last assistant message's calls."""
    messages, last = messages_of(body), last_assistant(body)
    return last >= 0 and any(
        kind_of(block) == "tool_result"
        for message in messages[last + 1 :]
        for block in blocks_of(message)
    )


def lacks_thought(body: Body) -> bool:
    """Whether a turn goes on that did not begin with thinking."""
    last = last_assistant(body)
    if last < 0 or not is_in_tool_loop(body):
        return False
    blocks = blocks_of(messages_of(body)[last])
    return not blocks or kind_of(blocks[0]) not in THOUGHTS


def with_budget(draft: RequestDraft, budget: int) -> RequestDraft:
    """The draft with thinking of so many tokens, or none where the answer leaves no room."""
    budget = min(budget, max_tokens_of(draft.body) - 1)
    if budget < LEAST_BUDGET:
        return without_switch(draft)
    thinking = {**thinking_of(draft.body), "type": "enabled", "budget_tokens": budget}
    return draft.with_body(draft.body.with_members(thinking=thinking))


def effort_for(budget: object) -> str | None:
    """The effort that a budget comes to; `None` where it is the one that everybody has."""
    if not isinstance(budget, int):
        return None
    return next((effort for most, effort in _EFFORTS if budget <= most), None)
