"""The repairs of structure as a whole: each knows its own refusals, and nothing is too strange."""

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ccfallback.rectify.rule import Rectifier, Refusal
from tests.rectify.refused import NEVER, OTHERS, REFUSED
from tests.rectify.structure import (
    CAPTURED,
    MARK,
    PNG,
    STRANGE,
    STRUCTURE,
    assistant,
    call,
    captured,
    conversations,
    document,
    draft_of,
    image,
    repaired,
    result,
    server_call,
    server_result,
    system,
    text,
    tool,
    user,
)

BY_NAME = {rectifier.name: rectifier for rectifier in STRUCTURE}

FAULTY: Any = {
    "messages": [
        assistant(text("first"), document()),
        assistant(
            call("a.b:0" * 12), call("same"), server_call("web-1"), server_call("srvtoolu_1")
        ),
        user(
            text("", **MARK),
            image("A" * 8, **MARK),
            document(**MARK),
            text("cited", citations=[{"type": "char_location"}], **MARK),
            result("same", [image(PNG, "image/jpeg"), text("t")]),
            result("nobody"),
        ),
        user(text("again", cache_control={"type": "ephemeral", "ttl": "1h"})),
        system("remember"),
        assistant(call("same"), server_result("srvtoolu_2")),
        user(result("same"), text("on", **MARK), image(PNG)),
        assistant(text("well ")),
    ],
    "tools": [
        {**tool("Bash", oneOf=[{"required": ["a"]}]), **MARK},
        tool("Bash", properties={"a": {"type": "array", "uniqueItems": 3}}, **{"$schema": "old"}),
    ],
}
"""Everything at once is wrong with it."""


def sides(texts: tuple[str, ...], name: str) -> list[Any]:
    return [pytest.param(name, words, id=f"{name}: {words[:60]}") for words in texts]


WORDINGS = [case for name, texts in REFUSED.items() for case in sides(texts, name)]


def faulty(words: str) -> Any:
    lowered = words.lower()
    if "must define" in lowered or "must be defined" in lowered or "tools=" in lowered:
        return {**FAULTY, "tools": []}
    return FAULTY


def test_there_are_words_for_every_repair() -> None:
    assert set(REFUSED) == set(BY_NAME)


@pytest.mark.parametrize(("name", "words"), WORDINGS)
def test_a_refusal_is_known_to_one_repair_which_is_made_once(name: str, words: str) -> None:
    draft = draft_of(faulty(words))
    known = [each.name for each in STRUCTURE if each.repair(draft, Refusal(400, words))]
    assert known == [name]
    assert repaired(BY_NAME[name], faulty(words), words)


@pytest.mark.parametrize("rectifier", STRUCTURE, ids=lambda each: each.name)
def test_what_is_not_about_structure_is_left_alone(rectifier: Rectifier) -> None:
    for draft in (draft_of(FAULTY), draft_of({**FAULTY, "tools": []})):
        for words in (*NEVER, *OTHERS):
            assert rectifier.repair(draft, Refusal(400, words)) is None, words


ALL_WORDS = st.sampled_from([words for texts in REFUSED.values() for words in texts])


@settings(max_examples=60, deadline=None)
@given(STRANGE, ALL_WORDS)
def test_no_body_is_too_strange(body: Any, words: str) -> None:
    for rectifier in STRUCTURE:
        repaired(rectifier, body, words)


@settings(max_examples=60, deadline=None)
@given(st.text(max_size=30), ALL_WORDS, st.integers(0, 80), st.integers(0, 80))
def test_no_message_is_too_strange(noise: str, words: str, start: int, end: int) -> None:
    draft = draft_of(FAULTY)
    for rectifier in STRUCTURE:
        rectifier.repair(draft, Refusal(400, words[start:] + noise + words[:end]))


# Of a request without faults there is nothing to repair, save what the provider itself refuses.
LEARNS = {
    *("media", "alternation", "after_results", "prefill", "tool_schemas", "tool_ids"),
    *("cache_marks", "citations", "block_types"),
}


@settings(max_examples=40, deadline=None)
@given(conversations(), ALL_WORDS)
def test_a_request_without_faults_stays_as_it_is(body: Any, words: str) -> None:
    for rectifier in STRUCTURE:
        if rectifier.name not in LEARNS:
            assert repaired(rectifier, body, words) is None


@pytest.mark.parametrize("case", CAPTURED, ids=lambda case: case.stem)
def test_the_clients_own_requests_need_no_repair(case: Path) -> None:
    body = captured(case)
    for rectifier in STRUCTURE:
        for words in REFUSED[rectifier.name]:
            made = repaired(rectifier, body, words)
            assert made is None or rectifier.name in LEARNS, words


def test_deep_bodies_are_no_trouble() -> None:
    schema: Any = {"type": "object"}
    block: Any = text("deep")
    for _ in range(300):
        schema = {"type": "object", "properties": {"a": schema}, "oneOf": [schema["type"]]}
        block = result("a", [block])
    body = {"messages": [user(block)], "tools": [tool("Deep", **schema)]}
    for rectifier in STRUCTURE:
        for texts in REFUSED.values():
            for words in texts:
                rectifier.repair(draft_of(body), Refusal(400, words))
