"""Thinking: how it is asked for, and how an answer carries it."""

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ccfallback.config.quirks import Quirks
from ccfallback.wire.openai.reasoning import (
    ReasoningDetails,
    ThinkTags,
    is_openai_reasoning,
)

from .asked import asked, system, tool, user

MEMBERS = ("reasoning_effort", "reasoning", "thinking", "enable_thinking", "thinking_budget")
ADAPTIVE = {"type": "adaptive"}
OFF = {"type": "disabled"}


def enabled(budget: int) -> dict[str, Any]:
    return {"type": "enabled", "budget_tokens": budget}


def effort(level: str) -> dict[str, Any]:
    return {"effort": level}


def wished(style: str, model: str = "m", highest: str = "max", **members: Any) -> dict[str, Any]:
    quirks = Quirks(reasoning=style, max_effort=highest)
    made = asked(quirks, model, max_tokens=64000, **members)
    return {key: made[key] for key in MEMBERS if key in made}


@pytest.mark.parametrize("members", [{"thinking": ADAPTIVE}, {"output_config": effort("high")}])
def test_unknown_providers_get_no_thinking_members(members: dict[str, Any]) -> None:
    assert wished("none", **members) == {}


def test_the_last_effort_in_the_conversation_counts() -> None:
    messages = [
        user("a"),
        system("x", output_config=effort("max")),
        user("b"),
        system("y", output_config=effort("low")),
        user("c"),
    ]
    assert wished("effort", messages=messages, output_config=effort("high")) == {
        "reasoning_effort": "low"
    }


@pytest.mark.parametrize(
    ("highest", "level", "expected"),
    [
        ("high", "low", "low"),
        ("high", "xhigh", "high"),
        ("high", "max", "high"),
        ("xhigh", "max", "xhigh"),
        ("max", "max", "max"),
    ],
)
def test_an_effort_above_the_highest_is_lowered(highest: str, level: str, expected: str) -> None:
    assert wished("effort", highest=highest, output_config=effort(level)) == {
        "reasoning_effort": expected
    }


@pytest.mark.parametrize(
    ("thinking", "expected"),
    [
        (enabled(1024), {"reasoning_effort": "low"}),
        (enabled(10_000), {"reasoning_effort": "medium"}),
        (enabled(31_999), {"reasoning_effort": "high"}),
        (enabled(32_000), {"reasoning_effort": "xhigh"}),
        (ADAPTIVE, {}),
        (OFF, {}),
        (None, {}),
        ({"type": "enabled", "budget_tokens": "x"}, {}),
        ("on", {}),
    ],
)
def test_a_budget_becomes_an_effort(thinking: Any, expected: dict[str, Any]) -> None:
    assert wished("effort", thinking=thinking) == expected


@pytest.mark.parametrize(
    ("members", "expected"),
    [
        ({}, {}),
        ({"thinking": OFF, "output_config": effort("high")}, {"enabled": False}),
        ({"thinking": ADAPTIVE}, {"enabled": True}),
        ({"thinking": enabled(5000)}, {"max_tokens": 5000}),
        ({"thinking": enabled(70_000)}, {"max_tokens": 63_999}),
        ({"thinking": enabled(5000), "output_config": effort("low")}, {"effort": "low"}),
    ],
)
def test_openrouter_is_asked_for_reasoning(
    members: dict[str, Any], expected: dict[str, Any]
) -> None:
    assert wished("openrouter", **members) == ({"reasoning": expected} if expected else {})


@pytest.mark.parametrize(
    ("members", "on"),
    [
        ({}, False),
        ({"thinking": OFF}, False),
        ({"thinking": OFF, "output_config": effort("high")}, False),
        ({"thinking": ADAPTIVE}, True),
        ({"output_config": effort("low")}, True),
    ],
)
def test_thinking_is_switched_on_or_off(members: dict[str, Any], on: bool) -> None:
    assert wished("thinking", **members) == {"thinking": {"type": "enabled" if on else "disabled"}}
    assert wished("enable_thinking", **members) == {"enable_thinking": on}


def test_qwen_gets_the_budget_too() -> None:
    assert wished("enable_thinking", thinking=enabled(5000)) == {
        "enable_thinking": True,
        "thinking_budget": 5000,
    }


@pytest.mark.parametrize(
    ("model", "tools", "members", "expected"),
    [
        ("gpt-5.6", True, {"thinking": ADAPTIVE, "output_config": effort("high")}, "none"),
        ("openai/gpt-5.4-mini", True, {"output_config": effort("high")}, "none"),
        ("gpt-6", True, {}, "none"),
        ("gpt-5.6", False, {"output_config": effort("high")}, "high"),
        ("gpt-5.6", False, {}, "none"),
        ("gpt-5", False, {"thinking": OFF}, None),
        ("gpt-5", True, {"output_config": effort("high")}, "high"),
        ("gpt-4.1", False, {"output_config": effort("high")}, None),
        ("gpt-oss-120b", True, {"output_config": effort("high")}, "high"),
        ("o3", True, {"output_config": effort("high")}, "high"),
    ],
)
def test_openais_models_have_their_own_rules(
    model: str, tools: bool, members: dict[str, Any], expected: str | None
) -> None:
    given = {**members, "tools": [tool("A")]} if tools else members
    assert wished("effort", model, **given).get("reasoning_effort") == expected


@pytest.mark.parametrize(
    ("model", "is_one"),
    [
        ("o3", True),
        ("o4-mini", True),
        ("gpt-5", True),
        ("openai/gpt-5.6", True),
        ("GPT-6-pro", True),
        ("gpt-4o", False),
        ("gpt-oss-20b", False),
        ("mimo3", False),
        ("claude-opus-5-5", False),
        ("", False),
    ],
)
def test_openais_thinking_models_are_recognized_by_name(model: str, is_one: bool) -> None:
    assert is_openai_reasoning(model) == is_one


def split(*parts: str) -> tuple[str, str]:
    tags = ThinkTags()
    found = [*(tags.split(part) for part in parts), tags.flush()]
    return "".join(pair[0] for pair in found), "".join(pair[1] for pair in found)


@pytest.mark.parametrize(
    ("text", "thinking", "answer"),
    [
        ("<think>a</think>b", "a", "b"),
        ("\n <think>\na\n</think>\n\nb", "\na\n", "b"),
        ("<think></think>b", "", "b"),
        ("<think>a", "a", ""),
        ("<think>a</thi", "a</thi", ""),
        ("<think>a < b</think>c</think>", "a < b", "c</think>"),
        ("b <think>a</think>", "", "b <think>a</think>"),
        (" \n b", "", " \n b"),
        ("<thinking>a", "", "<thinking>a"),
        ("<thi", "", "<thi"),
        (" ", "", " "),
        ("", "", ""),
    ],
)
def test_think_tags_are_split_off(text: str, thinking: str, answer: str) -> None:
    assert split(text) == (thinking, answer)
    assert split(*text) == (thinking, answer)


@settings(deadline=None)
@given(parts=st.lists(st.sampled_from(["<", "think", ">", "</", "<think>", "</think>", " ", "a"])))
def test_think_tags_are_found_in_any_pieces(parts: list[str]) -> None:
    assert split("".join(parts)) == split(*parts)


@pytest.mark.parametrize(
    ("text", "thinking", "answer", "unended"),
    [
        ("a</think>\n\nb", "a", "b", ""),
        ("<think>a</think>b", "a", "b", ""),
        (" a </think> b </think>", " a ", "b </think>", ""),
        # There was no thinking, so that all of it is the answer.
        ("a < b", "a < b", "", "a < b"),
        ("a</thin", "a</thin", "", "a</thin"),
        # Thinking that began with a tag is thinking.
        ("<think>a", "a", "", ""),
        ("", "", "", ""),
    ],
)
def test_thinking_without_a_start(text: str, thinking: str, answer: str, unended: str) -> None:
    for pieces in ([text], list(text)):
        tags = ThinkTags(lacks_start=True)
        parts = [*(tags.split(each) for each in pieces), tags.flush()]
        found = tuple(map("".join, zip(*parts, strict=True)))
        assert (*found, tags.take_unended()) == (thinking, answer, unended)


def test_text_is_not_held_longer_than_necessary() -> None:
    tags = ThinkTags()
    assert tags.split("<think>a</") == ("a", "")
    assert tags.split("b") == ("</b", "")
    assert not tags.is_past
    assert tags.split("</think>") == ("", "")
    assert tags.split("\n") == ("", "")
    assert tags.split("\nc\n") == ("", "c\n")
    assert tags.is_past


def test_fragments_of_one_detail_become_one() -> None:
    details = ReasoningDetails()
    head = {"type": "reasoning.text", "index": 0, "format": "f"}
    first: dict[str, Any] = {**head, "text": "a"}
    for item in (first, {**head, "text": "b"}, {**head, "text": None, "signature": "s"}):
        details.add([item])
    details.add([{"type": "reasoning.encrypted", "index": 1, "data": "x"}, "rubbish"])
    assert details
    assert details.take_envelope() == {
        "reasoning_details": [
            {**head, "text": "ab", "signature": "s"},
            {"type": "reasoning.encrypted", "index": 1, "data": "x"},
        ]
    }
    assert first["text"] == "a"


def test_reasoning_details_are_taken_once() -> None:
    details = ReasoningDetails()
    details.add([{"type": "a"}])
    assert details.take_envelope() is not None
    assert not details
    assert details.take_envelope() is None


def test_reasoning_details_that_are_not_a_list() -> None:
    details = ReasoningDetails()
    details.add("x")
    details.add(None)
    assert not details
    details.set("x")
    assert details.take_envelope() is None
