"""Requests to repair: small ones, what the real client sent, and generated ones."""

from copy import deepcopy
from pathlib import Path
from typing import Any, Final

import msgspec
from hypothesis import strategies as st

from ccfallback.messages.body import Body
from ccfallback.policy.draft import RequestDraft
from ccfallback.rectify import attempt
from ccfallback.rectify.rule import Refusal, Repaired
from tests.rectify.validity import faults

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


def repaired(name: str, before: RequestDraft, message: str, code: str = "") -> Repaired:
    """The repair of a request. Its lesson has to lead to the same one, and only to that."""
    raw = before.body.raw
    made = attempt(name, before, Refusal(400, message, code))
    assert made is not None, message
    assert before.body.raw == raw
    if "contains at least" not in message:
        again = attempt(name, made.draft, Refusal(400, message, code))
        assert again is None, (message, again)
    if made.lesson is not None:
        taught = attempt(name, before, Refusal(400, made.lesson))
        assert taught is not None, made.lesson
        assert taught.draft.body.raw == made.draft.body.raw, made.lesson
        assert taught.draft.betas == made.draft.betas, made.lesson
        assert taught.lesson == made.lesson
        assert attempt(name, made.draft, Refusal(400, made.lesson)) is None
        assert attempt(name, draft(max_tokens=1000), Refusal(400, made.lesson)) is None
    return made


def after(name: str, before: RequestDraft, message: str) -> dict[str, Any]:
    """What a request is after its repair."""
    return members(repaired(name, before, message).draft)


def refused(name: str, before: RequestDraft, message: str) -> bool:
    """Whether a repair leaves a request alone."""
    return attempt(name, before, Refusal(400, message)) is None


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
    """A request that has something for every repair."""
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


CAPTURED = sorted(CASES.glob("*.json"))
"""Requests of the real client, trimmed."""

MARK: dict[str, Any] = {"cache_control": {"type": "ephemeral"}}


def captured_body(case: Path) -> dict[str, Any]:
    asked: dict[str, Any] = msgspec.json.decode(case.read_bytes())["asked"]
    return asked


def draft_of(body: Any, *betas: str) -> RequestDraft:
    return RequestDraft(Body.parse(msgspec.json.encode(body)), betas)


def body_of(draft: RequestDraft) -> Any:
    return msgspec.json.decode(draft.body.raw)


def repair_body(name: str, body: Any, message: str) -> Repaired | None:
    """The repair of a body; it must not change what it was given, and must be complete."""
    draft = draft_of(body, "a-2025-01-01")
    refusal = Refusal(400, message)
    members = {key: deepcopy(draft.body.get(key)) for key in body}
    made = attempt(name, draft, refusal)
    assert {key: draft.body.get(key) for key in body} == members
    assert draft.body.raw == msgspec.json.encode(body)
    if made is None:
        return None
    assert made.changed
    assert body_of(made.draft) != body
    assert attempt(name, made.draft, refusal) is None, "it is repaired already"
    again = attempt(name, RequestDraft(Body.parse(made.draft.body.raw)), refusal)
    assert again is None, "it is repaired already"
    if made.lesson is not None:
        lesson = Refusal(400, made.lesson)
        assert attempt(name, made.draft, lesson) is None, "the lesson finds nothing more to do"
    return made


def body_after(name: str, body: Any, message: str) -> Any:
    """The repaired body."""
    repair = repair_body(name, body, message)
    assert repair is not None
    return body_of(repair.draft)


def call(tool_id: str, name: str = "Bash", **more: Any) -> dict[str, Any]:
    return {"type": "tool_use", "id": tool_id, "name": name, "input": {}, **more}


def result(tool_id: str, content: Any = "done", **more: Any) -> dict[str, Any]:
    return {"type": "tool_result", "tool_use_id": tool_id, "content": content, **more}


def missing(tool_id: str) -> dict[str, Any]:
    return result(tool_id, "[interrupted]", is_error=True)


def system(words: str) -> dict[str, Any]:
    return {"role": "system", "content": words}


def server_call(tool_id: str) -> dict[str, Any]:
    return {"type": "server_tool_use", "id": tool_id, "name": "web_search", "input": {"query": "q"}}


def server_result(tool_id: str) -> dict[str, Any]:
    return {"type": "web_search_tool_result", "tool_use_id": tool_id, "content": []}


def tool(name: str, **schema: Any) -> dict[str, Any]:
    return {"name": name, "description": "d", "input_schema": {"type": "object", **schema}}


PNG = "iVBORw0KGgoAAAANSUhEUgAAC7gAAAPoCAYAAAA="
"""The head of an image of 3000 by 1000 pixels."""


def image(data: str = PNG, media_type: str = "image/png", **more: Any) -> dict[str, Any]:
    source = {"type": "base64", "media_type": media_type, "data": data}
    return {"type": "image", "source": source, **more}


def document(**more: Any) -> dict[str, Any]:
    source = {"type": "base64", "media_type": "application/pdf", "data": "JVBERi0="}
    return {"type": "document", "source": source, **more}


TOOLS = [tool("Bash"), tool("Read")]

WORDS = st.sampled_from(["a", "be", "see this", "x\ny"])


@st.composite
def conversations(draw: st.DrawFn) -> dict[str, Any]:
    """A valid request: turns of users and assistants, calls with results, system messages."""
    messages: list[Any] = []
    number = 0
    waiting: list[str] = []
    for _ in range(draw(st.integers(1, 4))):
        said = [text(draw(WORDS))] if not waiting or draw(st.booleans()) else []
        if draw(st.booleans()):
            said.append(draw(st.sampled_from([image(), document(), text("more", citations=[])])))
        contents = st.sampled_from(["done", [text("found"), image()], [], ""])
        results = [result(tool_id, draw(contents)) for tool_id in waiting]
        plain = len(said) == 1 and not results and draw(st.booleans())
        only_text = plain and said[0]["type"] == "text"
        messages.append(
            {"role": "user", "content": said[0]["text"]} if only_text else user(*results, *said)
        )
        if draw(st.integers(0, 3)) == 0:
            messages.append(system(draw(WORDS)))
        answer = [{"type": "thinking", "thinking": "t", "signature": "s"}] * draw(st.integers(0, 1))
        if draw(st.booleans()):
            number += 1
            tool_id = f"srvtoolu_{number}"
            answer += [server_call(tool_id), server_result(tool_id)]
        answer += [text(draw(WORDS))] * draw(st.integers(0, 1))
        waiting = [f"toolu_{number + n}" for n in range(1, 1 + draw(st.integers(0, 3)))]
        number += len(waiting)
        answer += [call(tool_id) for tool_id in waiting]
        messages.append(assistant(*answer) if answer else assistant(text("ok")))
    messages.append(user(*map(result, waiting), text("go on")))
    if draw(st.booleans()):
        messages.append(system("last"))
    body = {"model": "m", "messages": messages, "tools": TOOLS, "max_tokens": 5}
    if draw(st.booleans()):
        body["system"] = [text("s", **MARK)]
    assert not faults(body)
    return body


SCALARS = st.none() | st.booleans() | st.integers(-3, 300) | st.sampled_from(["", " ", "a", "user"])
KEYS = st.sampled_from(
    [
        *("role", "content", "type", "text", "id", "tool_use_id", "name", "input", "source"),
        *("data", "cache_control", "input_schema", "properties", "items", "anyOf", "required"),
    ]
)
KINDS = st.sampled_from(
    [
        *("text", "tool_use", "tool_result", "image", "document", "thinking", "server_tool_use"),
        *("web_search_tool_result", "tool_addition", "object", "base64", "text", "array"),
    ]
)
ROLES = st.sampled_from(["user", "assistant", "system", "tool", 5])
IDS = st.sampled_from(["a", "b", "c.d", "", "srvtoolu_1", 7, None])
JSON = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=3),
    max_leaves=8,
)
BLOCKS = st.recursive(
    st.fixed_dictionaries(
        {},
        optional={
            "type": KINDS | JSON,
            "id": IDS,
            "tool_use_id": IDS,
            "text": SCALARS,
            "source": JSON,
            "content": JSON,
            "cache_control": JSON,
        },
    ),
    lambda inner: st.fixed_dictionaries(
        {"type": st.just("tool_result"), "tool_use_id": IDS, "content": st.lists(inner, max_size=3)}
    ),
    max_leaves=3,
)
MESSAGES = st.fixed_dictionaries(
    {"role": ROLES, "content": st.lists(BLOCKS | JSON, max_size=4) | JSON},
    optional={"output_config": JSON, "clear_at": st.just("next_user_message")},
)
STRANGE = st.fixed_dictionaries(
    {"messages": st.lists(MESSAGES | JSON, max_size=5) | JSON},
    optional={
        "tools": st.lists(st.dictionaries(KEYS, JSON, max_size=4) | JSON, max_size=3) | JSON,
        "system": st.lists(BLOCKS, max_size=2) | JSON,
        "cache_control": JSON,
    },
)
"""Bodies that no client would send."""
