"""Requests to repair: small ones, and what the real client sent."""

from pathlib import Path
from typing import Any, Final

import msgspec

from ccfallback.messages.body import Body
from ccfallback.policy.draft import RequestDraft
from ccfallback.rectify.rule import Rectifier, Refusal, Repaired

CASES: Final = Path(__file__).parents[1] / "wire" / "openai" / "cases" / "request"

THOUGHT: Final = {"type": "thinking", "thinking": "Let me.", "signature": "c2ln"}
CALL: Final = {"type": "tool_use", "id": "t1", "name": "Bash", "input": {"command": "ls"}}
RESULT: Final = {"type": "tool_result", "tool_use_id": "t1", "content": "ok"}
CACHED: Final = {"cache_control": {"type": "ephemeral", "ttl": "1h", "scope": "global"}}

BETAS: Final = (
    *("claude-code-20250219", "interleaved-thinking-2025-05-14", "context-management-2025-06-27"),
    *("per-turn-control-2026-07-01", "mid-conversation-tool-changes-2026-07-01"),
    *("thinking-token-count-2026-05-13", "advanced-tool-use-2025-11-20", "effort-2025-11-24"),
)
"""What the client sends."""


def user(*blocks: Any, **more: Any) -> dict[str, Any]:
    return {"role": "user", "content": list(blocks), **more}


def assistant(*blocks: Any, **more: Any) -> dict[str, Any]:
    return {"role": "assistant", "content": list(blocks), **more}


def text(words: str, **more: Any) -> dict[str, Any]:
    return {"type": "text", "text": words, **more}


HI: Final = {"role": "user", "content": "hi"}


def draft(*messages: Any, betas: tuple[str, ...] = (), **members: Any) -> RequestDraft:
    """A request of these messages and members."""
    body = {"model": "m", "max_tokens": 32000, "messages": list(messages or (HI,)), **members}
    return RequestDraft(Body.parse(msgspec.json.encode(body)), betas)


def members(of: RequestDraft) -> dict[str, Any]:
    """A request, parsed anew."""
    parsed: dict[str, Any] = msgspec.json.decode(of.body.raw)
    return parsed


def repaired(rectifier: Rectifier, before: RequestDraft, message: str, code: str = "") -> Repaired:
    """The repair of a request. Its lesson has to lead to the same one, and only to that."""
    raw = before.body.raw
    made = rectifier.repair(before, Refusal(400, message, code))
    assert made is not None, message
    assert before.body.raw == raw
    again = rectifier.repair(made.draft, Refusal(400, message, code))
    assert again is None, (message, again)
    if made.lesson is not None:
        taught = rectifier.repair(before, Refusal(400, made.lesson))
        assert taught is not None, made.lesson
        assert taught.draft.body.raw == made.draft.body.raw, made.lesson
        assert taught.draft.betas == made.draft.betas, made.lesson
        assert taught.lesson == made.lesson
        assert rectifier.repair(made.draft, Refusal(400, made.lesson)) is None
        assert rectifier.repair(draft(max_tokens=1000), Refusal(400, made.lesson)) is None
    return made


def after(rectifier: Rectifier, before: RequestDraft, message: str) -> dict[str, Any]:
    """What a request is after its repair."""
    return members(repaired(rectifier, before, message).draft)


def refused(rectifier: Rectifier, before: RequestDraft, message: str) -> bool:
    """Whether a rectifier leaves a request alone."""
    return rectifier.repair(before, Refusal(400, message)) is None


def captured() -> list[RequestDraft]:
    """What the real client sent."""
    return [
        RequestDraft(
            Body.parse(msgspec.json.encode(msgspec.json.decode(path.read_bytes())["asked"])), BETAS
        )
        for path in sorted(CASES.glob("*.json"))
    ]


_HISTORY: Final = (
    HI,
    {"role": "assistant", "content": "Hello."},
    user(text("hi", **CACHED), id="msg_1"),
    {
        "role": "system",
        "content": [
            text("Note.", **CACHED),
            {"type": "tool_addition", "tool": {"type": "tool_reference", "name": "WebFetch"}},
        ],
        "output_config": {"effort": "max"},
    },
    assistant(
        THOUGHT,
        {"type": "thinking", "thinking": "", "signature": ""},
        {"type": "redacted_thinking", "data": "x"},
        text("Well."),
        {**CALL, "caller": {"type": "direct"}, "signature": "gemini"},
        id="msg_2",
    ),
    user({**RESULT, "content": [{"type": "tool_reference", "tool_name": "WebFetch"}]}),
)
_TOOLS: Final = (
    {
        "name": "Bash",
        "input_schema": {"type": "object", "properties": {"caller": {"type": "string"}}},
        "input_examples": [{}],
        "strict": True,
        "eager_input_streaming": True,
        "allowed_callers": ["direct"],
    },
    {"name": "WebFetch", "input_schema": {"type": "object"}, "defer_loading": True, **CACHED},
    {"name": "DeferredToolPlaceholder", "input_schema": {}, "defer_loading": True},
)


def full(**other: Any) -> RequestDraft:
    """A request that has something for every rectifier."""
    return draft(
        *_HISTORY,
        betas=(*BETAS, "task-budgets-2026-03-13"),
        **{
            "max_tokens": 128000,
            "system": [text("x-anthropic-billing-header: cc=1"), text("Be good.", **CACHED)],
            "tools": list(_TOOLS),
            "tool_choice": {"type": "tool", "name": "Bash", "disable_parallel_tool_use": True},
            "thinking": {"type": "adaptive", "display": "omitted", "block_binding": {"a": "b"}},
            "context_management": {"edits": [{"type": "clear_thinking_20251015", "keep": "all"}]},
            "output_config": {"effort": "xhigh", "task_budget": {"type": "tokens", "total": 9}},
            "metadata": {"user_id": "u"},
            "diagnostics": {"previous_message_id": None},
            "stop_sequences": ["END"],
            "temperature": 0.7,
            "top_p": 0.9,
            "top_k": 5,
            **other,
        },
    )


FULL: Final = (
    full(),
    full(thinking={"type": "enabled", "budget_tokens": 500, "display": "omitted"}),
    full(thinking={"type": "enabled", "budget_tokens": 200000}),
    full(thinking={"type": "disabled"}),
)
"""One for each way of asking for thinking."""
