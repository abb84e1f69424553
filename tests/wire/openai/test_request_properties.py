"""What holds of every request, whatever it is made of."""

from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import msgspec
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ccfallback.config.options import options
from ccfallback.config.presets import presets
from ccfallback.config.quirks import Quirks
from ccfallback.messages.body import Body
from ccfallback.messages.tools import ToolNames
from ccfallback.wire.format import Unconvertible
from ccfallback.wire.openai.request import to_openai
from ccfallback.wire.openai.tools import parameters

QUIRKS = st.one_of(
    st.just(Quirks()),
    st.sampled_from([Quirks(**row.quirks) for row in presets().values()]),
    st.builds(
        Quirks,
        **{row.key: st.booleans() for row in options(Quirks) if row.kind is bool},
        tool_id_style=st.sampled_from(["keep", "short", "mistral"]),
        reasoning_content=st.sampled_from(["drop", "calls", "all"]),
        system_role=st.sampled_from(["system", "developer", "user"]),
        schema=st.sampled_from(["openai", "gemini", "kimi"]),
        stop_limit=st.integers(0, 4),
    ),
)
MODELS = st.sampled_from(["m", "gpt-5.6", "gpt-4o", "o3"])

WORDS = st.sampled_from(
    [
        *("type", "text", "role", "content", "user", "assistant", "system", "tool_use", "name"),
        *("tool_result", "tool_use_id", "id", "input", "thinking", "tools", "input_schema", "$ref"),
        *("properties", "anyOf", "allOf", "items", "enum", "#/properties", "image", "source"),
        *("document", "base64", "data", "tool", "tool_addition", "definition", "tool_reference"),
        *("required", "additionalProperties", "format", "const", "defer_loading", "object"),
    ]
)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | WORDS | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(WORDS, inner, max_size=5),
    max_leaves=25,
)
MEMBERS = st.sampled_from(
    [
        *("messages", "system", "tools", "tool_choice", "thinking", "output_config", "metadata"),
        *("stop_sequences", "max_tokens", "temperature", "compaction", "thread", "output_format"),
    ]
)

TEXT = st.text(st.characters(codec="utf-8"), min_size=1, max_size=12)
IDS = st.sampled_from(["t1", "t2", "t3", "toolu_" + "x" * 50])
NAMES = st.sampled_from(["Bash", "Read", "mcp__" + "y" * 70, "a.b"])


def block(kind: str, **members: st.SearchStrategy[Any]) -> st.SearchStrategy[dict[str, Any]]:
    return st.fixed_dictionaries({"type": st.just(kind), **members})


def message(
    role: str, *blocks: st.SearchStrategy[dict[str, Any]]
) -> st.SearchStrategy[dict[str, Any]]:
    content = TEXT | st.lists(st.one_of(*blocks), max_size=4)
    return st.fixed_dictionaries({"role": st.just(role), "content": content})


TEXTS = block("text", text=TEXT)
IMAGES = block("image", source=st.just({"type": "base64", "media_type": "image/png", "data": "A"}))
RESULTS = block("tool_result", tool_use_id=IDS, content=TEXT | st.lists(TEXTS | IMAGES, max_size=3))
CALLS = block("tool_use", id=IDS, name=NAMES, input=st.dictionaries(TEXT, TEXT, max_size=2))
THINKING = block("thinking", thinking=TEXT, signature=TEXT)
CONVERSATIONS = st.lists(
    message("user", TEXTS, RESULTS, IMAGES)
    | message("assistant", TEXTS, CALLS, THINKING)
    | message("system", TEXTS),
    min_size=1,
    max_size=8,
)
TOOLS = st.lists(
    st.fixed_dictionaries({"name": NAMES, "input_schema": st.just({"type": "object"})}), max_size=4
)

many = settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow])


def translate(body: Body, quirks: Quirks, model: str = "m") -> Any:
    try:
        return msgspec.json.decode(to_openai(body, quirks, model).raw)
    except Unconvertible:
        return None


def texts_in(value: Any) -> Iterator[str]:
    """The texts of all text blocks that a conversation may not lose."""
    for one in value:
        content = one["content"]
        if isinstance(content, str):
            yield content
            continue
        for inner in content:
            if inner["type"] == "text":
                yield inner["text"]
            elif inner["type"] == "tool_result":
                yield from texts_in([inner])


@many
@given(st.dictionaries(MEMBERS, JSON, max_size=8), QUIRKS, MODELS)
def test_no_request_is_too_strange(members: dict[str, Any], quirks: Quirks, model: str) -> None:
    raw = msgspec.json.encode(members)
    body = Body.parse(raw)
    first = translate(body, quirks, model)
    assert {key: body.get(key) for key in members} == msgspec.json.decode(raw)
    assert translate(Body.parse(raw), quirks, model) == first


@many
@given(JSON, st.sampled_from(["openai", "gemini", "kimi"]))
def test_no_schema_is_too_strange(schema: Any, dialect: str) -> None:
    before = msgspec.json.encode(schema)
    made = parameters(schema, dialect)
    assert made["type"] == "object"
    assert isinstance(made["properties"], dict)
    assert msgspec.json.encode(schema) == before


@many
@given(CONVERSATIONS, TOOLS, QUIRKS)
def test_every_call_has_one_result_and_every_result_a_call(
    conversation: Any, tools: Any, quirks: Quirks
) -> None:
    made = translate(
        Body.parse(msgspec.json.encode({"messages": conversation, "tools": tools})), quirks
    )
    waiting: list[str] = []
    for sent in made["messages"] if made else ():
        if sent["role"] == "tool":
            assert sent["tool_call_id"] == waiting.pop(0)
            continue
        assert not waiting
        waiting = [call["id"] for call in sent.get("tool_calls", ())]
        assert len(set(waiting)) == len(waiting)
    assert not waiting


@many
@given(CONVERSATIONS, QUIRKS)
def test_roles_are_where_a_provider_expects_them(conversation: Any, quirks: Quirks) -> None:
    made = translate(
        Body.parse(msgspec.json.encode({"messages": conversation, "system": "S"})), quirks
    )
    roles = [sent["role"] for sent in made["messages"]] if made else []
    assert quirks.system_inline or "system" not in roles[1:]
    for before, after in pairwise(roles):
        assert before != after or before == "tool"
        assert quirks.user_after_tool or (before, after) != ("tool", "user")


@many
@given(CONVERSATIONS, QUIRKS)
def test_no_text_is_lost(conversation: Any, quirks: Quirks) -> None:
    made = translate(Body.parse(msgspec.json.encode({"messages": conversation})), quirks)
    said = [
        part["text"] if isinstance(part, dict) else part
        for sent in (made["messages"] if made else ())
        for part in (
            sent["content"] if isinstance(sent["content"], list) else [sent["content"] or ""]
        )
        if isinstance(part, str) or part["type"] == "text"
    ]
    # Space at the very end of an answer that is to be continued is refused by many.
    for text in texts_in(conversation):
        assert text.isspace() or any(text.rstrip() in one for one in said)


@many
@given(CONVERSATIONS, TOOLS, QUIRKS)
def test_no_user_finds_another_prefix_when_the_conversation_goes_on(
    conversation: Any, tools: Any, quirks: Quirks
) -> None:
    """A provider caches by prefix: what is added must not change what was there."""
    longer = [
        *conversation,
        {"role": "assistant", "content": "a"},
        {"role": "user", "content": "b"},
    ]
    ended = [*conversation, {"role": "assistant", "content": "a"}]
    before, after = (
        translate(Body.parse(msgspec.json.encode({"messages": each, "tools": tools})), quirks)
        for each in (ended, longer)
    )
    assert after["messages"][: len(before["messages"]) - 1] == before["messages"][:-1]


@given(TOOLS, NAMES)
def test_the_names_of_calls_lead_back_to_the_tools(tools: Any, name: str) -> None:
    members = {
        "tools": tools,
        "messages": [
            {"role": "assistant", "content": [{"type": "tool_use", "id": "t", "name": name}]}
        ],
    }
    body = Body.parse(msgspec.json.encode(members))
    made = translate(body, Quirks())
    sent = made["messages"][0]["tool_calls"][0]["function"]["name"]
    if any(tool["name"] == name for tool in tools):
        assert ToolNames.of(body).to_client(sent) == name
        assert sent in [tool["function"]["name"] for tool in made["tools"]]
