"""A provider of another format that says how it wants requests to be translated."""

from collections.abc import Mapping
from typing import Any

import pytest
from msgspec.structs import replace

from ccfallback.config.quirks import Quirks
from ccfallback.policy.draft import RequestDraft
from ccfallback.rectify import NAMES, attempt
from ccfallback.rectify.rule import Refusal
from tests.rectify.drafts import draft
from tests.rectify.refusals import NEVER

OPENAI = Quirks()

ROWS: Mapping[str, tuple[Quirks, dict[str, Any]]] = {
    "Unsupported parameter: 'max_tokens' is not supported with this model. Use"
    " 'max_completion_tokens' instead.": (OPENAI, {"max_tokens_field": "max_completion_tokens"}),
    "max_tokens: Extra inputs are not permitted": (
        OPENAI,
        {"max_tokens_field": "max_completion_tokens"},
    ),
    "Unrecognized request argument supplied: max_completion_tokens": (
        replace(OPENAI, max_tokens_field="auto"),
        {"max_tokens_field": "max_tokens"},
    ),
    "property 'max_completion_tokens' is unsupported": (
        replace(OPENAI, max_tokens_field="max_completion_tokens"),
        {"max_tokens_field": "max_tokens"},
    ),
    "Unknown parameter: 'stream_options.include_usage'.": (OPENAI, {"stream_usage": False}),
    "stream_options is not supported": (OPENAI, {"stream_usage": False}),
    "Function call is missing a thought_signature in functionCall parts. This is required for"
    " tools to work correctly": (OPENAI, {"thought_signature": True}),
    "Function tools with reasoning_effort are not supported for gpt-5.6 in /v1/chat/completions."
    " Please use /v1/responses instead.": (OPENAI, {"extra_body": {"reasoning_effort": "none"}}),
    "Unrecognized request argument supplied: seed": (
        replace(OPENAI, extra_body={"seed": 1, "n": 1}),
        {"extra_body": {"n": 1}},
    ),
    "Unknown parameter: 'reasoning'.": (
        replace(OPENAI, reasoning="openrouter"),
        {"reasoning": "none"},
    ),
    "enable_thinking: Extra inputs are not permitted": (
        replace(OPENAI, reasoning="enable_thinking"),
        {"reasoning": "none"},
    ),
    "This response_format type is unavailable now": (OPENAI, {"response_format": "json_object"}),
    "Invalid parameter: 'response_format' of type 'json_schema' is not supported with m.": (
        OPENAI,
        {"response_format": "json_object"},
    ),
    "response_format.json_schema.strict: Extra inputs are not permitted": (
        OPENAI,
        {"strict_schema": False},
    ),
    "Invalid schema for response_format 'output': 'oneOf' is not permitted": (
        OPENAI,
        {"strict_schema": False},
    ),
    "Invalid schema for response_format 'output': schema must be an object": (
        replace(OPENAI, strict_schema=False),
        {"response_format": "json_object"},
    ),
    "'json_object' is not supported": (
        replace(OPENAI, response_format="json_object"),
        {"response_format": "prompt"},
    ),
    "response_format is not supported by this model": (OPENAI, {"response_format": "prompt"}),
    "Unsupported value: 'messages[0].role' does not support 'developer' with this model.": (
        replace(OPENAI, system_role="developer"),
        {"system_role": "system"},
    ),
    "Unsupported value: 'messages[0].role' does not support 'system' with this model.": (
        OPENAI,
        {"system_role": "user"},
    ),
    "System role not supported": (OPENAI, {"system_role": "user"}),
    "System message must be at the beginning.": (
        replace(OPENAI, system_inline=True),
        {"system_inline": False},
    ),
    "Invalid value for 'content': expected a string, got null.": (OPENAI, {"null_content": False}),
    "messages[2].content: invalid type: null, expected a string": (OPENAI, {"null_content": False}),
    "The `reasoning_content` in the thinking mode must be passed back to the API.": (
        OPENAI,
        {"reasoning_content": "all"},
    ),
    "Missing `reasoning_content` field in the assistant message at message index 2.": (
        replace(OPENAI, reasoning_content="calls"),
        {"reasoning_content": "all"},
    ),
    "messages.0.role: Input should be 'user' or 'assistant'": (OPENAI, {"system_role": "user"}),
    "Conversation roles must alternate user/assistant/user/assistant/...": (
        OPENAI,
        {"user_after_tool": False},
    ),
    "Invalid 'stop': array too long. Expected an array with maximum length 2, but got an array"
    " with length 4 instead.": (OPENAI, {"stop_limit": 2}),
}


DIALECTS = [name for name in NAMES if name.startswith("dialect_")]


def applying(before: RequestDraft, words: str) -> list[str]:
    """The repairs that apply."""
    return [name for name in DIALECTS if attempt(name, before, Refusal(400, words)) is not None]


@pytest.mark.parametrize("words", ROWS)
def test_a_refusal_sets_a_quirk_and_so_does_its_lesson(words: str) -> None:
    quirks, switches = ROWS[words]
    before = replace(draft(), quirks=quirks)
    (dialect,) = applying(before, words)
    made = attempt(dialect, before, Refusal(400, words))
    assert made is not None
    assert made.draft.body is before.body
    assert made.draft.quirks == replace(quirks, **switches)
    assert all(name in made.changed for name in switches)
    # A schema that is refused without `strict` as well is asked for in the next form.
    assert bool(applying(made.draft, words)) == (switches == {"strict_schema": False})
    assert made.lesson
    assert not applying(made.draft, made.lesson)
    taught = attempt(dialect, before, Refusal(400, made.lesson))
    assert taught is not None
    assert taught.draft == made.draft
    assert taught.lesson == made.lesson


@pytest.mark.parametrize("words", ROWS)
def test_a_provider_of_the_clients_own_format_has_no_quirks(words: str) -> None:
    assert not applying(draft(), words)


@pytest.mark.parametrize(
    "words",
    [
        *NEVER,
        "max_tokens is too large: 128000. This model supports at most 16384 completion tokens",
        "Unexpected role 'system' after role 'tool'",
        "Unsupported parameter: 'temperature' is not supported with this model.",
        "Unsupported parameter: 'reasoning_effort' is not supported with this model.",
    ],
)
def test_what_is_about_something_else_sets_nothing(words: str) -> None:
    for quirks in (OPENAI, replace(OPENAI, system_inline=True, reasoning="effort")):
        assert not applying(replace(draft(), quirks=quirks), words)


def test_a_users_own_lower_choice_stays() -> None:
    asked_in_words = replace(draft(), quirks=replace(OPENAI, response_format="prompt"))
    assert not applying(asked_in_words, "This response_format type is unavailable now")
    no_stops = replace(draft(), quirks=replace(OPENAI, stop_limit=0))
    assert not applying(no_stops, "stop: at most 4")
