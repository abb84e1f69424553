"""Requests as a whole: each member, golden files, and what holds for every request.

`UPDATE_GOLDEN=1` rewrites the files; review the difference before you commit it.
"""

import json
import os
from collections.abc import Iterator
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ccfallback.config.options import options
from ccfallback.config.presets import presets
from ccfallback.config.quirks import Quirks
from ccfallback.messages.body import Body
from ccfallback.messages.tools import ToolNames
from ccfallback.wire.format import Unconvertible
from ccfallback.wire.openai.request import to_openai
from ccfallback.wire.openai.tools import parameters

from .asked import asked, assistant, body, text, tool, user

BILLING = text("x-anthropic-billing-header: cc_version=2.1.330;")
EPHEMERAL = {"type": "ephemeral"}
SYSTEM = [BILLING, text("You are…", cache_control=EPHEMERAL), text("Env"), text(" ")]
SCHEMA = {
    "type": "object",
    "properties": {"title": {"type": "string"}},
    "required": ["title"],
    "additionalProperties": False,
}
OPENAI = Quirks(**presets()["openai"].quirks)


def first(quirks: Quirks = Quirks(), **members: Any) -> Any:  # noqa: B008
    return asked(quirks, **members)["messages"][0]


def test_the_system_prompt_is_one_text_without_the_billing_line() -> None:
    assert first(system=SYSTEM) == {"role": "system", "content": "You are…\n\nEnv"}
    assert first(OPENAI, system=SYSTEM) == {"role": "system", "content": "You are…\n\nEnv"}


def test_the_system_prompt_keeps_its_cache_marks_with_the_quirk() -> None:
    assert first(Quirks(cache_control=True), system=SYSTEM)["content"] == [
        text("You are…", cache_control=EPHEMERAL),
        text("Env"),
    ]


@pytest.mark.parametrize("system", [None, "", [], [BILLING], [{"text": "x"}], 3])
def test_without_a_system_prompt_there_is_no_system_message(system: Any) -> None:
    assert first(system=system) == {"role": "user", "content": "hi"}


def test_the_system_prompt_may_have_another_role() -> None:
    assert first(Quirks(system_role="developer"), system="S")["role"] == "developer"
    merged = asked(Quirks(system_role="user"), system="S")["messages"]
    assert merged == [{"role": "user", "content": "S\n\nhi"}]
    before = asked(Quirks(system_role="user"), system="S", messages=[assistant("a")])["messages"]
    assert [message["content"] for message in before] == ["S", "a"]


@pytest.mark.parametrize(
    ("quirks", "wanted", "expected"),
    [
        (Quirks(), 64000, {"max_tokens": 64000}),
        (Quirks(max_output_tokens=8192), 64000, {"max_tokens": 8192}),
        (Quirks(max_output_tokens=8192), 1, {"max_tokens": 1}),
        (Quirks(max_tokens_field="max_completion_tokens"), 5, {"max_completion_tokens": 5}),
        (Quirks(max_tokens_field="auto"), 5, {"max_tokens": 5}),
        (Quirks(), 0, {"max_tokens": 1}),
        (Quirks(), None, {}),
        (Quirks(), True, {}),
        (Quirks(), "5", {}),
    ],
)
def test_the_limit_of_an_answer(quirks: Quirks, wanted: Any, expected: dict[str, int]) -> None:
    made = asked(quirks, max_tokens=wanted)
    assert {key: value for key, value in made.items() if key.startswith("max_")} == expected


@pytest.mark.parametrize(("wanted", "sent"), [(0, 16), (1, 16), (16, 16), (17, 17)])
def test_reasoning_models_of_openai_get_no_limit_that_they_refuse(wanted: int, sent: int) -> None:
    made = asked(Quirks(max_tokens_field="auto"), model="gpt-5.6", max_tokens=wanted)
    assert made["max_completion_tokens"] == sent


@pytest.mark.parametrize(
    ("quirks", "stream", "expected"),
    [
        (Quirks(), True, {"stream": True, "stream_options": {"include_usage": True}}),
        (Quirks(stream_usage=False), True, {"stream": True}),
        (Quirks(), False, {}),
        (Quirks(), "yes", {}),
    ],
)
def test_a_stream_is_asked_for_with_its_usage(
    quirks: Quirks, stream: Any, expected: dict[str, Any]
) -> None:
    made = asked(quirks, stream=stream)
    assert {key: value for key, value in made.items() if key.startswith("stream")} == expected


@pytest.mark.parametrize(("limit", "expected"), [(4, ["a", "b", "c", "d"]), (1, ["a"]), (0, None)])
def test_stop_sequences_are_limited(limit: int, expected: list[str] | None) -> None:
    stops = ["a", "", "b", " \n", "c", "d", "e", 3]
    assert asked(Quirks(stop_limit=limit), stop_sequences=stops).get("stop") == expected


@pytest.mark.parametrize("stops", [None, [], [""], "a"])
def test_without_stop_sequences_there_is_no_member(stops: Any) -> None:
    assert "stop" not in asked(stop_sequences=stops)


def test_the_user_is_a_pseudonym() -> None:
    user_id = str({"device_id": "d" * 64, "account_uuid": "", "session_id": "s" * 36})
    raw = to_openai(body(metadata={"user_id": user_id}), Quirks(), "m").raw
    name = json.loads(raw)["user"]
    assert len(name) <= 64
    assert b"device_id" not in raw
    assert b"ssss" not in raw
    assert name == asked(metadata={"user_id": user_id})["user"]
    assert name != asked(metadata={"user_id": "another"})["user"]
    assert "user" not in asked(Quirks(user_field=False), metadata={"user_id": user_id})


@pytest.mark.parametrize("metadata", [None, {}, {"user_id": None}, {"user_id": 3}, "x"])
def test_without_a_user_there_is_no_member(metadata: Any) -> None:
    assert "user" not in asked(metadata=metadata)


SAMPLING = {"temperature": 0.7, "top_p": 0.9, "top_k": 5}


@pytest.mark.parametrize(
    ("quirks", "model", "thinking", "expected"),
    [
        (Quirks(), "m", None, {"temperature": 0.7, "top_p": 0.9}),
        (Quirks(top_k=True), "m", None, SAMPLING),
        (Quirks(sampling=False), "m", None, {}),
        (Quirks(), "gpt-5", None, {}),
        (Quirks(), "m", {"type": "enabled", "budget_tokens": 10_000}, {}),
        (Quirks(), "m", {"type": "disabled"}, {"temperature": 0.7, "top_p": 0.9}),
    ],
)
def test_sampling_is_sent_only_to_models_that_take_it(
    quirks: Quirks, model: str, thinking: Any, expected: dict[str, Any]
) -> None:
    made = asked(quirks, model, thinking=thinking, **SAMPLING)
    assert {key: made[key] for key in SAMPLING if key in made} == expected


def test_a_temperature_of_zero_is_sent() -> None:
    assert asked(temperature=0)["temperature"] == 0
    assert "temperature" not in asked(temperature="warm")


def test_openais_newest_models_get_their_own_members() -> None:
    made = asked(
        OPENAI,
        "gpt-5.6",
        max_tokens=64000,
        temperature=0.7,
        top_k=5,
        stop_sequences=["x"],
        thinking={"type": "adaptive"},
        output_config={"effort": "high"},
        tools=[tool("A")],
    )
    assert made["reasoning_effort"] == "none"
    assert made["max_completion_tokens"] == 64000
    assert not {"temperature", "top_k", "max_tokens", "stop"} & made.keys()


@pytest.mark.parametrize(
    "members",
    [
        {"output_config": {"format": {"type": "json_schema", "schema": SCHEMA}}},
        {"output_format": {"type": "json_schema", "schema": SCHEMA}},
    ],
)
def test_a_response_schema(members: dict[str, Any]) -> None:
    assert asked(**members)["response_format"] == {
        "type": "json_schema",
        "json_schema": {"name": "output", "schema": SCHEMA, "strict": True},
    }


@pytest.mark.parametrize(
    ("way", "member"), [("json_object", {"type": "json_object"}), ("prompt", None)]
)
def test_a_response_schema_in_words(way: str, member: Any) -> None:
    config = {"format": {"type": "json_schema", "schema": SCHEMA}}
    made = asked(Quirks(response_format=way), output_config=config, system="S")
    assert made.get("response_format") == member
    assert made["messages"][0]["content"].startswith("S\n\nAnswer with JSON")
    assert '"required":["title"]' in made["messages"][0]["content"]


def test_a_loose_response_schema_is_not_strict() -> None:
    loose = {"type": "object", "properties": {"a": {}}}
    made = asked(output_config={"format": {"type": "json_schema", "schema": loose}})
    assert "strict" not in made["response_format"]["json_schema"]


def test_anthropics_own_members_are_not_sent() -> None:
    members: Any = {
        "context_management": {"edits": []},
        "container": "c",
        "mcp_servers": [],
        "service_tier": "auto",
        "speed": "fast",
        "inference_geo": "eu",
        "diagnostics": {},
        "fallbacks": "default",
        "fallback_credit_token": "t",
        "billing_policy": {},
        "cache_control": EPHEMERAL,
        "thread": {"type": "create"},
        "never_heard_of": 1,
    }
    assert asked(**members).keys() == {"model", "messages"}


def test_extra_members_come_from_the_configuration() -> None:
    quirks = Quirks(extra_body={"provider": {"sort": "price"}, "max_tokens": 7})
    made = asked(quirks, max_tokens=5)
    assert made["provider"] == {"sort": "price"}
    assert made["max_tokens"] == 7


@pytest.mark.parametrize(
    "members",
    [
        {"compaction": {"type": "summarize"}},
        {"thread": {"type": "continue", "previous_message_id": "m"}},
        {"messages": []},
        {"messages": None},
        {"messages": [user(" ")]},
        {"messages": [assistant({"type": "thinking", "thinking": "hm", "signature": "s"})]},
    ],
)
def test_unconvertible_requests(members: dict[str, Any]) -> None:
    with pytest.raises(Unconvertible, match=r"\w"):
        asked(**members)


@pytest.mark.parametrize(
    "raw",
    [
        rb'{"messages":[{"role":"user","content":"cut \ud800"}]}',
        rb'{"messages":[{"role":"user","content":"cut \ud83d\\n"}],"system":"\udc00"}',
    ],
)
def test_a_lone_surrogate_makes_no_broken_text(raw: bytes) -> None:
    made = to_openai(Body.parse(raw), Quirks(), "m").raw.decode()
    assert "cut" in made


def test_characters_are_not_escaped() -> None:
    raw = to_openai(body(messages=[user("é漢😀")]), Quirks(), "m").raw
    assert "é漢😀".encode() in raw


def test_a_schema_that_is_nested_too_deeply() -> None:
    deep = b'{"anyOf":[' * 330 + b"{}" + b"]}" * 330
    raw = b'{"messages":[{"role":"user","content":"x"}],"tools":[{"name":"A","input_schema":'
    with pytest.raises(Unconvertible, match="deep"):
        to_openai(Body.parse(raw + deep + b"}]}"), Quirks(schema="gemini"), "m")


CASES = sorted((Path(__file__).parent / "cases" / "request").glob("*.json"))

OUTSIDE = frozenset({"reasoning", "thinking", "enable_thinking", "tool_stream"})
"""Members that providers have added to the format."""


def read(case: Path) -> Any:
    return msgspec.json.decode(case.read_bytes())


def translated(case: Path, preset: str, model: str = "m") -> Body:
    asked = Body.parse(msgspec.json.encode(read(case)["asked"]))
    return to_openai(asked, Quirks(**presets()[preset].quirks), model)


def test_there_are_cases() -> None:
    assert len(CASES) == 6


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.stem)
def test_a_request_equals_its_golden_file(case: Path) -> None:
    written = read(case)
    made = translated(case, written["preset"], written["model"])
    if os.environ.get("UPDATE_GOLDEN"):
        new = msgspec.json.encode({**written, "expected": msgspec.Raw(made.raw)})
        case.write_bytes(msgspec.json.format(new, indent=1) + b"\n")
    assert made.raw == msgspec.json.encode(read(case)["expected"])


@cache
def adapter(kind: Any) -> Any:
    """pydantic's validator of a type, which takes long to make."""
    from pydantic import TypeAdapter

    return TypeAdapter(kind)


@pytest.mark.usefixtures("untraced")
@pytest.mark.parametrize(
    "preset", [name for name, row in presets().items() if row.format == "openai"]
)
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.stem)
def test_a_request_is_valid_for_the_official_client(case: Path, preset: str) -> None:
    pytest.importorskip("pydantic")
    chat = pytest.importorskip("openai.types.chat")
    params = pytest.importorskip("openai.types.chat.completion_create_params")

    def check(kind: Any, value: Any) -> None:
        adapter(kind).validate_python(value, strict=True)

    made = msgspec.json.decode(translated(case, preset).raw)
    is_stream = made.get("stream", False)
    kind = (
        params.CompletionCreateParamsStreaming
        if is_stream
        else params.CompletionCreateParamsNonStreaming
    )
    known = kind.__annotations__ | params.CompletionCreateParamsBase.__annotations__
    assert set(made) <= set(known) | OUTSIDE
    # What is iterable is checked piece by piece: as a whole it would only be looked at lazily.
    check(kind, {**made, "messages": [], "tools": []})
    for function in made.get("tools", ()):
        check(chat.ChatCompletionFunctionToolParam, function)
    for message in made["messages"]:
        content = message.get("content")
        for part in content if isinstance(content, list) else ():
            check(chat.ChatCompletionContentPartParam, part)
        for call in message.get("tool_calls", ()):
            check(chat.ChatCompletionMessageFunctionToolCallParam, call)
        whole = {key: value for key, value in message.items() if key != "tool_calls"}
        if isinstance(content, list):
            whole["content"] = "parts"
        check(chat.ChatCompletionMessageParam, whole)


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


@given(st.dictionaries(MEMBERS, JSON, max_size=8), QUIRKS, MODELS)
def test_no_request_raises(members: dict[str, Any], quirks: Quirks, model: str) -> None:
    raw = msgspec.json.encode(members)
    body = Body.parse(raw)
    first = translate(body, quirks, model)
    assert {key: body.get(key) for key in members} == msgspec.json.decode(raw)
    assert translate(Body.parse(raw), quirks, model) == first


@given(JSON, st.sampled_from(["openai", "gemini", "kimi"]))
def test_no_schema_raises(schema: Any, dialect: str) -> None:
    before = msgspec.json.encode(schema)
    made = parameters(schema, dialect)
    assert made["type"] == "object"
    assert isinstance(made["properties"], dict)
    assert msgspec.json.encode(schema) == before


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
    for words in texts_in(conversation):
        assert words.isspace() or any(words.rstrip() in one for one in said)


@given(CONVERSATIONS, TOOLS, QUIRKS)
def test_a_longer_conversation_has_the_same_prefix(
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
