"""A request as a whole: each member, and what cannot be asked."""

import json
from typing import Any

import pytest

from ccfallback.config.presets import presets
from ccfallback.config.quirks import Quirks
from ccfallback.messages.body import Body
from ccfallback.wire.format import Unconvertible
from ccfallback.wire.openai.request import to_openai

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


def test_the_system_prompt_keeps_its_cache_marks_where_they_are_understood() -> None:
    assert first(Quirks(cache_control=True), system=SYSTEM)["content"] == [
        text("You are…", cache_control=EPHEMERAL),
        text("Env"),
    ]


@pytest.mark.parametrize("system", [None, "", [], [BILLING], [{"text": "x"}], 3])
def test_no_system_prompt_is_no_message(system: Any) -> None:
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
def test_only_so_many_stop_sequences_are_sent_as_may_be(
    limit: int, expected: list[str] | None
) -> None:
    stops = ["a", "", "b", " \n", "c", "d", "e", 3]
    assert asked(Quirks(stop_limit=limit), stop_sequences=stops).get("stop") == expected


@pytest.mark.parametrize("stops", [None, [], [""], "a"])
def test_no_stop_sequence_is_no_member(stops: Any) -> None:
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
def test_no_user_is_no_member(metadata: Any) -> None:
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


def test_a_temperature_of_zero_is_one() -> None:
    assert asked(temperature=0)["temperature"] == 0
    assert "temperature" not in asked(temperature="warm")


def test_openais_newest_models_get_what_they_take() -> None:
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
def test_json_of_a_schema_is_asked_for(members: dict[str, Any]) -> None:
    assert asked(**members)["response_format"] == {
        "type": "json_schema",
        "json_schema": {"name": "output", "schema": SCHEMA, "strict": True},
    }


@pytest.mark.parametrize(
    ("way", "member"), [("json_object", {"type": "json_object"}), ("prompt", None)]
)
def test_json_of_a_schema_is_asked_for_in_words(way: str, member: Any) -> None:
    config = {"format": {"type": "json_schema", "schema": SCHEMA}}
    made = asked(Quirks(response_format=way), output_config=config, system="S")
    assert made.get("response_format") == member
    assert made["messages"][0]["content"].startswith("S\n\nAnswer with JSON")
    assert '"required":["title"]' in made["messages"][0]["content"]


def test_a_schema_that_is_not_strict_is_not_called_so() -> None:
    loose = {"type": "object", "properties": {"a": {}}}
    made = asked(output_config={"format": {"type": "json_schema", "schema": loose}})
    assert "strict" not in made["response_format"]["json_schema"]


def test_what_only_anthropic_knows_stays_behind() -> None:
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


def test_further_members_are_the_users_own() -> None:
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
def test_what_would_be_answered_wrongly_is_not_asked(members: dict[str, Any]) -> None:
    with pytest.raises(Unconvertible, match=r"\w"):
        asked(**members)


@pytest.mark.parametrize(
    "raw",
    [
        rb'{"messages":[{"role":"user","content":"cut \ud800"}]}',
        rb'{"messages":[{"role":"user","content":"cut \ud83d\\n"}],"system":"\udc00"}',
    ],
)
def test_half_a_letter_makes_no_broken_text(raw: bytes) -> None:
    made = to_openai(Body.parse(raw), Quirks(), "m").raw.decode()
    assert "cut" in made


def test_letters_are_sent_as_they_are() -> None:
    raw = to_openai(body(messages=[user("é漢😀")]), Quirks(), "m").raw
    assert "é漢😀".encode() in raw


def test_a_schema_that_is_nested_without_end_is_not_asked() -> None:
    deep = b'{"anyOf":[' * 330 + b"{}" + b"]}" * 330
    raw = b'{"messages":[{"role":"user","content":"x"}],"tools":[{"name":"A","input_schema":'
    with pytest.raises(Unconvertible, match="deep"):
        to_openai(Body.parse(raw + deep + b"}]}"), Quirks(schema="gemini"), "m")
