"""Cache marks that are refused."""

from typing import Any

import pytest

from ccfallback.rectify.cache_control import CACHE_CONTROL as RULE
from tests.rectify.drafts import (
    CACHED,
    RESULT,
    THOUGHT,
    draft,
    members,
    refused,
    repaired,
    text,
    user,
)

EXTRA = "{}: Extra inputs are not permitted"


def marked(**more: Any) -> Any:
    return draft(
        user({**RESULT, "content": [text("a", **CACHED)], **CACHED}, text("b", **CACHED)),
        system=[text("c", **CACHED)],
        tools=[{"name": "d", "input_schema": {"cache_control": {"ttl": "1h"}}, **CACHED}],
        betas=("extended-cache-ttl-2025-04-11", "prompt-caching-scope-2026-01-05"),
        **more,
    )


@pytest.mark.parametrize(
    ("part", "flag"), [("scope", "prompt-caching-scope"), ("ttl", "extended-cache-ttl")]
)
def test_a_part_goes_from_every_mark(part: str, flag: str) -> None:
    before = marked(**CACHED)
    made = repaired(RULE, before, EXTRA.format(f"system.0.cache_control.ephemeral.{part}"))
    raw = made.draft.body.raw
    assert raw.count(b'"cache_control"') == before.body.raw.count(b'"cache_control"')
    assert raw.count(b'"ephemeral"') == 6
    assert raw.count(part.encode()) == (1 if part == "ttl" else 0)
    assert not any(beta.startswith(flag) for beta in made.draft.betas)
    assert len(made.draft.betas) == 1


@pytest.mark.parametrize(
    ("path", "left"),
    [("tools.0.cache_control", 5), ("messages.0.content.0.text.cache_control", 5),
     ("messages.0.content.0.cache_control", 4), ("*.cache_control", 1)],
)  # fmt: skip
def test_marks_go_from_where_they_are_refused(path: str, left: int) -> None:
    made = repaired(RULE, marked(), EXTRA.format(path))
    assert made.draft.body.raw.count(b'"cache_control"') == left


def test_all_go_where_no_place_is_said() -> None:
    made = repaired(RULE, marked(**CACHED), EXTRA.format("cache_control"))
    assert made.draft.body.raw.count(b'"cache_control"') == 1
    assert made.draft.betas == ()


@pytest.mark.parametrize(
    "message",
    [
        EXTRA.format("messages.0.content.0.thinking.cache_control"),
        "cache_control cannot be set for empty text blocks",
        "a ttl='1h' cache_control block must not come after a ttl='5m' cache_control block",
    ],
)
def test_other_marks_stay(message: str) -> None:
    assert refused(RULE, marked(), message)


def test_a_mark_of_thinking_goes() -> None:
    before = draft({"role": "assistant", "content": [{**THOUGHT, **CACHED}, text("a", **CACHED)]})
    made = repaired(RULE, before, EXTRA.format("messages.0.content.0.thinking.cache_control"))
    assert members(made.draft)["messages"][0]["content"] == [THOUGHT, text("a", **CACHED)]
