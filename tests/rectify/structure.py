"""Conversations to break and to repair, and the words in which providers complain of each fault."""

from copy import deepcopy
from pathlib import Path
from typing import Any

import msgspec
from hypothesis import strategies as st

from ccfallback.messages.body import Body
from ccfallback.policy.draft import RequestDraft
from ccfallback.rectify.after_results import AFTER_RESULTS
from ccfallback.rectify.alternation import ALTERNATION
from ccfallback.rectify.block_types import BLOCK_TYPES
from ccfallback.rectify.cache_marks import CACHE_MARKS
from ccfallback.rectify.citations import CITATIONS
from ccfallback.rectify.empty_text import EMPTY_TEXT
from ccfallback.rectify.media import MEDIA
from ccfallback.rectify.orphan_results import ORPHAN_RESULTS
from ccfallback.rectify.prefill import PREFILL
from ccfallback.rectify.rule import Rectifier, Refusal, Repaired
from ccfallback.rectify.server_tools import SERVER_TOOLS
from ccfallback.rectify.tool_ids import TOOL_IDS
from ccfallback.rectify.tool_names import TOOL_NAMES
from ccfallback.rectify.tool_schemas import TOOL_SCHEMAS
from ccfallback.rectify.tool_use_concurrency import TOOL_USE_CONCURRENCY
from ccfallback.rectify.tools_missing import TOOLS_MISSING
from tests.rectify.validity import faults

STRUCTURE: tuple[Rectifier, ...] = (
    BLOCK_TYPES,
    SERVER_TOOLS,
    TOOL_USE_CONCURRENCY,
    ORPHAN_RESULTS,
    TOOL_IDS,
    TOOL_NAMES,
    TOOLS_MISSING,
    TOOL_SCHEMAS,
    EMPTY_TEXT,
    CACHE_MARKS,
    CITATIONS,
    MEDIA,
    AFTER_RESULTS,
    ALTERNATION,
    PREFILL,
)
"""In the order in which they are to be considered."""

CAPTURED = sorted(
    (Path(__file__).parents[1] / "wire" / "openai" / "cases" / "request").glob("*.json")
)
"""Requests of the real client, trimmed."""

MARK: dict[str, Any] = {"cache_control": {"type": "ephemeral"}}


def captured(case: Path) -> dict[str, Any]:
    asked: dict[str, Any] = msgspec.json.decode(case.read_bytes())["asked"]
    return asked


def draft_of(body: Any, *betas: str) -> RequestDraft:
    return RequestDraft(Body.parse(msgspec.json.encode(body)), betas)


def body_of(draft: RequestDraft) -> Any:
    return msgspec.json.decode(draft.body.raw)


def repaired(rectifier: Rectifier, body: Any, message: str) -> Repaired | None:
    """What a rectifier makes of a body; it may not change what it was given, nor go on for ever."""
    draft = draft_of(body, "a-2025-01-01")
    refusal = Refusal(400, message)
    members = {key: deepcopy(draft.body.get(key)) for key in body}
    made = rectifier.repair(draft, refusal)
    assert {key: draft.body.get(key) for key in body} == members
    assert draft.body.raw == msgspec.json.encode(body)
    if made is None:
        return None
    assert made.changed
    assert body_of(made.draft) != body
    assert rectifier.repair(made.draft, refusal) is None, "it is repaired already"
    again = rectifier.repair(RequestDraft(Body.parse(made.draft.body.raw)), refusal)
    assert again is None, "it is repaired already"
    if made.lesson is not None:
        lesson = Refusal(400, made.lesson)
        assert rectifier.repair(made.draft, lesson) is None, "the lesson finds nothing more to do"
    return made


def made(rectifier: Rectifier, body: Any, message: str) -> Any:
    """The repaired body."""
    repair = repaired(rectifier, body, message)
    assert repair is not None
    return body_of(repair.draft)


def text(words: str, **more: Any) -> dict[str, Any]:
    return {"type": "text", "text": words, **more}


def call(tool_id: str, name: str = "Bash", **more: Any) -> dict[str, Any]:
    return {"type": "tool_use", "id": tool_id, "name": name, "input": {}, **more}


def result(tool_id: str, content: Any = "done", **more: Any) -> dict[str, Any]:
    return {"type": "tool_result", "tool_use_id": tool_id, "content": content, **more}


def missing(tool_id: str) -> dict[str, Any]:
    return result(tool_id, "[interrupted]", is_error=True)


def user(*blocks: Any) -> dict[str, Any]:
    return {"role": "user", "content": list(blocks)}


def assistant(*blocks: Any) -> dict[str, Any]:
    return {"role": "assistant", "content": list(blocks)}


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
